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


@pytest.mark.slow
def test_a_mixture_describes_real_words_better_than_one_gaussian() -> None:
    """Scores of size one: the error of the velocity among the words falls from a third to a fifth
    with sixteen components, and to a half where scores are of size four and one law says nothing.
    """
    pytest.importorskip("safetensors")
    pytest.importorskip("tokenizers")
    import real_head
    from built_closures import built

    try:
        arrays, kept = real_head.weights()
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
    words = real_head.vocabulary(arrays, kept).tokens[::6]
    x = words[np.random.default_rng(1).choice(len(words), 64, replace=False)]
    _, module = built("mixed")
    for number, one, several in ((5, 0.25, 0.22), (2, 1.0, 0.7)):
        head = real_head.head(arrays, number)
        width = len(head.Q[0])
        found = []
        for count in (1, 16):
            theta, mean, cov = real_head.components(words, count)
            p = module.Params(
                Q=np.sqrt(width) * head.Q[0], K=head.K[0], V=head.W[0].T @ head.V[0], theta=theta
            )
            queries = np.broadcast_to(x[:, None], (len(x), len(theta), x.shape[1]))
            found.append(np.asarray(module.velocity(queries, mean, cov, p))[:, 0])
        scores = (x @ head.Q[0].T) @ (words @ head.K[0].T).T
        weight = np.exp(scores - scores.max(axis=1, keepdims=True))
        right = (weight / weight.sum(axis=1, keepdims=True)) @ words @ p.V.T
        size = np.linalg.norm(right - p.V @ words.mean(axis=0))
        alone, mixed = (float(np.linalg.norm(f - right) / size) for f in found)
        assert alone > one and mixed < several, (number, alone, mixed)


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
