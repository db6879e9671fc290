"""The order of contractions is the cheapest there is, and leaves the indices that are asked for."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import sympy as sp

from derive.calculus.index.contraction_order import EXACT, chained, contraction_order, nominal
from derive.calculus.index.factors import Index

DIMS = [sp.Symbol(name, integer=True, positive=True) for name in ("queries", "d", "d_k", "H")]
Operands = list[tuple[Index, ...]]


def _random(rng: np.random.Generator, count: int) -> tuple[Operands, tuple[Index, ...]]:
    indices = [Index(f"i{k}", DIMS[int(rng.integers(4))]) for k in range(count + 1)]
    operands = [
        tuple(indices[k] for k in rng.choice(count + 1, int(rng.integers(1, 3)), replace=False))
        for _ in range(count)
    ]
    present = sorted({i for o in operands for i in o}, key=lambda i: i.name)
    output = tuple(i for i in present if rng.random() < 0.3)
    held = Counter(itertools.chain(*operands))  # what one operand has alone is summed before
    return [tuple(i for i in o if held[i] > 1 or i in output) for o in operands], output


def _cost(operands: Operands, output: tuple[Index, ...]) -> float:
    """Of the chosen order, and a check of what it leaves."""
    left, cost = dict(enumerate(operands)), 0.0
    for number, pairing in enumerate(contraction_order(operands, output), len(operands)):
        own = {*left.pop(pairing.first), *left.pop(pairing.second)}
        cost += math.prod(map(nominal, own))
        assert set(pairing.legs) == own & {*output, *itertools.chain(*left.values())}
        left[number] = pairing.legs
    ((_, legs),) = left.items()
    assert set(output) <= set(legs)
    return cost


def _least(operands: list[frozenset[Index]], output: frozenset[Index]) -> float:
    """By trying every order."""
    if len(operands) == 1:
        return 0.0
    best = math.inf
    for p, q in itertools.combinations(range(len(operands)), 2):
        rest = [s for k, s in enumerate(operands) if k not in (p, q)]
        own = operands[p] | operands[q]
        kept = own & output.union(*rest)
        step = math.prod(map(nominal, own))
        best = min(best, step + _least([*rest, kept], output))
    return best


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_no_order_is_cheaper(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(20):
        operands, output = _random(rng, count)
        least = _least([frozenset(o) for o in operands], frozenset(output))
        assert _cost(operands, output) == least


def test_many_operands_are_contracted_too() -> None:
    """Beyond the exact search; a chain that ends in a vector is contracted from that end."""
    d = DIMS[1]
    stops = [Index(f"i{k}", d) for k in range(EXACT + 4)]
    chain = [*itertools.pairwise(stops), (stops[-1],)]
    assert _cost(chain, (stops[0],)) == (len(chain) - 1) * nominal(stops[0]) ** 2


def test_of_equally_cheap_orders_the_first_operands_meet_first() -> None:
    d = DIMS[1]
    stops = [Index(f"i{k}", d) for k in range(5)]
    chain = list(itertools.pairwise(stops))
    pairs = [(p.first, p.second) for p in contraction_order(chain, (stops[0], stops[-1]))]
    assert pairs == [(0, 1), (2, 4), (3, 5)]


def test_a_chain_is_followed_from_the_first_free_index() -> None:
    d = DIMS[1]
    a, i, j, b = (Index(name, d) for name in "aijb")
    operands = [("M", (i, j)), ("R", (b, j)), ("L", (i, a))]
    assert [name for name, _ in chained(operands, (a, b))] == ["L", "M", "R"]
