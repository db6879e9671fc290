"""Emitted functions of a covariance SDE against what they were emitted from.

Input: a derivation and its module.  Output: the relative error of every function, by name and
mode.  Equations are evaluated by einsum (`calculus.evaluate`), chains and layers as graphs in
NumPy (`notation.graph.value`), the layer from the definition's text: no route shares code with
the emitter.  The gate of `derive build` asks for all functions, eager; rung L3 for every mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.draws import generator
from derive.emit.covariance_sde.names import layer_shaped
from derive.methods.covariance_sde.congruence import Congruence
from derive.methods.covariance_sde.corrected import Corrected, corrected_or_none
from derive.methods.covariance_sde.project import V as ROW_SIZE
from derive.methods.covariance_sde.reduce import Chain
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common.graph import value
from derive.notation.common.scalars import number
from derive.runtime.common.ops import Tiles
from derive.verify.common.compare import ROUNDING, Finding, Target, findings, strict_jax, worst
from derive.verify.covariance_sde.instance import CovarianceInstance, instance
from derive.verify.covariance_sde.text_layer import text_layer

_SEED = 41
_WIDTH = 37.0  # of the step and of the reduced layer: nothing is special about it
BOUND_TO_RUNTIME = {
    "drift_error",
    "noise",
    "simulate",
    "path",
    "terms",
    "normals",
    "network",
    "reduced_network",
}

Errors = dict[str, float]


def gate(result: CovarianceSDE, module: ModuleType) -> list[Finding]:
    """Every emitted function, at two and at five tokens."""
    at_width = _at_width_of(result, module)
    with strict_jax():
        small, large = (list(targets(result, module, m, at_width)) for m in (2, 5))
        small += [on_tiles(t) for t in small if _stepped(t)]
        batches = [small, large]
        return findings(module, batches, BOUND_TO_RUNTIME)


def _stepped(target: Target) -> bool:
    """Whether the simulator calls the function, on whose tiles it then must be right too."""
    return target.name not in ("layer", "reduced_layer", "field_sizes_at_width") and (
        "diffusion" not in target.name and "lift" not in target.name
    )


def on_tiles(target: Target) -> Target:
    """The same function on matrices of arrays over paths, as small states are simulated."""

    def tiled(function: Callable[..., Any], *arguments: Any) -> Any:
        # matrices of paths come before the parameters: V, or L and V, and lists of such
        first = [k for k, a in enumerate(arguments) if hasattr(a, "_fields")][0]
        tiles = [_tiles(a) for a in arguments[:first]]
        return _off_tiles(function(*tiles, *arguments[first:]))

    return replace(target, name=f"{target.name}, tiles", call=tiled)


def _tiles(given: Any) -> Any:
    if isinstance(given, list):
        return [_tiles(g) for g in given]
    return Tiles.of(given.shape, lambda *i: jnp.stack([given[i], 2 * given[i]]))


def _off_tiles(found: Any) -> Any:
    """The first path of a result."""
    if not isinstance(found, Tiles):
        return found[0]
    entries = [jnp.broadcast_to(jnp.asarray(e), (2,))[0] for e in found.entries.ravel()]
    return jnp.stack(entries).reshape(found.entries.shape)


def by_mode(result: CovarianceSDE, module: ModuleType, sizes: Sequence[int]) -> Errors:
    """The same one by one, and functions of V alone in every mode that users call them in."""
    at_width = _at_width_of(result, module)
    found: Errors = {}
    for m in sizes:
        for target in targets(result, module, m, at_width):
            takes_V = len(target.arguments) == 2
            for mode, run in _MODES.items() if takes_V else [("eager", _MODES["eager"])]:
                key = f"{target.name}, {mode}"
                got = run(getattr(module, target.name), target.arguments)
                found[key] = worst(found.get(key, 0.0), target.error(got))
    return found


def _at_width_of(result: CovarianceSDE, module: ModuleType) -> Corrected | None:
    return corrected_or_none(result) if hasattr(module, "ParamsAtWidth") else None


_MODES: dict[str, Callable[[Any, tuple[Any, ...]], Any]] = {
    "eager": lambda f, a: f(*a),
    "jit": lambda f, a: jax.jit(f)(*a),
    "vmap": lambda f, a: jax.vmap(lambda V: f(V, *a[1:]))(np.stack([a[0], 2 * a[0]]))[0],
    "batch": lambda f, a: f(jnp.stack([a[0], 2 * a[0]]), *a[1:])[0],
    "float32": lambda f, a: f(jnp.asarray(a[0], jnp.float32), *a[1:]),
}
BOUND_32, BOUND_GRAD = 1e-5, 1e-7


def tolerance(key: str) -> float:
    """What an error of that name may be: rounding, in its precision."""
    return BOUND_32 if "float32" in key else BOUND_GRAD if "grad" in key else ROUNDING


def targets(
    result: CovarianceSDE, module: ModuleType, m: int, at_width: Corrected | None
) -> Iterator[Target]:
    """Every function with arguments, its right value there and the size of its terms."""
    one = instance(result, m, 10 + m)
    params = module.Params(*(one.params[n] for n in module.Params._fields))
    yield from _equations(result, one, params)
    yield _noise(result, "noise_from", one, params)
    yield _layer(result, module, m)
    if result.reduction is not None:
        yield _chain(result, module, "reduced_layer", result.reduction.exact, one, params)
    if layer_shaped(result):
        assert result.reduction is not None and result.reduction.step is not None
        yield _chain(result, module, "step_layer", result.reduction.step, one, params)
    else:
        yield _congruence(result, module, "step_layer", one, params, _WIDTH)
    if at_width is not None:
        yield from _at_width(result, at_width, module, one)


def _equations(result: CovarianceSDE, one: CovarianceInstance, params: Any) -> Iterator[Target]:
    V = np.asarray(one.V)
    whole = float(np.max(np.abs(one.V)))
    for name in ("drift", "diffusion", "mixing_rate"):
        expression = getattr(result, name)
        yield Target(name, (V, params), evaluate(expression, {"V": one.V}, one.numbers), whole)
    for name in ("mixing_effect", "volatility"):
        above, below = (evaluate(e, {"V": one.V}, one.numbers) for e in getattr(result, name))
        yield Target(name, (V, params), np.asarray(above / below), 1e-6)


def _noise(result: CovarianceSDE, name: str, one: CovarianceInstance, params: Any) -> Target:
    """The map itself at one draw of its normals."""
    rng = generator(_SEED + 11)
    L = np.linalg.cholesky(one.V)
    drawn = {f.drawn.name: _field(f.drawn.symmetric, one.V.shape, rng) for f in result.noise.fields}
    right = evaluate(result.noise.expanded, {"V": one.V, "L": L, **drawn}, one.numbers)
    fields = [np.asarray(g) for g in drawn.values()]
    arguments = (np.asarray(L), np.asarray(one.V), fields, params)
    return Target(name, arguments, right, float(np.max(np.abs(one.V))))


def _field(symmetric: bool, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    drawn = rng.standard_normal(shape)
    return (drawn + drawn.T) / np.sqrt(2) if symmetric else drawn


def _layer(result: CovarianceSDE, module: ModuleType, m: int) -> Target:
    """The layer against the definition's text, run by NumPy."""
    text = text_layer(result, m)
    arguments = (
        text.X,
        module.Weights(*text.weights),
        module.Params(*(text.params[n] for n in module.Params._fields)),
        module.Dims(*(text.dims[n] for n in module.Dims._fields)),
    )
    return Target("layer", arguments, text(), float(np.max(np.abs(text.X))))


