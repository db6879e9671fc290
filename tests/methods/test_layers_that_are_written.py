"""Layers as they are written: each limit against its formula, each refusal with its reason."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from derive.calculus.index.evaluate import evaluate
from derive.errors import Refusal
from derive.methods.covariance_sde.derivation import derive

HEAD = """from derive.notation import *

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")


def scores(Q, K):
    return Q @ K.T / (tau_0 * sqrt(n * n_k))


def logits(X):
    return scores(X @ gaussian(n, n_k), X @ gaussian(n, n_k)) / n


def rms(X):
    return X / sqrt((X * X).mean(-1, keepdims=True))


@covariance_sde(state="X[m, n]", width=n)
def layer(X):
    {}
    return sqrt(1 - gamma**2) * X + gamma * A @ {} @ gaussian(n, n) / sqrt(n)
"""
GAMMA, TAU = 0.6, 0.8
SHAPED = "A = eye(m) + softmax({}) - 1 / m"


def result_of(folder: Path, *lines: str, value: str = "X") -> Any:
    file = folder / "layer.py"
    file.write_text(HEAD.format("\n    ".join(lines), value))
    spec = importlib.util.spec_from_file_location("layer_that_is_written", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return derive(module.layer)


def at(result: Any, V: np.ndarray, **arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    numbers = {s: {"gamma": GAMMA, "tau_0": TAU}.get(s.name) for s in result.model.params}
    numbers[result.law.gram.dims[0]] = float(len(V))
    known = {"V": V, **arrays}
    return tuple(evaluate(e, known, numbers) for e in (result.drift, result.diffusion))


def spd(m: int) -> np.ndarray:
    a = np.random.default_rng(m).normal(size=(m, m + 2))
    return a @ a.T / (m + 2)


def limit(V: np.ndarray, K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drift and diffusion of softmax(Y) - 1/m for scores of covariance K[a, n, b, k] / n."""
    m = len(V)
    H = np.eye(m) - 1 / m
    second = np.einsum("anbk,np,kq->apbq", K, H, H) / m**2
    own, C = np.einsum("anan->an", K), np.zeros((m, m))
    C += (own - own.mean(1, keepdims=True)) / 2 - np.einsum("anak->an", K) / m
    C = (C + np.einsum("anak->a", K)[:, None] / m**2) / m
    b = np.einsum("anbk,nk->ab", second, V) + C @ V + V @ C.T
    P = np.einsum("anck,nb,kd->abcd", second, V, V)
    P = P + P.transpose(1, 0, 2, 3)
    P = P + P.transpose(0, 1, 3, 2)
    lin = np.einsum("ac,bd->abcd", V, V) + np.einsum("ad,bc->abcd", V, V)
    return GAMMA**2 * b, GAMMA**2 * (2 - GAMMA**2) * lin + GAMMA**4 * P


def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.einsum("ab,nk->anbk", first, second) / TAU**2


def cosines(V: np.ndarray) -> np.ndarray:
    return V / np.sqrt(np.outer(np.diag(V), np.diag(V)))


BIASED = "X @ gaussian(n, n_k) / sqrt(n) + gaussian(n_k)"
PLAIN = "X @ gaussian(n, n_k) / sqrt(n)"
SCORES = {
    "biases of queries and keys": (
        [f"Q, K = {BIASED}, {BIASED}", SHAPED.format("scores(Q, K)")],
        lambda V: product(V + 1, V + 1),
    ),
    "a bias of queries": (
        [f"Q, K = {BIASED}, {PLAIN}", SHAPED.format("scores(Q, K)")],
        lambda V: product(V + 1, V),
    ),
    "a bias of every pair of tokens": (
        [SHAPED.format("logits(X) + gaussian(m, m) / sqrt(n)")],
        lambda V: product(V, V) + product(np.eye(len(V)), np.eye(len(V))) * TAU**2,
    ),
    "LayerNorm, the mean over units taken out": (
        ["U = rms(X - X.mean(-1, keepdims=True))", SHAPED.format("logits(U)")],
        lambda V: product(cosines(V), cosines(V)),
    ),
    "one norm for all tokens": (
        ["U = X / sqrt((X * X).mean())", SHAPED.format("logits(U)")],
        lambda V: product(V, V) / np.diag(V).mean() ** 2,
    ),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_of_tokens_as_they_are_prepared(tmp_path: Path, name: str) -> None:
    lines, covariance = SCORES[name]
    result = result_of(tmp_path, *lines)
    for m in (2, 3):
        V = spd(m)
        for got, right in zip(at(result, V), limit(V, covariance(V)), strict=True):
            assert np.abs(got - right).max() < 1e-11 * np.abs(right).max(), (name, m)
    assert (result.noise.covariance() - result.diffusion).is_zero


def test_scores_times_given_numbers_turn_positions(tmp_path: Path) -> None:
    lines = [
        'C, S = constant("C: cosines", m), constant("S: sines", m)',
        SHAPED.format("C * logits(X) + S * logits(X)"),
    ]
    result, V = result_of(tmp_path, *lines), spd(3)
    turn = np.subtract.outer(np.arange(3.0), np.arange(3.0))
    C, S = np.cos(turn), np.sin(turn)
    K = product(V, V) * (np.einsum("an,bk->anbk", C, C) + np.einsum("an,bk->anbk", S, S))
    for got, right in zip(at(result, V, C=C, S=S), limit(V, K), strict=True):
        assert np.abs(got - right).max() < 1e-11 * np.abs(right).max()


def test_cosines_of_tokens_stand_outside_logits_too(tmp_path: Path) -> None:
    result, V = result_of(tmp_path, "A = eye(m) + rms(X) @ rms(X).T / n**2"), spd(3)
    R = cosines(V)
    assert np.abs(at(result, V)[0] - GAMMA**2 * (R @ V + V @ R)).max() < 1e-12


def test_the_mean_over_units_falls_out_like_one_over_the_width() -> None:
    rng, off = np.random.default_rng(5), []
    for n in (64, 1024, 16384):
        X = rng.normal(size=(64, 3, n))
        U = X - X.mean(-1, keepdims=True)
        grams = (x @ x.swapaxes(1, 2) / n for x in (X, U))
        first, second = (cosines_of(V) for V in grams)
        off.append(float(np.sqrt(((first - second) ** 2).mean())))
    assert 10 < off[0] / off[1] < 25 and 10 < off[1] / off[2] < 25


def cosines_of(V: np.ndarray) -> np.ndarray:
    size = np.sqrt(np.einsum("paa->pa", V))
    return V / size[:, :, None] / size[:, None, :]


def test_a_mean_that_would_count_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="one part in n"):
        result_of(tmp_path, "U = X - X.mean(-1, keepdims=True)", "A = eye(m)", value="U")


def test_norms_that_relax_are_the_reason_of_a_branch_that_normalises(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="norms of the tokens are fast"):
        result_of(tmp_path, "U = rms(X)", SHAPED.format("logits(U)"), value="U")


def test_weights_too_large_are_told_from_activations_that_do_not_vanish(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"X @ W / sqrt\(n\)"):
        result_of(tmp_path, "A = eye(m)", value="X * sqrt(n)")


@pytest.mark.slow
def test_powers_of_scores_cost_seconds(tmp_path: Path) -> None:
    start = time.process_time()
    with pytest.raises(Refusal, match="n_k"):
        result_of(tmp_path, "Y = logits(X) * n**Rational(1, 2)", SHAPED.format("Y**3 / sqrt(n)"))
    assert time.process_time() - start < 30
