"""Evaluates an expression with defined tensors numerically, by NumPy alone.

Input: an expression, the book, arrays for its tensors, sizes for its dimensions, numbers for its
symbols.  Output: a NumPy array over the free indices (complex where a coefficient is).  Shares no
code with the printers of kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
import sympy as sp

from derive.calculus.arrays.scalar_functions import derivative_of, kinks_of, regular_order
from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factors, Index, Tensor
from derive.calculus.index.subscripts import subscripts


def value(
    expression: Expression,
    book: Book,
    arrays: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
    numbers: Mapping[sp.Symbol, complex],
) -> np.ndarray:
    """Sum of einsums; tensors of the book are evaluated by their meaning."""
    return _Evaluator(book, dict(arrays), dict(sizes), dict(numbers)).of(expression)


class _Evaluator:
    def __init__(
        self,
        book: Book,
        arrays: dict[str, np.ndarray],
        sizes: dict[str, int],
        numbers: dict[sp.Symbol, complex],
    ) -> None:
        self.book, self.arrays, self.sizes, self.numbers = book, arrays, sizes, numbers

    def of(self, expression: Expression) -> np.ndarray:
        shape = [self.sizes[i.dim.name] for i in expression.free]
        total: np.ndarray = np.zeros(shape)
        for coefficient, factors in expression.terms:
            total = total + self.number(coefficient) * self._product(factors, expression.free)
        return total

    def _product(self, factors: Factors, free: tuple[Index, ...]) -> np.ndarray:
        words, ones, out = subscripts(factors, free)
        if not words and not ones:
            return np.ones(())
        operands = [self.tensor(f.tensor) for f in factors]
        operands += [np.ones(self.sizes[free[position].dim.name]) for position, _ in ones]
        text = ",".join([*words, *(letter for _, letter in ones)]) + "->" + out
        return np.einsum(text, *operands, optimize=_path(text, tuple(map(np.shape, operands))))

    def number(self, coefficient: sp.Expr) -> complex | float:
        """A coefficient at the symbols' numbers."""
        values = dict(self.numbers)
        for symbol in coefficient.free_symbols:
            if symbol not in values:
                values[symbol] = self.sizes[symbol.name]
        got = complex(coefficient.xreplace({s: sp.sympify(v) for s, v in values.items()}).evalf(30))
        return got.real if got.imag == 0 else got

    def _numeric(self, rule: Any) -> Any:
        """A rule with numbers for the parameters in its body."""
        inside = rule.body.free_symbols
        if not inside:
            return rule
        values = {s: sp.Float(self.number(s).real, 30) for s in inside}
        return replace(rule, body=sp.Lambda(rule.body.variables, rule.body.expr.xreplace(values)))

    def tensor(self, tensor: Tensor) -> np.ndarray:
        if tensor.kind == "delta":
            return np.eye(self.sizes[tensor.dims[0].name])
        if tensor.name in self.arrays:
            return self.arrays[tensor.name]
        meaning = self.book.of[tensor]
        bodies = [self.of(b) for b in meaning.bodies]
        kind = meaning.kind
        if kind == "exp":
            out = np.exp(bodies[0])
        elif kind == "reciprocal":
            out = 1 / bodies[0]
        elif kind in ("inverse", "det"):
            whole = np.eye(bodies[0].shape[-1]) + bodies[0]
            out = np.linalg.inv(whole) if kind == "inverse" else np.linalg.det(whole) ** -0.5
        elif kind == "gate":
            weight = bodies[1] * np.exp(bodies[0] - bodies[0].max(axis=-1, keepdims=True))
            out = weight / weight.sum(axis=-1, keepdims=True)
        elif kind == "spectral":
            values, vectors = np.linalg.eigh((bodies[0] + bodies[0].T) / 2)
            scalar = sp.lambdify(*meaning.data.args, "numpy")
            out = (vectors * scalar(np.maximum(values, 0))) @ vectors.T
        elif kind == "ridge":
            rule, order = meaning.data
            out = derivative(self._numeric(rule), order)(bodies[0])
        elif kind == "smooth":
            rule, order = meaning.data
            rule = self._numeric(rule)
            centre, variance = np.broadcast_arrays(*bodies)
            spread = np.sqrt(np.maximum(variance, 0))
            kinks = [float(self.number(k).real) for k in kinks_of(rule.body)]
            nodes, weights = _split_normal(kinks, centre, spread) if kinks else _normal()
            at = centre[..., None] + spread[..., None] * nodes
            known = regular_order(rule.body, order)
            # Stein, as often as a jump would have to be differentiated
            more = order - known
            weights = weights * np.polynomial.hermite_e.hermeval(nodes, [0] * more + [1])
            out = (derivative(rule, known)(at) * weights).sum(axis=-1) / spread**more
        else:
            raise AssertionError(kind)
        self.arrays[tensor.name] = np.asarray(out)
        return self.arrays[tensor.name]


@lru_cache(maxsize=4096)
def _path(words: str, shapes: tuple[tuple[int, ...], ...]) -> list[Any]:
    """Contraction order of an einsum: its search costs more than small products do."""
    empty = [np.broadcast_to(0.0, shape) for shape in shapes]
    return np.einsum_path(words, *empty, optimize="greedy")[0]


@lru_cache(maxsize=1)
def _normal() -> tuple[np.ndarray, np.ndarray]:
    """The trapezoidal rule for the standard normal."""
    nodes = np.linspace(-10, 10, 801)
    weights = np.exp(-(nodes**2) / 2)
    return nodes, weights / weights.sum()


def _split_normal(
    kinks: list[float], centre: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre panels for the standard normal, (..., nodes), split at kinks of a function."""
    x, w = np.polynomial.legendre.leggauss(24)
    safe = np.where(spread > 0, spread, 1)
    ends = [np.full(np.shape(centre), -10.0), np.full(np.shape(centre), 10.0)]
    ends += [np.clip(np.where(spread > 0, (k - centre) / safe, 10.0), -10, 10) for k in kinks]
    edges = np.sort(np.stack(ends, axis=-1), axis=-1)
    parts = np.linspace(0, 1, 9)
    nodes, weights = [], []
    for n in range(edges.shape[-1] - 1):
        low, width = edges[..., n, None], (edges[..., n + 1] - edges[..., n])[..., None]
        for a, b in zip(parts[:-1], parts[1:], strict=True):
            nodes.append(low + width * (a + (b - a) * (1 + x) / 2))
            weights.append(width * (b - a) / 2 * w)
    z = np.concatenate(nodes, axis=-1)
    return z, np.concatenate(weights, axis=-1) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


@cache
def derivative(rule: Any, order: int) -> Callable[[np.ndarray], np.ndarray]:
    """The k-th derivative of a rule on NumPy arrays, stable for large arguments of either sign."""
    function = derivative_of(rule.body, order)
    s, body = function.variables[0], function.expr
    plain = sp.lambdify(s, body, ["scipy", "numpy"])

    def apply(x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            out = np.asarray(plain(np.asarray(x, float)), float) + np.zeros_like(x, float)
        bad = ~np.isfinite(out)
        if bad.any():
            import mpmath

            exact = sp.lambdify(s, body, "mpmath")
            with mpmath.workdps(30):
                out[bad] = [float(mpmath.re(exact(mpmath.mpf(float(v))))) for v in x[bad]]
        return out

    return apply
