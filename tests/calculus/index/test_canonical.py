"""The canonical form decides equality of products, against brute force; indices stay apart.

Brute force: two products are equal iff some renaming of the dummies, some order of the factors and
some order of the slots of symmetric tensors turns one into the other.  Here the order of factors
and of symmetric slots is removed by sorting, and all renamings of dummies are tried.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import numpy as np
import pytest
import sympy as sp

from derive.calculus.index.canonical import canonical
from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression, collect, single
from derive.calculus.index.factors import Factor, Index, Tensor, delta_tensor

M, N = sp.symbols("m n", positive=True, integer=True)
V = Tensor("V", (M, M), "covariance", symmetric=True)
W = Tensor("W", (M, M), "constant")
X = Tensor("X", (M, N), "state")
U = Tensor("u", (M,), "constant")
C = Tensor("C", (M, M, M), "constant", symmetric=True)
A, B = Index("a", M), Index("b", M)
FREE = (A, B)
ONE = sp.Integer(1)


def dummies_of(factors: Iterable[Factor], free: tuple[Index, ...]) -> list[Index]:
    return sorted({i for f in factors for i in f.indices} - set(free))


def brute(factors: tuple[Factor, ...], free: tuple[Index, ...]) -> tuple:
    """Smallest description over every renaming of the dummies, dimension by dimension."""
    found = dummies_of(factors, free)
    assert len(found) <= 6
    best = None
    for order in itertools.permutations(range(len(found))):
        names = {i: f"{i.dim}{p}" for i, p in zip(found, order, strict=True)}
        words = []
        for factor in factors:
            slots = [names.get(i, f".{i.name}") for i in factor.indices]
            if factor.tensor.symmetric:
                slots.sort()
            words.append((factor.tensor.name, *slots))
        words.sort()
        if best is None or words < best:
            best = words
    return tuple(best or ())


def scrambled(
    factors: tuple[Factor, ...], free: tuple[Index, ...], rng: random.Random
) -> tuple[Factor, ...]:
    """The same product with new dummy names, another order of factors and of symmetric slots."""
    found = dummies_of(factors, free)
    names = [f"z{p}" for p in range(len(found))]
    rng.shuffle(names)
    to = {i: Index(name, i.dim) for i, name in zip(found, names, strict=True)}
    out = []
    for factor in factors:
        slots = list(factor.rename(to).indices)
        if factor.tensor.symmetric:
            rng.shuffle(slots)
        out.append(Factor(factor.tensor, tuple(slots)))
    rng.shuffle(out)
    return tuple(out)


def random_product(rng: random.Random) -> tuple[Factor, ...]:
    """One to five factors on few names: repeats, free diagonals and loose parts are common."""
    tokens = [A, B, *(Index(f"t{p}", M) for p in range(rng.randint(1, 4)))]
    widths = [Index(f"w{p}", N) for p in range(rng.randint(1, 2))]
    out = []
    for _ in range(rng.randint(1, 5)):
        tensor = rng.choice([V, V, W, X, U, C])
        out.append(tensor[tuple(rng.choice(tokens if d == M else widths) for d in tensor.dims)])
    return tuple(out)


def graph(tensor: Tensor, edges: Iterable[tuple[int, int]]) -> tuple[Factor, ...]:
    return tuple(tensor[Index(f"t{i}", M), Index(f"t{j}", M)] for i, j in edges)


def cycle(*nodes: int) -> list[tuple[int, int]]:
    return list(zip(nodes, (*nodes[1:], nodes[0]), strict=True))


K33 = [(i, j) for i in range(3) for j in range(3, 6)]
PRISM = [*cycle(0, 1, 2), *cycle(3, 4, 5), (0, 3), (1, 4), (2, 5)]
# regular, so that refinement sees nothing, but its nodes are of three kinds
DOUBLED = [(0, 1), (0, 1), (0, 2), (1, 3), (2, 4), (2, 5), (3, 4), (3, 5), (4, 5)]
RANDOM = [random_product(random.Random(seed)) for seed in range(250)]


@pytest.mark.parametrize("seed", range(4))
def test_keys_are_equal_exactly_when_brute_force_says_so(seed: int) -> None:
    rng = random.Random(1000 + seed)
    products = RANDOM[seed::4]
    products = products + [scrambled(p, FREE, rng) for p in products]
    classes: dict[tuple, set] = {}
    back: dict[tuple, set] = {}
    for product in products:
        key, truth = canonical(product, FREE)[0], brute(product, FREE)
        classes.setdefault(truth, set()).add(key)
        back.setdefault(key, set()).add(truth)
    assert all(len(keys) == 1 for keys in classes.values())
    assert all(len(truths) == 1 for truths in back.values())
    assert len(classes) > 50


def test_the_normal_product_is_the_product_it_came_from() -> None:
    rng = random.Random(5)
    for product in RANDOM[:120]:
        key, normal = canonical(product, FREE)
        assert brute(normal, FREE) == brute(product, FREE)
        assert canonical(scrambled(product, FREE, rng), FREE) == (key, normal)
        assert canonical(normal, FREE) == (key, normal)


@pytest.mark.parametrize("tensor", [V, W], ids=["symmetric", "plain"])
@pytest.mark.parametrize(
    "one, other",
    [
        (cycle(0, 1, 2, 3, 4, 5), [*cycle(0, 1, 2), *cycle(3, 4, 5)]),
        (K33, PRISM),
        (DOUBLED, K33),
        (cycle(0, 1, 2, 3), [*cycle(0, 1), *cycle(2, 3)]),
        ([(0, 1), (2, 3), (4, 5)], [(0, 1), (1, 2), (4, 5)]),
        ([(0, 0), (1, 1)], [(0, 1), (1, 0)]),
    ],
    ids=[
        "hexagon/triangles",
        "K33/prism",
        "doubled/K33",
        "square/pairs",
        "loose/joined",
        "loops/pair",
    ],
)
def test_regular_graphs_that_refinement_cannot_split_are_told_apart(
    tensor: Tensor, one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    rng = random.Random(3)
    first, second = graph(tensor, one), graph(tensor, other)
    assert brute(first, ()) != brute(second, ())
    assert canonical(first, ())[0] != canonical(second, ())[0]
    for product in (first, second):
        for _ in range(20):
            again = scrambled(product, (), rng)
            assert canonical(again, ()) == canonical(product, ())


def test_orientation_counts_for_plain_tensors_alone() -> None:
    i, j = Index("i", M), Index("j", M)
    assert canonical((W[A, i], W[i, B]), FREE)[0] != canonical((W[i, A], W[i, B]), FREE)[0]
    assert canonical((V[A, i], V[i, B]), FREE) == canonical((V[j, A], V[B, j]), FREE)
    # directed six-cycles that differ in one arrow
    ring = cycle(0, 1, 2, 3, 4, 5)
    turned = [*ring[:-1], (0, 5)]
    assert canonical(graph(W, ring), ())[0] != canonical(graph(W, turned), ())[0]
    assert canonical(graph(V, ring), ())[0] == canonical(graph(V, turned), ())[0]


def test_dummies_of_two_dimensions_are_never_exchanged() -> None:
    i, j = Index("i", M), Index("j", N)
    other = Tensor("Y", (N, M), "constant")
    assert canonical((X[i, j],), ())[0] != canonical((other[j, i],), ())[0]
    square = Tensor("Q", (M, M), "constant")
    wide = Tensor("Q", (N, N), "constant")
    k = Index("k", N)
    assert canonical((square[i, i],), ())[0] != canonical((wide[k, k],), ())[0]


# index hygiene


def vector(index: Index) -> Expression:
    return single(U[(index,)], (index,))


def test_square_of_a_sum_is_not_the_sum_of_squares() -> None:
    total = vector(A).summed(A)
    squares = (vector(A) * vector(A)).summed(A)
    assert not (total * total - squares).is_zero
    u = np.array([1.0, 2.0, -5.0])
    numbers = {M: 3.0}
    np.testing.assert_allclose(evaluate(total * total, {"u": u}, numbers), 4.0)
    np.testing.assert_allclose(evaluate(squares, {"u": u}, numbers), 30.0)
    np.testing.assert_allclose(evaluate(total * total * total, {"u": u}, numbers), -8.0)


def test_powers_of_a_row_sum_keep_the_row_free_until_they_are_taken() -> None:
    array = np.random.default_rng(0).standard_normal((3, 3))
    row = single(W[A, B], FREE).summed(B)
    cubed = (row * row * row).summed(A)
    value = evaluate(cubed, {"W": array}, {M: 3.0})
    np.testing.assert_allclose(value, (array.sum(1) ** 3).sum(), rtol=1e-13)


def test_a_product_with_a_factor_named_like_a_dummy_is_not_captured() -> None:
    k = Index("k", M)
    inner = collect((A,), [(ONE, (W[A, k],))])  # sum_k W_ak
    outer = single(U[(k,)], (k,))  # u_k, k free
    product = (inner * outer).summed(k)
    array, u = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 1.0])
    value = evaluate(product, {"W": array, "u": u}, {M: 2.0})
    np.testing.assert_allclose(value, array.sum(1) * u.sum())
    renamed = inner.renamed({A: k})  # the free name becomes that of the old dummy
    np.testing.assert_allclose(evaluate(renamed, {"W": array}, {M: 2.0}), array.sum(1))


def test_renaming_two_to_one_takes_a_diagonal() -> None:
    array = np.random.default_rng(1).standard_normal((3, 3))
    full = single(W[A, B], FREE)
    diagonal = full.renamed({B: A})
    assert diagonal.free == (A,)
    np.testing.assert_allclose(evaluate(diagonal, {"W": array}, {M: 3.0}), np.diag(array))
    trace = evaluate(diagonal.summed(A), {"W": array}, {M: 3.0})
    np.testing.assert_allclose(trace, np.trace(array))


def test_renaming_is_simultaneous() -> None:
    array = np.random.default_rng(2).standard_normal((3, 3))
    swapped = single(W[A, B], FREE).renamed({A: B, B: A})
    assert swapped.free == (B, A)
    np.testing.assert_allclose(evaluate(swapped, {"W": array}, {M: 3.0}), array)
    again = collect(FREE, swapped.terms)
    np.testing.assert_allclose(evaluate(again, {"W": array}, {M: 3.0}), array.T)


def test_a_sum_over_an_index_that_a_term_does_not_carry_counts_the_dimension() -> None:
    constant = collect((A,), [(ONE, ())]) + vector(A)
    assert constant.summed(A) - vector(A).summed(A) == collect((), [(sp.sympify(M), ())])


@pytest.mark.parametrize(
    "edges, power",
    [
        ([(0, 0)], 1),
        ([(0, 1)], 1),
        ([(0, 1), (1, 0)], 1),
        ([(0, 1), (1, 2), (2, 0)], 1),
        ([(0, 0), (1, 1)], 2),
        ([(0, 1), (1, 0), (2, 3), (3, 2)], 2),
        ([(0, 1), (1, 2)], 1),
    ],
)
def test_closed_loops_of_deltas_give_powers_of_the_dimension(
    edges: list[tuple[int, int]], power: int
) -> None:
    assert collect((), [(ONE, graph(delta_tensor(M), edges))]).terms == ((M**power, ()),)


def test_deltas_rename_bound_indices_and_stay_between_free_ones() -> None:
    i, j = Index("i", M), Index("j", M)
    delta = delta_tensor(M)
    assert collect(FREE, [(ONE, (delta[A, i], W[i, j], delta[j, B]))]) == single(W[A, B], FREE)
    assert collect((A,), [(ONE, (delta[A, i], W[i, A]))]) == collect((A,), [(ONE, (W[A, A],))])
    kept = collect(FREE, [(ONE, (delta[A, B],))])
    np.testing.assert_array_equal(evaluate(kept, {}, {M: 3.0}), np.eye(3))
    assert collect((A,), [(ONE, (delta[A, A],))]) == collect((A,), [(ONE, ())])
    # sum_i delta_ai delta_bi = delta_ab, and through a chain
    assert collect(FREE, [(ONE, (delta[A, i], delta[i, j], delta[j, B]))]) == kept


def test_coefficients_that_cancel_as_rational_functions_leave_no_term() -> None:
    g = sp.Symbol("gamma", real=True)
    u = vector(A)
    cancelling = [1 / (g + 1) - 1 / (g - 1), 2 / (g**2 - 1)]
    assert collect((A,), [(c, f) for c in cancelling for _, f in u.terms]).is_zero
    assert collect((A,), [(c, f) for c in (g, -g + 1) for _, f in u.terms]) == u
