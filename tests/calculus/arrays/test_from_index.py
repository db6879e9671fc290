"""Index expressions as array graphs have the same values, in products of matrices and vectors."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from derive.calculus.arrays.algebra import Algebra
from derive.calculus.arrays.from_index import Arrays, NoArray
from derive.calculus.index.defined import Book
from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import collect
from derive.calculus.index.factors import Factor, Index, Tensor
from derive.notation.common.arrays import Array, walk
from derive.notation.common.graph import value
from derive.notation.common.scalars import dims

n, d = dims("n: rows", "d: columns")
SIZES = {n: 3, d: 4}
TENSORS = [
    Tensor(name, shape, "constant")
    for name, shape in {"A": (n, d), "M": (d, d), "R": (n, n), "v": (d,), "w": (n,)}.items()
]


def _made(g: Algebra) -> Arrays:
    given = {t.name: g.leaf(t.name, t.dims) for t in TENSORS}
    return Arrays(g, Book(), given, {})


def _numbers(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {t.name: rng.standard_normal([SIZES[s] for s in t.dims]) for t in TENSORS}


def _value(array: Array, numbers: dict[str, np.ndarray]) -> np.ndarray:
    leaves = {a: numbers[a.data] for a in walk(array) if a.op == "leaf"}
    return np.asarray(value(array, leaves, SIZES))


def _product(rng: np.random.Generator) -> tuple[Factor, ...]:
    """Two to five tensors on few indices: chains, stars, traces and lone sums alike."""
    pool = {s: [Index(f"{s}{k}", s) for k in range(2)] for s in (n, d)}
    picked = [TENSORS[int(rng.integers(len(TENSORS)))] for _ in range(int(rng.integers(2, 6)))]
    return tuple(t[tuple(pool[s][int(rng.integers(2))] for s in t.dims)] for t in picked)


@pytest.mark.parametrize("seed", range(4))
def test_products_have_the_value_of_the_expression(seed: int) -> None:
    rng, numbers, found = np.random.default_rng(seed), _numbers(seed), 0
    for _ in range(25):
        factors = _product(rng)
        present = sorted({i for f in factors for i in f.indices}, key=lambda i: i.name)
        free = tuple(i for i in present if rng.random() < 0.3)[:2]
        expression = collect(free, [(sp.Rational(3, 2), factors)])
        try:
            array = _made(Algebra()).of(expression)
        except NoArray as problem:
            assert "axes" in str(problem) or "no matrices" in str(problem)
            continue
        found += 1
        assert array.shape == tuple(i.dim for i in free)
        expected = evaluate(expression, numbers, {s: float(k) for s, k in SIZES.items()})
        np.testing.assert_allclose(_value(array, numbers), expected, rtol=1e-10, atol=1e-10)
    assert found > 15


def test_a_chain_that_ends_in_a_vector_holds_no_product_of_matrices() -> None:
    g = Algebra()
    i, j, k, l_ = (Index(name, d) for name in "ijkl")
    M, v = TENSORS[1], TENSORS[3]
    expression = collect((i,), [(sp.Integer(1), (M[i, j], M[k, j], M[k, l_], v[(l_,)]))])
    array = _made(g).of(expression)
    assert all(a.ndim == 1 for a in walk(array) if a.op == "matmul")
