"""The ladder of a Gaussian closure: each rung is a different way of being wrong.

Input: a definition, its generated module, the level.  Output: rungs.  The second route is the
definition's text run on Gauss-Hermite points; it shares no code with the calculus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import sympy as sp

from derive.calculus.index.expressions import Expression, collect
from derive.draws import generator
from derive.emit.gaussian_closure.module import model_signature
from derive.methods.common import record
from derive.methods.gaussian_closure import checks, clouds, instances, singular
from derive.methods.gaussian_closure.derivation import derive
from derive.methods.gaussian_closure.instances import ClosureInstance
from derive.methods.gaussian_closure.result import (
    CLOSED,
    CUBATURE,
    GaussianClosure,
    coupled,
    cov_rate,
)
from derive.notation.closures.model import ClosureModel
from derive.notation.closures.numeric import noise_rate
from derive.verify.common.facts import facts
from derive.verify.common.rung import Rung, digit
from derive.verify.gaussian_closure.gate import gate, params_of
from derive.verify.gaussian_closure.second_route import SCALE, second_route
from derive.verify.gaussian_closure.solver import solver, verdict


def climb(model: ClosureModel, file: Path, level: str) -> Iterator[tuple[GaussianClosure, Rung]]:
    """The rungs one by one, for the generated module in `file`."""
    from derive.verify.common.compare import load_module

    result = derive(model)
    module = load_module(file)
    todo: list[Callable[[], Rung]] = [
        lambda: definition(result),
        lambda: steps(result),
        lambda: facts(result),
        lambda: second_route(result, module),
        lambda: kernel(result, module),
        lambda: invariants(result, module),
        lambda: verdict(result, module),
        lambda: solver(result, module),
    ]
    if hasattr(module, "particle_velocity"):
        todo.append(lambda: particles(result, module, 24 if level == "quick" else 160))
    todo.append(lambda: mutants(result))
    for rung in todo:
        yield result, rung()


def definition(result: GaussianClosure) -> Rung:
    """L0: the definition is well-formed."""
    return Rung(
        "L0 definition",
        "shapes agree, every symbol is declared, numbers are exact",
        True,
        {"matrices": {m.data: [str(s) for s in m.shape] for m in result.trace.used}},
    )


def steps(result: GaussianClosure) -> Rung:
    """L1: every step of the derivation at random instances."""
    found = [(s.name, s.check) for s in result.steps if s.check is not None]
    return Rung(
        "L1 steps",
        "both sides of every step agree at random instances",
        all(c.passed for _, c in found),
        {n: {"residual": record.rounded(c.residual), "tolerance": c.tolerance} for n, c in found},
        "any error of a step beyond its tolerance",
    )


def evaluated(module: ModuleType, one: ClosureInstance, names: tuple[str, ...]) -> list[np.ndarray]:
    p = params_of(module, one)
    return [np.asarray(getattr(module, n)(one.arrays["m"], one.arrays["S"], p)) for n in names]


def kernel(result: GaussianClosure, module: ModuleType) -> Rung:
    """L3: generated functions against the evaluator: eager, jit, vmap, grad, float32."""
    figures: dict[str, float] = {}
    wanted: dict[str, Expression] = {"velocity": result.velocity}
    if result.route == CLOSED:
        wanted |= {
            "mean_rate": result.mean_rate,
            "jacobian": result.jacobian,
            "cov_rate": cov_rate(result),
        }
    if result.noise is not None:
        wanted["noise"] = result.noise
    with (
        jax.enable_x64(True),
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
    ):
        for size in (1, 3):
            one = instances.instance(result.model, 30 + size, size=size)
            p = params_of(module, one)
            law = (one.arrays["m"], one.arrays["S"])
            for name, expression in wanted.items():
                first = (one.arrays["x"],) if name == "velocity" else ()
                value = instances.at(one, expression, result.book)
                f = getattr(module, name)
                kinds = {"eager": f(*first, *law, p), "jit": jax.jit(f)(*first, *law, p)}
                batched = [np.stack([a, 1.5 * a]) for a in (*first, *law)]
                kinds["vmap"] = jax.vmap(lambda *a, f=f, p=p: f(*a, p))(*batched)[0]
                # what does not depend on the law has no batch axes, and broadcasts
                kinds["batch axes"] = np.broadcast_to(f(*batched, p), (2, *value.shape))[0]
                for kind, got in kinds.items():
                    key = f"{name}, {kind}"
                    figures[key] = max(
                        figures.get(key, 0.0), checks.residual(np.asarray(got), value)
                    )
            figures["grad"] = max(figures.get("grad", 0.0), _gradient(module, one, p))
    with jax.enable_x64(False):
        one = instances.instance(result.model, 33, size=3)
        single = [np.asarray(one.arrays[n], np.float32) for n in ("x", "m", "S")]
        p = params_of(module, one)
        p = type(p)(*(np.asarray(a, np.float32) for a in p))
        got = module.velocity(*single, p)
        error = checks.residual(np.asarray(got), instances.at(one, result.velocity, result.book))
        kept = got.dtype == np.float32
    exact = {k: v for k, v in figures.items() if k != "grad"}
    passed = max(exact.values()) < 1e-10 and figures["grad"] < 1e-6 and error < 1e-4 and kept
    return Rung(
        "L3 kernel",
        "generated functions equal the equations: eager, jit, vmap, batch axes; grad; float32",
        bool(passed),
        {k: record.rounded(v) for k, v in (*figures.items(), ("float32", error))},
        "relative errors above 1e-10",
    )


def _gradient(module: ModuleType, one: ClosureInstance, p: Any) -> float:
    """Reverse-mode derivative of the velocity by x against central differences."""
    law = (one.arrays["m"], one.arrays["S"])
    x = one.arrays["x"]
    weight = np.linspace(0.5, 1.5, x.size).reshape(x.shape)

    def f(q: Any) -> Any:
        return (module.velocity(q, *law, p) * weight).sum()

    got = np.asarray(jax.grad(f)(x)).ravel()
    h = 1e-5
    steps_ = [h * e.reshape(x.shape) for e in np.eye(x.size)]
    wanted = np.array([(float(f(x + s)) - float(f(x - s))) / (2 * h) for s in steps_])
    return checks.residual(got, wanted)


def rotated(result: GaussianClosure, one: ClosureInstance) -> tuple[ClosureInstance, np.ndarray]:
    """Tokens and every matrix axis over the token dimension turned by one orthogonal matrix."""
    model = result.model
    d = one.sizes[model.state_dim.name]
    turn = np.linalg.qr(generator(9).standard_normal((d, d)))[0]
    arrays = dict(one.arrays)
    for m in model.matrices:
        a = arrays[m.data]
        for axis, dim in enumerate(m.shape):
            if dim == model.state_dim:
                a = np.moveaxis(np.moveaxis(a, axis, -1) @ turn.T, -1, axis)
        arrays[m.data] = a
    for n in ("x", "m"):
        arrays[n] = arrays[n] @ turn.T
    arrays["S"] = turn @ arrays["S"] @ turn.T
    if model.cross and model.key_dim == model.state_dim:
        arrays["key_mean"] = arrays["key_mean"] @ turn.T
        arrays["key_cov"] = turn @ arrays["key_cov"] @ turn.T
    return replace(one, arrays=arrays), turn


def invariants(result: GaussianClosure, module: ModuleType) -> Rung:
    """L4: symmetry, orthogonal equivariance, PSD and rank along the flow."""
    figures: dict[str, float] = {}
    one = instances.instance(result.model, 41, size=3, scale=SCALE)
    other, turn = rotated(result, one)
    with jax.enable_x64(True):
        mean, cov = evaluated(module, one, ("mean_rate", "cov_rate"))
        turned_mean, turned_cov = evaluated(module, other, ("mean_rate", "cov_rate"))
        figures["cov_rate symmetric"] = checks.residual(cov.swapaxes(-1, -2), cov)
        if _vectorial(result) and result.route != CUBATURE:
            figures["equivariant mean"] = checks.residual(turned_mean, mean @ turn.T)
            figures["equivariant covariance"] = checks.residual(turned_cov, turn @ cov @ turn.T)
        thin = instances.instance(result.model, 42, size=3, rank=2, scale=SCALE)
        out = module.solve(
            thin.arrays["m"], thin.arrays["S"], params_of(module, thin), t1=0.3, rtol=1e-7
        )
        last = np.asarray(out.cov)[..., -1, :, :] if not result.model.positional else None
    if last is None:
        last = np.moveaxis(np.asarray(out.cov), -4, 0)[-1]
    eigenvalues = np.linalg.eigvalsh(last)
    largest = eigenvalues.max()
    figures["most negative eigenvalue"] = float(max(0.0, -eigenvalues.min() / largest))
    if result.noise is None:
        figures["third eigenvalue of a law of rank 2"] = float(
            np.abs(eigenvalues[..., 0]).max() / largest
        )
    return Rung(
        "L4 invariants",
        "symmetric, equivariant under rotations, positive semi-definite, rank conserved",
        max(figures.values()) < 1e-9,
        {k: record.rounded(v) for k, v in figures.items()},
    )


def _vectorial(result: GaussianClosure) -> bool:
    """Does rotating tokens and matrices together leave the definition alone?

    An elementwise function of a vector over the token dimension itself does not.
    """
    from derive.notation.common.arrays import walk

    d = result.model.state_dim
    return not any(n.op == "function" and d in n.shape for n in walk(result.trace.velocity))


def particles(result: GaussianClosure, module: ModuleType, replicas: int) -> Rung:
    """L5: many particle systems against the closure after a short time, bias removed in 1/N."""
    model = result.model
    one = instances.instance(model, 51, scale=SCALE, block=False)
    p = params_of(module, one)
    d = one.sizes[model.state_dim.name]
    rng = generator(51)
    counts, t1 = (128, 256), 0.5
    if model.positional:
        return _positional_particles(result, module, one, replicas)
    root = np.linalg.cholesky(one.arrays["S"])
    got = []
    z = rng.standard_normal((replicas, counts[-1], d))
    x = one.arrays["m"] + z @ root.T
    for count in counts:
        systems = x.reshape(replicas * (counts[-1] // count), count, d)
        out = np.asarray(module.particles(systems, p, t1=t1, steps=10).x)[:, -1]
        mean = out.mean(axis=1).reshape(replicas, -1, d).mean(axis=1)
        # second moments about the initial mean are linear in the law: averaged without bias
        second = np.einsum("rni,rnj->rij", out - one.arrays["m"], out - one.arrays["m"]) / count
        second = second.reshape(replicas, -1, d, d).mean(axis=1)
        got.append(np.concatenate([mean, second.reshape(replicas, -1)], axis=1))
    extrapolated = 2 * got[1] - got[0]
    # the tokens' own moments move the result one to one: control variates
    start = np.concatenate(
        [
            (x - one.arrays["m"]).mean(axis=1),
            np.einsum("rni,rnj->rij", x - one.arrays["m"], x - one.arrays["m"]).reshape(
                replicas, -1
            )
            / counts[-1],
        ],
        axis=1,
    )
    start = start - np.concatenate([np.zeros(d), one.arrays["S"].ravel()])
    keep = np.linalg.lstsq(
        np.concatenate([start, np.ones((replicas, 1))], axis=1), extrapolated, rcond=None
    )[0]
    residuals = extrapolated - start @ keep[:-1]
    solved = module.solve(one.arrays["m"], one.arrays["S"], p, t1=t1)
    mean, cov = np.asarray(solved.mean)[-1], np.asarray(solved.cov)[-1]
    shift = mean - one.arrays["m"]
    wanted = np.concatenate([mean, (cov + np.outer(shift, shift)).ravel()])
    deviation = residuals.mean(axis=0) - wanted
    error = residuals.std(axis=0, ddof=1) / np.sqrt(replicas)
    scores = np.abs(deviation) / np.maximum(error, 1e-12)
    distinct = d + d * (d + 1) // 2
    limit = float(sp.N(sp.sqrt(2) * sp.erfinv(1 - sp.Rational(1, 1000) / distinct)))
    slack = 0.0 if result.exact else 0.02 * float(np.max(np.abs(wanted)))
    # the error is estimated from few replicas, and a bias of order 1/N^2 is left
    allowed = limit * error * 1.3 + slack + 1e-9
    ok = bool(np.all(np.abs(deviation) <= allowed))
    return Rung(
        "L5 particles",
        f"{replicas} systems of {counts[0]} and {counts[1]} tokens to t = {t1}, extrapolated in "
        + "1/N, "
        + ("against the closure" if result.exact else "near the projected closure (2 % allowed)"),
        ok,
        {
            "largest score": round(float(scores.max()), 1),
            "largest deviation": digit(np.abs(deviation).max()),
            "family-wise error": 1e-3,
        },
        f"errors of the moments above {digit(allowed.max())}",
    )


def _positional_particles(
    result: GaussianClosure, module: ModuleType, one: ClosureInstance, replicas: int
) -> Rung:
    """Tokens in order of position, one law at each of B equal blocks."""
    model = result.model
    blocks, count = one.sizes["B"], 240
    full = instances.instance(model, 51, scale=SCALE)
    arrays = {**full.arrays, "theta": np.full(blocks, 1 / blocks)}
    p = params_of(module, replace(full, arrays=arrays))
    rng = generator(52)
    m, S = arrays["m"], arrays["S"]
    roots = np.linalg.cholesky(S)
    each = count // blocks
    keys = [
        m[b] + rng.standard_normal((replicas, each, m.shape[-1])) @ roots[b].T
        for b in range(blocks)
    ]
    x = np.concatenate(keys, axis=1)
    with jax.enable_x64(True):
        # each query sits at the end of its block, so that it sees the whole block
        law = np.asarray(module.velocity(x[:, each - 1 :: each], m, S, p))
        run = jax.jit(jax.vmap(lambda q: module.particle_velocity(q, q, p)))
        got = np.asarray(run(x))[:, each - 1 :: each]
    deviation = (got - law).mean(axis=0)
    error = (got - law).std(axis=0, ddof=1) / np.sqrt(replicas)
    limit = float(sp.N(sp.sqrt(2) * sp.erfinv(1 - sp.Rational(1, 1000) / deviation.size)))
    # a query is its own key and the quotient is biased, both of order 1 / tokens seen
    bias = 8.0 / each * np.abs(law).mean()
    allowed = 1.3 * limit * error + bias
    return Rung(
        "L5 particles",
        f"velocities of {replicas} systems of {count} tokens at the ends of {blocks} blocks "
        "against the derived velocity",
        bool(np.all(np.abs(deviation) <= allowed)),
        {"largest deviation": digit(np.abs(deviation).max()), "family-wise error": 1e-3},
        f"errors of the velocity above {digit(allowed.max())}",
    )


def mutants(result: GaussianClosure) -> Rung:
    """L6: every term of every closed equation broken; killed by quadrature of the text."""
    killed, alive, total, equivalent = 0, [], 0, 0
    others = [instances.instance(result.model, seed, size=3) for seed in (62, 63)]
    targets = {"velocity": result.velocity}
    if result.route == CLOSED:
        targets |= {"mean_rate": result.mean_rate, "cov_rate": cov_rate(result)}
    one = instances.instance(result.model, 61, scale=SCALE)
    kinked = singular.has_kinks(result.model)
    if not kinked:
        mean, cov = clouds.text_rates(result.model, one, 20)
    elif result.route == CLOSED:  # kinks in the queries alone
        mean, cov = clouds.text_rates(result.model, one, 160, 120, dense=True, smooth_keys=12)
    else:
        mean, cov = np.zeros(()), np.zeros(())
    cov = cov + noise_rate(result.model, arrays=one.arrays, params=one.params)
    model = result.model
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
    wanted = {"velocity": velocity, "mean_rate": mean, "cov_rate": cov}
    for name, expression in targets.items():
        right = instances.at(one, expression, result.book)
        truth = np.reshape(wanted[name], right.shape)
        own = checks.residual(right, truth)  # of the reference, where the text has kinks
        limit = max(1e-7, 3 * own) if kinked else 1e-7
        if own > (3e-3 if kinked else 1e-7):
            alive.append(f"{name}: the unbroken equation is refused")
        for label, mutant in broken(expression):
            if all(
                checks.residual(
                    instances.at(other, mutant, result.book),
                    instances.at(other, expression, result.book),
                )
                < 1e-12
                for other in others
            ):
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


def broken(expression: Expression) -> Iterator[tuple[str, Expression]]:
    """The expression with one term broken in its typical ways."""
    for position, (coefficient, factors) in enumerate(expression.terms):
        rest = [t for p, t in enumerate(expression.terms) if p != position]

        def with_(c: sp.Expr, f: Any, rest: list = rest) -> Expression:
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


__all__ = ["climb", "gate", "model_signature", "second_route"]