def _sizes(result: CovarianceSDE, one: CovarianceInstance) -> dict[sp.Symbol, float]:
    """Every dimension large and different, as a step or a chain takes them; parameters as given."""
    sizes = {d: _WIDTH + 2 * k for k, d in enumerate(result.model.dims)}
    sizes[result.law.gram.dims[0]] = float(one.V.shape[0])
    return {**sizes, **one.numbers}


def _chain(
    result: CovarianceSDE,
    module: ModuleType,
    name: str,
    chain: Chain,
    one: CovarianceInstance,
    params: Any,
) -> Target:
    """A chain's graph on one draw of its blocks."""
    rng = generator(_SEED + 13)
    numbers = _sizes(result, one)
    L = np.linalg.cholesky(one.V)
    drawn = [rng.standard_normal(one.V.shape) for _ in chain.blocks]
    leaves = {chain.factor: L} | {b: g for (_, b), g in zip(chain.blocks, drawn, strict=True)}
    right = value(chain.output, leaves, numbers)
    by_name = {s.name: v for s, v in numbers.items()}
    dims = module.Dims(*(by_name[n] for n in module.Dims._fields))
    arguments = (np.asarray(L), [np.asarray(g) for g in drawn], params, dims)
    return Target(name, arguments, np.asarray(right), float(np.max(np.abs(one.V))))


