"""Adjoint and tangent rules on array graphs, each against complex steps of the graph's value.

One small expression for each operation and each way of broadcasting; sizes differ in every
dimension, so that a wrong axis shows as a wrong shape.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import sympy as sp

from derive.calculus.arrays import derivative as rules
from derive.calculus.arrays.algebra import Algebra
from derive.notation.common.arrays import Array, visible, walk
from derive.notation.common.functions import (
    cos,
    erf,
    exp,
    log,
    ones,
    relu,
    sigmoid,
    sin,
    softmax,
    sqrt,
    tanh,
)
from derive.notation.common.graph import value
from derive.notation.common.scalars import dims, params

n, d, k = dims("n: rows", "d: columns", "k: other columns")
c = params("c: positive")
SIZES = {n: 3, d: 4, k: 2, c: 0.7}


def _leaves(g: Algebra) -> dict[str, Array]:
    shapes = {"X": (n, d), "Y": (n, d), "B": (d, k), "v": (d,), "w": (n,), "s": ()}
    return {name: g.leaf(name, shape) for name, shape in shapes.items()}


Text = Callable[..., Array]

EXPRESSIONS: dict[str, Text] = {
    "add": lambda X, Y, B, v, w, s: X + 2 * Y,
    "add, rows broadcast": lambda X, Y, B, v, w, s: X + v,
    "add, scalar broadcast": lambda X, Y, B, v, w, s: X + s,
    "multiply": lambda X, Y, B, v, w, s: X * Y * c,
    "multiply, broadcast": lambda X, Y, B, v, w, s: X * v * s,
    "square": lambda X, Y, B, v, w, s: X**3,
    "matrix, matrix": lambda X, Y, B, v, w, s: X @ B,
    "matrix, vector": lambda X, Y, B, v, w, s: X @ v,
    "vector, matrix": lambda X, Y, B, v, w, s: w @ X,
    "vector, vector": lambda X, Y, B, v, w, s: v @ v * s,
    "transpose": lambda X, Y, B, v, w, s: X.T @ Y,
    "gram": lambda X, Y, B, v, w, s: (X @ X.T) @ Y,
    "sum, axis": lambda X, Y, B, v, w, s: X.sum(axis=0) * v,
    "sum, last axis": lambda X, Y, B, v, w, s: X.sum(axis=1) * w,
    "sum, kept": lambda X, Y, B, v, w, s: X * Y.sum(axis=1, keepdims=True),
    "sum, kept, first": lambda X, Y, B, v, w, s: X * Y.sum(axis=0, keepdims=True),
    "sum, all": lambda X, Y, B, v, w, s: X * (X * Y).sum(),
    "sum of a broadcast": lambda X, Y, B, v, w, s: (X + v).sum() * s,
    "sum of rows of a broadcast": lambda X, Y, B, v, w, s: (X + v + s).sum(axis=0),
    "root of a square": lambda X, Y, B, v, w, s: sqrt(X * X) * X / (X * X),
    "mean": lambda X, Y, B, v, w, s: X - X.mean(axis=1, keepdims=True),
    "constant in a sum": lambda X, Y, B, v, w, s: (X * s * v).sum(axis=0),
    "sum of ones": lambda X, Y, B, v, w, s: ones(n, d) * s + X,
    "divide": lambda X, Y, B, v, w, s: X / (2 + Y * Y),
    "divide by norm": lambda X, Y, B, v, w, s: X / sqrt((X * X).sum(axis=1, keepdims=True)),
    "softmax": lambda X, Y, B, v, w, s: softmax(X),
    "softmax of products": lambda X, Y, B, v, w, s: softmax(X @ Y.T / c) @ Y,
    "softmax of a vector": lambda X, Y, B, v, w, s: softmax(v * s),
    "softmax twice": lambda X, Y, B, v, w, s: softmax(softmax(X) * Y),
    "exp": lambda X, Y, B, v, w, s: exp(X) * Y,
    "log": lambda X, Y, B, v, w, s: log(2 + X * X),
    "tanh": lambda X, Y, B, v, w, s: tanh(X) * Y,
    "sin, cos": lambda X, Y, B, v, w, s: sin(X) * cos(Y),
    "sigmoid": lambda X, Y, B, v, w, s: sigmoid(X) @ B,
    "erf": lambda X, Y, B, v, w, s: erf(X) * Y,
    "relu": lambda X, Y, B, v, w, s: relu(X) @ B,
    "deep": lambda X, Y, B, v, w, s: tanh(tanh(X @ B) @ B.T * s) * v,
}


def _setup(name: str, seed: int) -> tuple[Algebra, dict[str, Array], Array, dict]:
    g = Algebra()
    leaves = _leaves(g)
    (root,) = g.rebuild([EXPRESSIONS[name](**leaves)], {a: a for a in leaves.values()})
    rng = np.random.default_rng(seed)
    values = {a: 1.5 * rng.standard_normal([SIZES[q] for q in a.shape]) for a in leaves.values()}
    return g, leaves, root, values


def _shape(root: Array) -> list[int]:
    return [int(sp.sympify(q).subs(SIZES)) for q in root.shape]


def _erf_free(name: str) -> bool:
    return "erf" not in name


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_gradients_and_directions_against_complex_steps(name: str) -> None:
    g, leaves, root, values = _setup(name, 4)
    rng = np.random.default_rng(5)
    weight = g.leaf("weight", root.shape)
    values[weight] = rng.standard_normal(_shape(root))
    pairing = g.sum_all(g.multiply(weight, root))
    gradients = rules.gradient(g, pairing, list(leaves.values()))
    step = 1e-30 if _erf_free(name) else 1e-6
    for leaf, gradient in zip(leaves.values(), gradients, strict=True):
        found = value(gradient, values, SIZES)
        assert found.shape == values[leaf].shape
        direction = rng.standard_normal(found.shape)
        if _erf_free(name):
            moved = {**values, leaf: values[leaf] + 1j * step * direction}
            change = np.imag(value(root, moved, SIZES)) / step
        else:
            up, down = (
                value(root, {**values, leaf: values[leaf] + t * direction}, SIZES)
                for t in (step, -step)
            )
            change = (up - down) / (2 * step)
        scale = 1 + np.abs(change).max()
        tolerance = (1e-12 if _erf_free(name) else 1e-8) * scale * 10
        assert abs(np.sum(found * direction) - np.sum(values[weight] * change)) < tolerance
        move = g.leaf(f"d {leaf.data}", leaf.shape)
        (tangent,) = rules.along(g, [root], {leaf: move})
        np.testing.assert_allclose(
            value(tangent, {**values, move: direction}, SIZES), change, rtol=0, atol=tolerance
        )


@pytest.mark.parametrize("name", ["softmax", "softmax of products"])
def test_derivatives_of_softmax_are_written_in_softmax(name: str) -> None:
    """No exponential is left over, so nothing can overflow that softmax itself survives."""
    g, leaves, root, values = _setup(name, 6)
    total = g.sum_all(g.multiply(root, leaves["X"] if root.shape == (n, d) else root))
    for gradient in rules.gradient(g, total, [leaves["X"], leaves["Y"]]):
        shown = visible(gradient)
        assert not any(a.op == "function" and a.data[0] == "exp" for a in shown)
        assert not any(a.op == "function" and a.data[0] == "reciprocal" for a in shown)
    del values


def test_like_terms_and_factors_meet() -> None:
    g = Algebra()
    leaves = _leaves(g)
    X, Y = leaves["X"], leaves["Y"]
    assert g.is_zero(g.add(X, g.scale(sp.Integer(-1), X)))
    assert g.add(g.add(X, Y), g.scale(sp.Integer(-1), Y)) is X
    assert g.multiply(X, Y) is g.multiply(Y, X)
    assert g.multiply(g.multiply(X, Y), g.function("reciprocal", Y)) is X
    assert g.transpose(g.transpose(X)) is X
    square = g.matmul(X, g.transpose(X))
    assert g.transpose(square) is square
    root = g.function("sqrt", g.multiply(X, X))
    assert g.multiply(root, root) is g.multiply(X, X)
    assert g.multiply(root, g.function("reciprocal", X)) is not g.scalar(sp.Integer(1))


# a rule that is broken in its typical way must fail the comparison above


def _no_transpose(g: Algebra, left: Array, right: Array, position: int, bar: Array) -> Array:
    if left.ndim == right.ndim == 2 and position == 1:
        return g.matmul(g.transpose(left), g.scale(sp.Integer(-1), bar))
    return _MATMUL(g, left, right, position, bar)


_MATMUL, _SHRINK, _SLOPE = rules._matmul_adjoint, rules._shrink, rules.derivative
_COMPOSITE = rules._composite_adjoint


def _no_count(g: Algebra, bar: Array, shape: tuple, target: tuple) -> Array:
    return bar if not bar.ndim else _SHRINK(g, bar, shape, target)


def _no_chain(g: Algebra, array: Array) -> Array | None:
    return g.scalar(sp.Integer(1))


def _no_normaliser(g: Algebra, array: Array, position: int, bar: Array) -> Array:
    return g.multiply(g.spread(bar, array.shape), array)


BREAKS = {
    "_matmul_adjoint": (_no_transpose, "matrix, matrix"),
    "_shrink": (_no_count, "sum of a broadcast"),
    "derivative": (_no_chain, "tanh"),
    "_composite_adjoint": (_no_normaliser, "softmax"),
}


@pytest.mark.parametrize("rule", BREAKS)
def test_broken_rules_are_caught(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, expression = BREAKS[rule]
    monkeypatch.setattr(rules, rule, broken)
    with pytest.raises(AssertionError):
        test_gradients_and_directions_against_complex_steps(expression)


def test_gradients_share_their_parts() -> None:
    """One walk back: the gradient by everything costs a small multiple of the value."""
    g, leaves, root, _ = _setup("softmax of products", 1)
    total = g.sum_all(g.multiply(root, leaves["Y"]))
    gradients = rules.gradient(g, total, [leaves["X"], leaves["Y"]])
    nodes = {a for gradient in gradients for a in visible(gradient)}
    assert len(nodes) < 4 * len(walk(total))
