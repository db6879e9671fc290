"""Particle systems come to their closures like N^(-1/2); where few tokens carry the weights, only
the tilted estimator does."""

from __future__ import annotations

import numpy as np
import particle_laws as laws
import pytest

SIZES = (200, 400, 800, 1600)


@pytest.mark.parametrize(
    "model",
    ["linear_closure", pytest.param("multihead_softmax_closure", marks=pytest.mark.slow)],
)
def test_error_falls_from_few_to_many_tokens(model: str) -> None:
    """Four times the tokens, half the error: rms of 64 systems each, known to 10 %; allowed
    1.4 to 2.8, some 3.5 standard errors: false alarm below 1e-3, with fixed seeds none."""
    few, many = (laws.rms(laws.errors(model, n, 64))[0] for n in (100, 400))
    assert np.all((few / many > 1.4) & (few / many < 2.8))


@pytest.mark.slow
@pytest.mark.parametrize("model", laws.MODELS)
def test_errors_fall_like_the_root_of_the_number_of_tokens(model: str) -> None:
    """Slope of log rms error, 200 to 1600 tokens: -1/2 within four standard errors.

    False alarm 1.3e-4 a model and moment (eight models, two moments: 1e-3), none with these seeds.
    Masked attention has a logarithm beside: its first tokens see few others.
    """
    sizes = SIZES[:-1] if model == "sinkhorn_closure" else SIZES
    found = laws.slope({n: laws.errors(model, n, laws.replicas(n)) for n in sizes})
    assert np.all(found.error < 0.08), "too few systems to tell"
    assert np.all(np.abs(found.value + 0.5) < 4 * found.error), found


def test_slope_of_a_wrong_closure_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A covariance that is 10 % off stops the fall: the test above would see it."""
    right = laws.closed

    def wrong(task: laws.Problem, model: str) -> tuple[np.ndarray, np.ndarray]:
        mean, cov = right(task, model)
        return mean, 1.1 * cov

    monkeypatch.setattr(laws, "closed", wrong)
    found = laws.slope({n: laws.errors("linear_closure", n, 64) for n in (200, 800, 1600)})
    assert found.value[1] + 0.5 > 4 * found.error[1]
    assert abs(found.value[0] + 0.5) < 4 * found.error[0]


@pytest.mark.parametrize("a", [0.5, 1.5])
def test_tilted_keys_follow_the_closure_where_the_tokens_themselves_do_not(a: float) -> None:
    """One softmax step, S = I, A = a I, V = I: S' = 2 a I.

    Whitened clouds of 2000 tokens: the tilted estimator has a spread below 0.5 % of the trace;
    the plain one is biased by more than 5 % at a = 1.5, as few tokens carry the weights.
    """
    A, exact, rng = a * np.eye(laws.D), 2 * a * laws.D, np.random.default_rng(4)
    rows = []
    for _ in range(4):
        x = rng.standard_normal((2000, laws.D))
        x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
        plain, tilted = laws.plain_rate(x, A), laws.tilted_rate(x, A, rng)
        share = np.median(laws.effective_share(x, A))
        rows.append([np.trace(plain) / exact - 1, np.trace(tilted) / exact - 1, share])
    plain, tilted, share = np.mean(rows, axis=0)
    assert abs(tilted) < 0.02
    if a < 0.7:
        assert abs(plain) < 0.03 and share > 0.3
    else:
        assert plain < -0.05 and share < 0.05
