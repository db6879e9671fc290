"""The rungs of the ladder: each is a different way of being wrong.

Input: a derivation, the generated module, and the level.  Output: one `Rung` each, with figures
and its power, the smallest relative error of a coefficient that it would catch.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression, collect
from derive.draws import generator, seed
from derive.errors import Refusal
from derive.methods.covariance_sde.block import Block
from derive.methods.covariance_sde.derivation import CovarianceSDE
from derive.methods.covariance_sde.finite_width import of_block
from derive.notation.common.arrays import walk
from derive.notation.common.scalars import GaussianMean, Share
from derive.verify.common.compare import ROUNDING, strict_jax, worst
from derive.verify.common.rung import Rung, digit
from derive.verify.covariance_sde.continuation import kinked
from derive.verify.covariance_sde.instance import CovarianceInstance, instance
from derive.verify.covariance_sde.kernel import (
    BOUND_32,
    BOUND_GRAD,
    by_mode,
    gate,
    tolerance,
)
from derive.verify.covariance_sde.second_route import NotCovered, RouteError, second_route
from derive.verify.covariance_sde.text_layer import keeps_equal, permutes
from derive.verify.covariance_sde.unit_route import Limits, has_units, unit_route
from derive.verify.covariance_sde.weight_powers import weight_degrees

_SEED = 41


def definition(result: CovarianceSDE) -> Rung:
    """L0: the definition is well-formed."""
    nodes = walk(result.trace.output)
    numbers = [sp.sympify(a.data) for a in nodes if a.op == "full"]
    sizes = [sp.sympify(d) for a in nodes for d in a.shape]
    declared = {*result.model.dims, *result.model.params}
    found = {s for e in (*numbers, *sizes) for s in e.free_symbols}
    undeclared = sorted(str(s) for s in found - declared if not isinstance(s, Share))
    unused = [n for n, a in result.trace.weights if a not in nodes]
    inexact = [str(e) for e in numbers if e.has(sp.Float)]
    return Rung(
        "L0 definition",
        "every symbol is declared, every weight used, numbers are exact",
        not (undeclared or unused or inexact),
        {
            "nodes": len(nodes),
            "weights": {n: [str(d) for d in a.shape] for n, a in result.trace.weights},
            "parameters": {p.name: p.range.text for p in result.model.params},
            **{
                k: v
                for k, v in (("undeclared", undeclared), ("unused", unused), ("inexact", inexact))
                if v
            },
        },
    )


def steps(result: CovarianceSDE) -> Rung:
    """L1: every step of the derivation, both sides at random instances."""
    checks = [(s.name, s.check) for s in result.steps if s.check is not None]
    return Rung(
        "L1 steps",
        "both sides of every step agree at random instances",
        all(c.passed for _, c in checks),
        {name: {"residual": digit(c.residual), "tolerance": c.tolerance} for name, c in checks},
        "any error of a step beyond its tolerance",
    )


def independent(result: CovarianceSDE) -> Rung:
    """L2: the definition on arrays, averaged exactly, with no calculus."""
    figures: dict[str, Any] = {}
    caught: list[float] = []
    passed = True
    for one in references(result):
        if one.problem:
            figures[f"{one.label}not reached"] = one.problem
            passed &= not one.contradicts
        for name, expression, target, floor in one.pairs():
            off = off_by(evaluate(expression, {"V": one.at.V}, one.at.numbers), target, floor)
            figures[f"{one.label}{name}"] = digit(off)
            passed &= off < one.bound
            if name in ("drift", "diffusion"):
                caught += _caught(expression, one.at, target, floor, one.bound + off)
    return Rung(
        "L2 second route",
        "the definition run on arrays, averaged by exact cubature or Gauss rules between the "
        "kinks, the width taken to infinity by Cauchy's integral or a polynomial in 1/n",
        passed,
        figures,
        f"coefficient errors above {_up(max(caught))}" if caught else "",
        "" if caught or not passed else "; ".join(r.problem for r in references(result)),
    )


@dataclass(frozen=True)
class Reference:
    """A block's drift and diffusion by a route that shares no code with the calculus.

    `corrections`: the coefficients of n^(-1/2), beside the derived ones.  `problem`: why a route
    does not reach the block; `contradicts`: it ran, and found no limit.
    """

    label: str
    block: Block
    at: CovarianceInstance
    drift: np.ndarray | None = None
    diffusion: np.ndarray | None = None
    corrections: tuple[tuple[str, Expression, np.ndarray], ...] = ()
    bound: float = 1e-9
    problem: str = ""
    contradicts: bool = False

    def pairs(self) -> list[tuple[str, Expression, np.ndarray, float]]:
        """Names, derived expressions, targets, and the size below which a target counts as zero."""
        whole = float(np.max(np.abs(self.at.V)))
        found: list[tuple[str, Expression, np.ndarray, float]] = []
        for name, power in (("drift", 1), ("diffusion", 2)):
            target = getattr(self, name)
            if target is not None:
                found.append((name, getattr(self.block, name), target, 1e-3 * whole**power))
        for name, expression, target in self.corrections:
            found.append((name, expression, target, whole ** (2 if "diffusion" in name else 1)))
        return found


def off_by(value: np.ndarray, target: np.ndarray, floor: float) -> float:
    return float(np.max(np.abs(value - target))) / max(float(np.max(np.abs(target))), floor)


def _caught(
    expression: Expression, at: CovarianceInstance, target: np.ndarray, floor: float, bound: float
) -> list[float]:
    """For every term, the smallest relative error of its coefficient that exceeds the bound."""
    scale = max(float(np.max(np.abs(target))), floor)
    values = [
        evaluate(collect(expression.free, [term]), {"V": at.V}, at.numbers)
        for term in expression.terms
    ]
    shares = [float(np.max(np.abs(v))) / scale for v in values]
    return [bound / s for s in shares if s > 1e-12]


def _up(value: float) -> float:
    """One digit, not smaller than the value."""
    short = digit(value)
    return short if short >= value else digit(short + 10.0 ** np.floor(np.log10(value)))


_KNOWN: list[tuple[CovarianceSDE, list[Reference]]] = []


def references(result: CovarianceSDE) -> list[Reference]:
    """One reference for every block; those of the last result are kept."""
    if not _KNOWN or _KNOWN[0][0] is not result:
        several = len(result.blocks) > 1
        found = [
            reference_of(result, block, f"block {k}: " if several else "")
            for k, block in enumerate(result.blocks, 1)
        ]
        _KNOWN[:] = [(result, found)]
    return _KNOWN[0][1]


def reference_of(
    result: CovarianceSDE, block: Block, label: str, free_size: int = 1, seed: int = 2
) -> Reference:
    """Cubature over the weights where they have power series, else quadrature over single units.

    `free_size`: of the dimensions that the limit does not depend on.
    """
    at = instance(result, 2, seed, heads=1.0)
    whole = len(result.blocks) == 1 and block.trace.output is result.trace.output
    free: dict[str, Any] = {d.name: int(at.params.get(d.name, 1)) for d in result.model.dims}
    free |= {d.name: (lambda n: n) for d in result.model.dims if d.scaling == "proportional"}
    free |= {d.name: free_size for d in result.law.scaling.free}
    # a limit that holds the width has a number for it, which is not that of the text
    params = {k: v for k, v in at.params.items() if k != result.model.width.name}
    nodes = walk(block.trace.output)
    # a normaliser that depends on the width makes the moments a long series in 1/n
    normalised = any(a.op == "full" and a.data.has(GaussianMean) for a in nodes)
    analytic = not (normalised or any(kinked(a) for a in nodes))

    def cubature() -> Reference:
        part = None if whole else block.trace
        degrees = weight_degrees(result.model, params, at.V, free=free, part=part)
        targets = second_route(
            result.model,
            params,
            at.V,
            drift_degree=degrees[0],
            diffusion_degree=degrees[1],
            free=free,
            part=part,
        )
        # Cauchy's circle is small where a function's poles are near: digits are lost to its radius
        return Reference(label, block, at, *targets, bound=1e-8)

    reason: RouteError | None = None
    # for hidden units a rule for one of them is far smaller than one for all weights
    if analytic and not has_units(block.trace, params, at.V, free):
        try:
            return cubature()
        except RouteError as found:
            reason = found
    try:
        limits = unit_route(block.trace, params, at.V, free, text=whole)
    except NotCovered as found:
        try:
            if analytic and not reason:
                return cubature()
        except RouteError as other:
            reason = other
        # a route that has run and found no limit is a reason to doubt the derivation
        ran = reason is not None and not isinstance(reason, NotCovered)
        return Reference(label, block, at, problem=str(reason or found), contradicts=ran)
    except RouteError as found:
        return Reference(label, block, at, problem=str(found), contradicts=True)
    usual = result.model.pace == 1
    corrections = _corrections(block, limits) if limits.exact and usual else ()
    return Reference(label, block, at, limits.drift, limits.diffusion, corrections)


def _corrections(block: Block, limits: Limits) -> tuple[tuple[str, Expression, np.ndarray], ...]:
    try:
        first = of_block(block.trace)
    except Refusal:  # none is derived, so none is emitted
        return ()
    return (
        ("n^(-1/2) drift", first.drift, limits.first_drift),
        ("n^(-1/2) diffusion", first.diffusion, limits.first_diffusion),
    )


def kernel(result: CovarianceSDE, module: ModuleType) -> Rung:
    """L3: generated functions against an independent evaluator: eager, jit, vmap, grad, float32."""
    with strict_jax():
        figures = {f.name: f.error for f in gate(result, module)}
        figures |= by_mode(result, module, (1, 2, 5))
        for m in (1, 2, 5):
            one = instance(result, m, 10 + m)
            params = module.Params(*(one.params[n] for n in module.Params._fields))
            for name, route in (("drift, grad", _gradient), ("noise, J J^T", _noise)):
                figures[name] = worst(figures.get(name, 0.0), route(result, module, one, params))
    passed = all(v < tolerance(k) for k, v in figures.items())
    return Rung(
        "L3 kernel",
        "every generated function equals its equation, evaluated independently",
        passed,
        {k: digit(v) for k, v in figures.items()},
        f"relative errors of a value above {ROUNDING:.0e} (float32 {BOUND_32:.0e}, "
        f"derivatives {BOUND_GRAD:.0e})",
    )


def _gradient(
    result: CovarianceSDE, module: ModuleType, one: CovarianceInstance, params: Any
) -> float:
    """Derivative of the drift along a direction: automatic against central differences."""
    rng = generator(_SEED + 3)
    A = rng.standard_normal(one.V.shape)
    A = A + A.T
    _, forward = jax.jvp(
        lambda W: module.drift(W, params), (jnp.asarray(one.V),), (jnp.asarray(A),)
    )
    weight = rng.standard_normal(one.V.shape)
    reverse = jax.grad(lambda W: jnp.sum(jnp.asarray(weight) * module.drift(W, params)))(
        jnp.asarray(one.V)
    )
    h = 1e-4
    up, down = (evaluate(result.drift, {"V": one.V + s * h * A}, one.numbers) for s in (1.0, -1.0))
    up2, down2 = (
        evaluate(result.drift, {"V": one.V + 2 * s * h * A}, one.numbers) for s in (1.0, -1.0)
    )
    central = (8 * (up - down) - (up2 - down2)) / (12 * h)
    size = max(float(np.max(np.abs(central))), 1e-3)
    first = float(np.max(np.abs(np.asarray(forward) - central))) / size
    second = abs(float(np.sum(np.asarray(reverse) * A) - np.sum(weight * central))) / size
    return max(first, second)


def _noise(
    result: CovarianceSDE, module: ModuleType, one: CovarianceInstance, params: Any
) -> float:
    """J J^T of the emitted noise in its normals against the emitted diffusion."""
    m = one.V.shape[0]
    L = np.linalg.cholesky(one.V)
    target = evaluate(result.diffusion, {"V": one.V}, one.numbers)
    total = np.zeros_like(target)
    kinds = module._SPEC.noise_fields
    for name in kinds:
        basis = np.eye(m * m).reshape(-1, m, m)
        if kinds[name] == "symmetric":
            basis = (basis + basis.swapaxes(1, 2)) / np.sqrt(2)
        columns = []
        for b in basis:
            fields = [jnp.asarray(b if n == name else np.zeros((m, m))) for n in kinds]
            columns.append(
                np.asarray(module.noise_from(jnp.asarray(L), jnp.asarray(one.V), fields, params))
            )
        total += np.einsum("kab,kcd->abcd", np.array(columns), np.array(columns))
    size = max(float(np.max(np.abs(target))), float(np.max(np.abs(one.V))) ** 2)
    return float(np.max(np.abs(total - target))) / size


def invariants(result: CovarianceSDE, module: ModuleType) -> Rung:
    """L4: symmetry, PSD, equivariance, equal tokens, singular states, one token."""
    figures: dict[str, float] = {}
    one = instance(result, 4, 30)
    V, params = one.V, tuple(one.params[n] for n in module.Params._fields)
    params = module.Params(*params)
    with jax.enable_x64(True):
        drift = np.asarray(module.drift(jnp.asarray(V), params))
        sigma = np.asarray(module.diffusion(jnp.asarray(V), params))
        figures["drift symmetric"] = _error(drift, drift.T)
        figures["diffusion symmetric"] = max(
            _error(sigma, sigma.transpose(order)) for order in ((1, 0, 2, 3), (2, 3, 0, 1))
        )
        least = np.linalg.eigvalsh(sigma.reshape(16, 16))[0]
        largest = max(float(np.max(np.abs(sigma))), 1e-300)  # an ODE has no diffusion
        figures["diffusion PSD"] = max(0.0, -least / largest)
        order = np.array([2, 0, 3, 1])
        if permutes(result, order):
            moved = np.asarray(module.drift(jnp.asarray(V[np.ix_(order, order)]), params))
            figures["permutation of tokens"] = _error(moved, drift[np.ix_(order, order)])
        twin = V.copy()
        twin[1], twin[:, 1] = twin[0], twin[:, 0]
        twin[1, 1] = twin[0, 0]
        equal = keeps_equal(result, 4)
        if equal:
            figures |= _equal_tokens(module, twin, params)
    paths = module.simulate(twin, params, t1=0.1, paths=64, seed=seed(5))
    last = paths.V[:, -1]
    if equal:
        figures["equal tokens stay equal (paths)"] = float(
            np.max(np.abs(last[:, 0] - last[:, 1])) / np.max(np.abs(last))
        )
    eigen = np.linalg.eigvalsh(last)
    figures["paths PSD"] = float(np.max(np.maximum(0, -eigen[:, 0]) / eigen[:, -1]))
    return Rung(
        "L4 invariants",
        "symmetry, positive semi-definiteness, singular states; equivariance and equal tokens "
        "where the text has them",
        all(v < 1e-10 for v in figures.values()),
        {k: digit(v) for k, v in figures.items()},
    )


def _equal_tokens(module: ModuleType, twin: np.ndarray, params: Any) -> dict[str, float]:
    """Rows of equal tokens in drift and diffusion."""
    pulled = np.asarray(module.drift(jnp.asarray(twin), params))
    spread = np.asarray(module.diffusion(jnp.asarray(twin), params))
    return {
        "equal tokens stay equal (drift)": _error(pulled[0], pulled[1], 1e-12),
        "equal tokens stay equal (noise)": float(np.max(np.abs(spread[0] - spread[1])))
        / max(float(np.max(np.abs(spread))), 1e-300),
    }


def mutants(result: CovarianceSDE) -> Rung:
    """L6: every term dropped, flipped, doubled, scaled, transposed; equal rewrites survive."""
    killed = made = 0
    alive: list[str] = []
    survivors = rewrites = same = 0
    cases = [
        (reference, *pair)
        for reference in references(result)
        for pair in reference.pairs()
        if pair[0] in ("drift", "diffusion")
    ]
    for reference, name, expression, target, floor in cases:
        one = reference.at
        for label, mutant in _mutations(expression):
            if mutant == expression:
                continue
            found = evaluate(mutant, {"V": one.V}, one.numbers)
            if _error(found, evaluate(expression, {"V": one.V}, one.numbers)) < 1e-12:
                same += 1  # one function at two tokens, on the sphere by symmetry
                continue
            made += 1
            if off_by(found, target, floor) > reference.bound:
                killed += 1
            else:
                alive.append(f"{reference.label}{name}: {label}")
        rewrites += 1
        shuffled = collect(expression.free, [(c, f[::-1]) for c, f in reversed(expression.terms)])
        survivors += shuffled == expression
    return Rung(
        "L6 mutants",
        "every wrong neighbour of the equations is killed by the second route, equal ones survive",
        killed == made and survivors == rewrites,
        {
            "made": made,
            "killed": killed,
            "alive": alive,
            "equal rewrites kept": survivors,
            "equal at two tokens": same,
        },
        "terms dropped, sign-flipped, doubled, scaled by 1.01, transposed, legs swapped",
        "" if made else "no mutant could be made: no second route has a value to compare with",
    )


def _mutations(expression: Expression):  # type: ignore[no-untyped-def]
    free = expression.free
    for p, (c, f) in enumerate(expression.terms):
        rest = [t for q, t in enumerate(expression.terms) if q != p]
        yield f"term {p} dropped", collect(free, rest)
        for label, factor in (("flipped", -1), ("doubled", 2), ("scaled", sp.Rational(101, 100))):
            yield f"term {p} {label}", collect(free, [*rest, (factor * c, f)])
        for i, j in itertools.combinations(free, 2):
            swapped = tuple(x.rename({i: j, j: i}) for x in f)
            yield f"term {p} with {i.name}{j.name} swapped", collect(free, [*rest, (c, swapped)])


def _error(value: np.ndarray, target: np.ndarray, least: float = 1e-300) -> float:
    return float(np.max(np.abs(value - target)) / max(float(np.max(np.abs(target))), least))
