"""L6 of closures: every term of every equation broken, to be caught by quadrature of the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp

from derive.calculus.index.expressions import Expression, collect
from derive.methods.gaussian_closure import checks, clouds, instances, singular
from derive.methods.gaussian_closure.instances import ClosureInstance
from derive.methods.gaussian_closure.result import CLOSED, GaussianClosure, coupled, cov_rate
from derive.notation.closures.numeric import noise_rate
from derive.verify.common.rung import Rung
from derive.verify.gaussian_closure.second_route import SCALE, by_gauss


def mutants(result: GaussianClosure) -> Rung:
    """L6: every term of every closed equation broken; killed by quadrature of the text."""
    killed, alive, total, equivalent = 0, [], 0, 0
    others = [instances.instance(result.model, seed, size=3) for seed in (62, 63)]
    targets = {"velocity": result.velocity}
    if result.route == CLOSED:
        targets |= {"mean_rate": result.mean_rate, "cov_rate": cov_rate(result)}
    one = instances.instance(result.model, 61, scale=SCALE)
    kinked = singular.has_kinks(result.model)
    wanted = _by_text(result, one, kinked)
    for name, expression in targets.items():
        right = instances.at(one, expression, result.book)
        truth = np.reshape(wanted[name], right.shape)
        own = checks.residual(right, truth)  # of the reference, where the text has kinks
        limit = max(1e-7, 3 * own) if kinked else 1e-7
        if own > (3e-3 if kinked else 1e-7):
            alive.append(f"{name}: the unbroken equation is refused")
        for label, mutant in broken(expression):
            if _equal(result, mutant, expression, others):
                equivalent += 1  # a rewrite: P S = S P^T, say
                continue
            total += 1
            if checks.residual(instances.at(one, mutant, result.book), truth) > limit:
                killed += 1
            else:
                alive.append(f"{name}: {label}")
    return Rung(
        "L6 mutants",
        "every term dropped, sign-flipped, doubled, scaled by 1.01, matrices transposed or "
        "swapped: each is caught by the second route",
        not alive,
        {
            "mutants": total,
            "killed": killed,
            "equivalent rewrites": equivalent,
            "alive": alive[:5],
        },
        unreached="" if total or alive else "no mutant differs from the equations",
    )


def _by_text(result: GaussianClosure, one: ClosureInstance, kinked: bool) -> dict[str, np.ndarray]:
    """Velocity and rates by quadrature of the text; where it is coupled, at one of the nodes."""
    model = result.model
    if not kinked:
        text = by_gauss(model, one)
        mean, cov = text.mean, text.cov
    elif result.route == CLOSED:  # kinks in the queries alone
        mean, cov = clouds.text_rates(model, one, 160, 120, dense=True, smooth_keys=12)
    else:
        mean, cov = np.zeros(()), np.zeros(())
    if kinked:
        cov = cov + noise_rate(model, arrays=one.arrays, params=one.params)
    if coupled(result):
        cloud = clouds.hermite_cloud(one.arrays["m"], one.arrays["S"], 24)
        at_nodes = clouds.text_velocity(model, one, cloud, cloud)
        one.arrays["x"] = cloud.at[100]
        velocity = at_nodes[100]
    else:
        velocity = clouds.text_velocity(
            model,
            one,
            clouds.query_cloud(model, one, one.arrays["x"]),
            clouds.key_cloud(model, one.arrays, 900 if kinked else 28, kinked),
        )
    return {"velocity": velocity, "mean_rate": mean, "cov_rate": cov}


def _equal(
    result: GaussianClosure, mutant: Expression, right: Expression, at: list[ClosureInstance]
) -> bool:
    """Whether a mutant has the right values at other instances."""
    pairs = (
        (instances.at(one, mutant, result.book), instances.at(one, right, result.book))
        for one in at
    )
    return all(checks.residual(found, wanted) < 1e-12 for found, wanted in pairs)


def broken(expression: Expression) -> Iterator[tuple[str, Expression]]:
    """The expression with one term broken in its typical ways."""
    for position, (coefficient, factors) in enumerate(expression.terms):
        rest = [t for p, t in enumerate(expression.terms) if p != position]

        def with_(c: sp.Expr, f: Any, rest: list[Any] = rest) -> Expression:
            return collect(expression.free, [*rest, (c, f)])

        yield f"term {position} dropped", collect(expression.free, rest)
        yield f"term {position} negative", with_(-coefficient, factors)
        yield f"term {position} doubled", with_(2 * coefficient, factors)
        yield f"term {position} scaled", with_(coefficient * sp.Rational(101, 100), factors)
        for p, f in enumerate(factors):
            if (
                len(f.indices) >= 2
                and f.indices[-1].dim == f.indices[-2].dim
                and not f.tensor.symmetric
            ):
                turned = replace(f, indices=(*f.indices[:-2], f.indices[-1], f.indices[-2]))
                yield (
                    f"term {position}: {f.tensor.name} transposed",
                    with_(coefficient, (*factors[:p], turned, *factors[p + 1 :])),
                )
            for q in range(p):
                g = factors[q]
                if (
                    g.tensor != f.tensor
                    and g.tensor.dims == f.tensor.dims
                    and "delta"
                    not in (
                        f.tensor.kind,
                        g.tensor.kind,
                    )
                ):
                    swapped = list(factors)
                    swapped[p], swapped[q] = (
                        replace(f, tensor=g.tensor),
                        replace(g, tensor=f.tensor),
                    )
                    yield (
                        f"term {position}: {f.tensor.name} and {g.tensor.name} swapped",
                        with_(coefficient, tuple(swapped)),
                    )