def _congruence(
    result: CovarianceSDE,
    module: ModuleType,
    name: str,
    one: CovarianceInstance,
    params: Any,
    width: float,
) -> Target:
    """The congruence at one draw of the normals, h = 1 / width."""
    rng = generator(_SEED + 17)
    L = np.linalg.cholesky(one.V)
    drawn = {f.drawn.name: _field(f.drawn.symmetric, one.V.shape, rng) for f in result.noise.fields}
    drawn |= {n: _field(False, one.V.shape, rng) for n in result.step.blocks}
    right = congruence_step(result, {"V": one.V, "L": L, **drawn}, 1 / width, one.numbers)
    by_name = {s.name: v for s, v in _sizes(result, one).items()} | {result.model.clock.name: width}
    dims = module.Dims(*(by_name[n] for n in module.Dims._fields))
    arguments = (L, list(drawn.values()), params, dims)
    return Target(name, arguments, right, float(np.max(np.abs(one.V))))


def congruence_step(
    result: CovarianceSDE,
    arrays: dict[str, np.ndarray],
    h: float,
    numbers: dict[sp.Symbol, float],
) -> np.ndarray:
    """V' = (L + sqrt(h) U + h D)(...)^T + h J from `arrays`: V, L and the normals by name."""
    step: Congruence = result.step
    push, pull, lift = (evaluate(e, arrays, numbers) for e in (step.push, step.pull, step.lift))
    root = arrays["L"] + np.sqrt(h) * push + h * pull
    new = root @ root.T + h * lift
    if step.scaling is None:
        return new
    rule = step.scaling.rule
    rows = np.array([number(rule, {**numbers, ROW_SIZE: v}) for v in np.diag(new)])
    return rows[:, None] * new * rows


def _at_width(
    result: CovarianceSDE, found: Corrected, module: ModuleType, limit: CovarianceInstance
) -> Iterator[Target]:
    """The kernels of the SDE of a finite width."""
    sde = found.sde
    numbers = {**limit.numbers, found.width: 4096.0}
    one = CovarianceInstance(limit.V, {**limit.params, found.width.name: 4096.0}, numbers)
    params = module.ParamsAtWidth(*(one.params[n] for n in module.ParamsAtWidth._fields))
    whole, V = float(np.max(np.abs(one.V))), np.asarray(one.V)
    for name, expression in (
        ("drift_at_width", sde.drift),
        ("diffusion_at_width", sde.diffusion),
        ("lift_at_width", sde.step.lift),
    ):
        if hasattr(module, name):
            yield Target(name, (V, params), evaluate(expression, {"V": one.V}, numbers), whole)
    if found.sizes:
        yield _noise(sde, "noise_from_at_width", one, params)
        sizes = np.array([number(s, numbers) for s in found.sizes])
        yield Target("field_sizes_at_width", (params,), sizes, 1.0)
    yield _congruence(sde, module, "step_layer_at_width", one, params, _WIDTH)
