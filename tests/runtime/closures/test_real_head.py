"""Heads of a trained model on its vocabulary (needs the extra `tokens` and the model)."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.tokens


def test_where_the_gaussian_picture_of_a_trained_head_holds() -> None:
    """Among Gaussian tokens the closure is right while many of them carry the weights; among the
    real ones its error grows with the scores.  All seeds are fixed."""
    pytest.importorskip("safetensors")
    pytest.importorskip("tokenizers")
    import real_head

    try:
        arrays, kept = real_head.weights()
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
    full = real_head.vocabulary(arrays, kept)
    assert full.tokens.shape == (len(kept), 385) and np.allclose(full.tokens[:, -1], 1)
    given = real_head.law(full.tokens[::6])  # a sixth of the words, its own mean and covariance
    gauss = real_head.cloud(given, len(given.tokens))
    np.testing.assert_allclose(gauss.mean(axis=0), given.mean, atol=1e-9)
    np.testing.assert_allclose(np.cov(gauss.T, bias=True), given.cov, atol=1e-9)
    keys = {"tokens": given.tokens, "cloud": gauss}
    found = {
        (number, beta): real_head.compare(given, keys, real_head.head(arrays, number, beta), 64)
        for number, beta in ((11, 0.25), (11, 1.0), (2, 1.0))
    }
    weak, trained, strong = found.values()
    # scores of size 1/2: the closure describes Gaussian tokens, and the real ones to a fifth
    assert trained["cloud"]["effective_share"] > 0.5 and trained["cloud"]["error"] < 0.1
    assert 0.05 < trained["tokens"]["error"] < 0.3
    assert weak["tokens"]["error"] < 0.4 * trained["tokens"]["error"]
    # scores of size 4: few tokens carry the weights, and nothing is described
    assert strong["cloud"]["effective_share"] < 0.01
    assert min(strong["cloud"]["error"], strong["tokens"]["error"]) > 0.4


def test_biases_travel_in_the_constant_coordinate() -> None:
    pytest.importorskip("safetensors")
    pytest.importorskip("tokenizers")
    import real_head

    try:
        arrays, kept = real_head.weights()
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
    X = real_head.vocabulary(arrays, kept[:40]).tokens
    (start,) = {k.split("self.query")[0] for k in arrays if "layer.0.attention.self.query" in k}
    get = lambda name: arrays[start + name].astype(float)  # noqa: E731
    q, k, v = (
        X[:, :-1] @ get(f"self.{n}.weight").T + get(f"self.{n}.bias")
        for n in ("query", "key", "value")
    )
    total, ours = np.zeros((40, 384)), np.zeros((40, 385))
    mixed = []
    for h in range(real_head.HEADS):
        rows = slice(32 * h, 32 * h + 32)
        e = np.exp(q[:, rows] @ k[:, rows].T / np.sqrt(32))
        mixed.append(e @ v[:, rows] / e.sum(axis=1, keepdims=True))
        found = real_head.closure.particles(
            X, real_head.head(arrays, h), t1=1e-6, steps=1, progress=False
        )
        ours += (found.x[-1] - X) / 1e-6
    total = np.concatenate(mixed, axis=1) @ get("output.dense.weight").T
    assert np.allclose(ours[:, :-1], total, atol=1e-4)
    assert np.allclose(ours[:, -1], 0)
