"""Layers as they are written: the second route runs them, and says what the derivation says."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from derive.methods.covariance_sde.derivation import derive
from derive.notation.common.arrays import matmul, node
from derive.notation.common.graph import value
from derive.notation.common.scalars import Dim
from derive.verify.covariance_sde.independent import independent
from derive.verify.covariance_sde.references import references
from derive.verify.covariance_sde.weight_powers import weight_degrees

HEAD = """from derive.notation import *

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma = params("gamma: in (0, 1)")


def logits(X):
    return (X @ gaussian(n, n_k)) @ (X @ gaussian(n, n_k)).T / (n * sqrt(n * n_k))


def rms(X):
    return X / sqrt((X * X).mean(-1, keepdims=True))


@covariance_sde(state="X[m, n]", width=n)
def layer(X):
    {}
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ gaussian(n, n) / sqrt(n)
"""
LAYERS = {
    "cosines": ["A = eye(m) + rms(X) @ rms(X).T / n**2"],
    "the mean over units taken out": [
        "U = rms(X - X.mean(-1, keepdims=True))",
        "A = eye(m) + softmax(logits(U)) - 1 / m",
    ],
    # a sum of parts of unequal size: the softmax shows at large widths alone
    "a router": [
        "g = X @ gaussian(n) / n",
        "A = eye(m) + softmax(logits(X)) - 1 / m + g * eye(m)",
    ],
}


def result_of(folder: Path, lines: list[str]) -> Any:
    file = folder / "layer.py"
    file.write_text(HEAD.format("\n    ".join(lines)))
    spec = importlib.util.spec_from_file_location("layer_as_it_is_written", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return derive(module.layer)


# quick: the degrees of a router, below
ROUTER = pytest.param("a router", marks=pytest.mark.slow)


def test_a_small_part_beside_a_large_one_does_not_cut_the_series(tmp_path: Path) -> None:
    result = result_of(tmp_path, LAYERS["a router"])
    V0 = np.array([[1.1, 0.3], [0.3, 0.8]])
    # two scores and two values: the fourth degree twice
    assert weight_degrees(result.model, {"gamma": 0.6}, V0)[1] >= 8


@pytest.mark.parametrize("name", ["cosines", "the mean over units taken out", ROUTER])
def test_the_second_route_agrees(tmp_path: Path, name: str) -> None:
    (known,) = references(result_of(tmp_path, LAYERS[name]))
    assert independent([known]).status == "passed"
    twice = replace(known.block, drift=known.block.drift.scaled(2))
    assert independent([replace(known, block=twice)]).status == "failed"


def test_vectors_are_multiplied_behind_a_batch() -> None:
    rng, (rows, columns) = np.random.default_rng(1), (Dim("a"), Dim("b"))
    matrix, vector = (
        node("gaussian", (), s, k) for k, s in enumerate([(rows, columns), (columns,)])
    )
    left = node("gaussian", (), (rows,), 2)
    A, x, y = (rng.normal(size=(5, *s)) for s in ((3, 4), (4,), (3,)))
    leaves = {matrix: A, vector: x, left: y}
    for product, text in (
        (matmul(matrix, vector), "kab,kb->ka"),
        (matmul(left, matrix), "ka,kab->kb"),
        (matmul(left, matmul(matrix, vector)), "ka,kab,kb->k"),
    ):
        given = [leaves[a] for a in (left, matrix, vector) if a in _leaves(product)]
        assert np.allclose(value(product, leaves, {rows: 3, columns: 4}), np.einsum(text, *given))


def _leaves(array: Any) -> set[Any]:
    return {array} if not array.args else set().union(*map(_leaves, array.args))
