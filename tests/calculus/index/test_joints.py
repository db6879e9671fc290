"""Concatenation in the calculus: sums over J close by the rules of a bijection."""

from __future__ import annotations

import random

import numpy as np
import pytest

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Index, Tensor
from derive.calculus.index.joints import joint_tensor
from derive.notation import dims
from derive.notation.common.scalars import Share

n, H, m = dims("n: width", "H: heads, fixed", "m: tokens")
k = Share(n, H)
J = joint_tensor(k)
SIZES = {n: 6.0, H: 2.0, m: 2.0}
TENSORS = (
    Tensor("X", (m, n), "state"),
    Tensor("Z", (H, k), "constant"),
    Tensor("h", (H,), "constant"),
    Tensor("u", (n,), "constant"),
)
_rng = np.random.default_rng(5)
ARRAYS = {"X": _rng.standard_normal((2, 6)), "Z": _rng.standard_normal((2, 3))}
ARRAYS |= {"h": _rng.standard_normal(2), "u": _rng.standard_normal(6)}


def by_einsum(free: tuple[Index, ...], factors: tuple) -> np.ndarray:
    """The sum written out: J as an array of zeros and ones."""
    block = np.eye(6).reshape(2, 3, 6)
    letters: dict[Index, str] = {}
    words, operands = [], []
    for f in factors:
        words.append(
            "".join(letters.setdefault(i, "abcdefghijkl"[len(letters)]) for i in f.indices)
        )
        operands.append(block if f.tensor == J else ARRAYS[f.tensor.name])
    return np.einsum(",".join(words) + "->" + "".join(letters[i] for i in free), *operands)


@pytest.mark.parametrize("seed", range(400))
def test_products_with_joints_keep_their_value(seed: int) -> None:
    rng = random.Random(seed)
    pools = {d: [Index(f"{d.name}{p}", d) for p in range(2)] for d in (n, H, k, m)}
    chosen = [J] * rng.randint(1, 3) + [rng.choice(TENSORS) for _ in range(rng.randint(0, 3))]
    factors = tuple(t[tuple(rng.choice(pools[d]) for d in t.dims)] for t in chosen)
    used = sorted({i for f in factors for i in f.indices})
    free = tuple(i for i in used if rng.random() < 0.25)
    value = evaluate(collect(free, [(1, factors)]), ARRAYS, SIZES)
    np.testing.assert_allclose(value, by_einsum(free, factors), rtol=1e-12, atol=1e-12)


def test_closed_sums_hold_no_joint() -> None:
    h, i, u, w, a, b = (Index(x, d) for x, d in zip("hiuwab", (H, k, n, n, m, m), strict=True))
    X = TENSORS[0]
    both = collect((a, b), [(1, (J[h, i, u], J[h, i, w], X[a, u], X[b, w]))])
    assert both == collect((a, b), [(1, (X[a, u], X[b, u]))])
    assert collect((), [(1, (J[h, i, u],))]) == Expression((), ((n, ()),))
