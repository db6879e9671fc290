"""Numbers at which a covariance SDE is checked: dimensions, parameters, states and weights."""

from __future__ import annotations

import numpy as np
import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import UNIT, Factor, Tensor
from derive.calculus.limit.order import Law
from derive.calculus.limit.scaling import ratio
from derive.calculus.limit.units import rests_on_means
from derive.methods.common.parameters import sample
from derive.notation.common.arrays import shares, walk
from derive.notation.common.scalars import Opaque, Param, Share, number, size
from derive.notation.layers.model import Model, Trace


def numbers(model: Model, rng: np.random.Generator, **sizes: int) -> dict[sp.Symbol, float]:
    """Values for every symbol of a model: given sizes, parameters inside their ranges."""
    out: dict[sp.Symbol, float] = {}
    for dim in model.dims:
        out[dim] = float(sizes.get(dim.name, 2))
    for parameter in model.params:
        out[parameter] = sample(parameter, rng)
    for dim in model.dims:
        out[ratio(dim)] = 0.75
    return out


def by_name(values: dict[sp.Symbol, float]) -> dict[str, float]:
    return {s.name: v for s, v in values.items()}


def drawn_arrays(traced: Trace, values: dict[sp.Symbol, float], rng: np.random.Generator):  # type: ignore[no-untyped-def]
    def sizes(shape: tuple[sp.Expr, ...]) -> list[int]:
        return [size(d, values) for d in shape]

    state = rng.standard_normal(sizes(traced.state.shape))
    return state, [rng.standard_normal(sizes(a.shape)) for _, a in traced.weights]


def divisible(traced: Trace, values: dict[sp.Symbol, float]) -> None:
    """Enlarge dimensions that are divided by others until they are multiples of them."""
    for share in shares(traced.output):
        values[share.whole] = values[share.count] * -(-values[share.whole] // values[share.count])


def relative(difference: np.ndarray, reference: np.ndarray) -> float:
    return float(np.max(np.abs(difference)) / max(np.max(np.abs(reference)), 1e-300))


def spherical(gram: Tensor, V: np.ndarray) -> np.ndarray:
    """A covariance, with unit diagonal where the tokens live on the sphere."""
    if gram.meaning != UNIT:
        return V
    root = np.sqrt(np.diag(V))
    return V / np.outer(root, root)


def admissible(law: Law, state: np.ndarray) -> np.ndarray:
    """A state whose rows are as the definition promises, of mean zero where that is read so."""
    if any(
        isinstance(t, Tensor) and rests_on_means((Factor(t, ()),)) for t in law.responses.values()
    ):
        state = state - state.mean(axis=1, keepdims=True)
    if law.gram.meaning != UNIT:
        return state
    size = np.sqrt(state.shape[1]) if law.gram_weight != 1 else 1.0
    return size * state / np.linalg.norm(state, axis=1, keepdims=True)


def gram_of(law: Law, state: np.ndarray, values: dict[sp.Symbol, float]) -> np.ndarray:
    return state @ state.T / number(sp.sympify(law.gram_weight), values)


def symbols_of(expressions: tuple[Expression, ...]) -> set[sp.Symbol]:
    """Every symbol on which the value of the expressions depends, besides tensors."""
    found = {s for e in expressions for c, _ in e.terms for s in c.free_symbols}
    for hidden in [s for s in found if isinstance(s, Opaque)]:
        found = (found | hidden.value.free_symbols) - {hidden}
    for tensor in {t for e in expressions for t in e.tensors() if t.kind == "response"}:
        for array in walk(tensor.meaning.root):
            found |= array.data.free_symbols if array.op == "full" else set()
            found |= set(array.shape)
    return {s for s in found if s.is_Symbol}


def generic(
    law: Law, expressions: tuple[Expression, ...], rng: np.random.Generator
) -> dict[sp.Symbol, float]:
    """Dimensions of two (one for a free dimension) and generic values for all other symbols."""
    out: dict[sp.Symbol, float] = {}
    symbols = symbols_of(expressions)
    dims = {law.scaling.width, *law.state.dims} | {d for t in law.gaussian for d in t.dims}
    dims = {d for d in dims if not isinstance(d, Share)}
    for symbol in sorted(symbols | dims, key=lambda s: s.name):
        if symbol in dims:
            out[symbol] = 1.0 if symbol in law.scaling.free else 2.0
        elif isinstance(symbol, Param):
            out[symbol] = sample(symbol, rng)
        else:
            out[symbol] = rng.uniform(0.4, 0.9)
    return out


SEED = 20231
