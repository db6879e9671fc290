"""Isserlis' theorem, Gram contraction and order counting against exact product quadrature."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp

from derive.calculus.gaussian.cubature import product_rule
from derive.calculus.gaussian.expectation import contract_gram, expectation
from derive.calculus.gaussian.pairings import pairings
from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factors, Index, Tensor
from derive.calculus.limit.order import Law
from derive.calculus.limit.scaling import Scaling

M, N, K = sp.symbols("m n k", positive=True, integer=True)
G = Tensor("G", (M, N), "gaussian")
H = Tensor("H", (N, N), "gaussian")
S = Tensor("S", (M, M), "gaussian", symmetric=True)
W = Tensor("W", (M, M), "constant")
X = Tensor("X", (M, N), "state")
V = Tensor("V", (M, M), "covariance", symmetric=True)
A, B, C, D = (Index(x, M) for x in "abcd")
P, Q = Index("i", N), Index("j", N)
ONE = sp.Integer(1)
SIZES = {M: 2.0, N: 2.0, K: 2.0}


def random_monomial(rng: random.Random, gaussians: list[Tensor]) -> Expression:
    tokens = [A, B, *(Index(f"t{p}", M) for p in range(3))]
    widths = [Index(f"w{p}", N) for p in range(3)]
    count = rng.choice([2, 3, 4, 4])
    tensors = [rng.choice(gaussians) for _ in range(count)] + [W] * rng.randint(0, 2)
    factors = tuple(
        t[tuple(rng.choice(tokens if d == M else widths) for d in t.dims)] for t in tensors
    )
    used = {i for f in factors for i in f.indices}
    return collect(tuple(i for i in (A, B) if i in used), [(ONE, factors)])


def by_quadrature(expression: Expression, gaussians: list[Tensor], w: np.ndarray) -> np.ndarray:
    shapes = {t.name: tuple(int(SIZES[d]) for d in t.dims) for t in gaussians}
    degrees = {
        t.name: max(sum(f.tensor == t for f in fs) for _, fs in expression.terms) for t in gaussians
    }
    nodes, weights = product_rule(shapes, degrees)
    for tensor in gaussians:
        if tensor.symmetric:
            drawn = nodes[tensor.name]
            nodes[tensor.name] = (drawn + drawn.swapaxes(-1, -2)) / np.sqrt(2)
    values = evaluate(expression, {**nodes, "W": w}, SIZES)
    if values.ndim == len(expression.free):  # no random factor survived
        return values
    return np.tensordot(weights, values, axes=1)


@pytest.mark.parametrize("gaussians", [[G], [S], [G, S], [H]], ids=["G", "S", "GS", "H"])
def test_isserlis_equals_exact_quadrature(gaussians: list[Tensor]) -> None:
    rng = random.Random(len(gaussians))
    w = np.random.default_rng(0).standard_normal((2, 2))
    nonzero = 0
    for _ in range(40):
        monomial = random_monomial(rng, gaussians)
        ours = expectation(monomial, gaussians)
        assert not set(ours.tensors()) & set(gaussians)
        value = evaluate(ours, {"W": w}, SIZES)
        np.testing.assert_allclose(value, by_quadrature(monomial, gaussians, w), atol=1e-11)
        nonzero += bool(np.abs(value).max() > 0)
    assert nonzero > 8


def test_symmetric_gaussian_has_variance_two_on_the_diagonal_and_one_off_it() -> None:
    second = expectation(collect((A, B), [(ONE, (S[A, B], S[A, B]))]), [S])
    np.testing.assert_allclose(evaluate(second, {}, {M: 3.0}), np.ones((3, 3)) + np.eye(3))


@pytest.mark.parametrize("half, count", [(0, 1), (1, 1), (2, 3), (3, 15), (4, 105)])
def test_there_are_odd_factorially_many_pairings(half: int, count: int) -> None:
    found = list(pairings(2 * half))
    assert len(found) == len(set(found)) == count
    assert all(sorted(i for pair in p for i in pair) == list(range(2 * half)) for p in found)


def test_closed_index_loops_give_powers_of_the_dimensions() -> None:
    def mean(*factors) -> sp.Expr:  # type: ignore[no-untyped-def]
        (term,) = expectation(collect((), [(ONE, factors)]), [G, H]).terms
        return sp.factor(term[0])

    k, low = Index("k", N), Index("l", N)
    assert mean(G[A, P], G[A, P]) == M * N
    # E tr (G G^T)^2 = m n (m + n + 1)
    assert sp.expand(mean(G[A, P], G[B, P], G[B, Q], G[A, Q]) - M * N * (M + N + 1)) == 0
    # E (tr H)^2 = E tr H^2 = n, E (tr H H^T)^2 = n^2 (n^2 + 2), E tr H^4 = n^2 + 2 n
    assert mean(H[P, P], H[Q, Q]) == N
    assert mean(H[P, Q], H[Q, P]) == N
    assert sp.expand(mean(H[P, Q], H[P, Q], H[k, low], H[k, low]) - N**2 * (N**2 + 2)) == 0
    assert sp.expand(mean(H[P, Q], H[Q, k], H[k, low], H[low, P]) - (N**2 + 2 * N)) == 0
    assert not expectation(collect((), [(ONE, (G[A, P], G[B, Q], G[C, P]))]), [G]).terms


def gram(*factors, free=(A, B, C, D)) -> Factors:  # type: ignore[no-untyped-def]
    (term,) = contract_gram(collect(free, [(ONE, factors)]), X, V, N).terms
    return term


def test_gram_contraction_takes_a_width_index_that_occurs_exactly_twice() -> None:
    coefficient, factors = gram(X[A, P], X[B, P], X[C, Q], X[D, Q])
    assert coefficient == N**2
    assert {f.tensor for f in factors} == {V}
    assert {f.indices for f in factors} == {(A, B), (C, D)}


def test_gram_contraction_leaves_four_rows_on_one_width_index() -> None:
    coefficient, factors = gram(X[A, P], X[B, P], X[C, P], X[D, P])
    assert coefficient == 1
    assert [f.tensor for f in factors] == [X] * 4


def test_gram_contraction_leaves_free_indices_and_other_tensors() -> None:
    kept = collect((A, B, P), [(ONE, (X[A, P], X[B, P]))])
    assert contract_gram(kept, X, V, N) == kept
    mixed = collect((A, B), [(ONE, (X[A, P], G[B, P]))])
    assert contract_gram(mixed, X, V, N) == mixed
    three = collect((A, B, C), [(ONE, (X[A, P], X[B, P], G[C, P]))])
    assert contract_gram(three, X, V, N) == three


def test_gram_contraction_of_one_row_with_itself_is_a_variance() -> None:
    (term,) = contract_gram(collect((A,), [(ONE, (X[A, P], X[A, P]))]), X, V, N).terms
    assert term == (N, (V[A, A],))


# order counting

LAW = Law((G, H), X, V, Scaling(N, frozenset([M])), N)


def second_moment(factors: Factors, width: int, draws: int = 400) -> float:
    """Mean square of a product over its free token indices, by sampling at a literal width."""
    rng = np.random.default_rng(width)
    free = tuple(sorted({i for f in factors for i in f.indices if i.dim == M}))
    frame = np.linalg.qr(rng.standard_normal((width, 2)))[0].T * np.sqrt(width)
    rows = np.array([[1.0, 0.3], [0.0, 0.9]]) @ frame
    arrays = {"X": rows}
    arrays.update(
        {
            t.name: rng.standard_normal((draws, *(int(d) for d in shape)))
            for t, shape in ((G, (2, width)), (H, (width, width)))
            if any(f.tensor == t for f in factors)
        }
    )
    values = evaluate(collect(free, [(ONE, factors)]), arrays, {M: 2.0, N: float(width)})
    return float(np.mean(values**2))


@pytest.mark.parametrize(
    "factors, order",
    [
        ((X[A, P], X[B, P]), -2),
        ((X[A, P], H[P, Q], X[B, Q]), -2),
        ((X[A, P], G[B, P]), -1),
        ((G[A, P], G[B, P]), -2),
        ((H[P, P],), -1),
        ((H[P, Q], H[Q, P]), -2),
        ((H[P, Q], H[P, Q]), -4),
        ((X[A, P], H[P, Q], H[Index("k", N), Q], X[B, Index("k", N)]), -4),
        ((X[A, P], H[P, Q], G[B, Q]), -2),
    ],
)
def test_order_is_the_growth_of_the_second_moment(factors: Factors, order: int) -> None:
    ratio = second_moment(factors, 96) / second_moment(factors, 24)
    measured = -np.log(ratio) / np.log(4)  # moment ~ n^(-order), order in eps = n^(-1/2)
    assert abs(measured - order) < 0.3
    assert LAW.order(ONE, factors) == order
    assert LAW.order(N ** sp.Rational(-3, 2), factors) == order + 3


def test_orders_of_disconnected_cores_add_up() -> None:
    first, second = (X[A, P], G[B, P]), (H[Q, Q],)
    assert LAW.order(ONE, first + second) == LAW.order(ONE, first) + LAW.order(ONE, second)


def test_a_free_dimension_counts_in_the_worse_of_its_two_readings() -> None:
    q, r = Tensor("R", (N, K), "gaussian"), Index("r", K)
    law = Law((q,), X, V, Scaling(N, frozenset([M]), free=frozenset([K])), N)
    row = (X[A, P], q[P, r], X[B, Q], q[Q, r])
    assert law.order(ONE, row) == -4  # K grows: n^2 K^2 in the square
    assert law.order(1 / sp.sqrt(K), row) <= Fraction(-2)
    assert law.order(1 / (N * sp.sqrt(N * K)), row) <= 1


def test_truncation_keeps_what_is_at_most_of_the_order_asked_for() -> None:
    small = (X[A, P], G[B, P])
    both = collect((A, B), [(1 / N, small), (1 / N**2, (G[A, P], G[B, P]))])
    kept = LAW.up_to(both, 1)
    assert kept == collect((A, B), [(1 / N, small)])
