"""Random attention of order-one scores derives and agrees with the text, or is refused truly."""

from __future__ import annotations

import numpy as np
import pytest
import random_attention_layers as layers
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.calculus.limit import mixtures
from derive.errors import CheckFailed, Refusal
from derive.methods.common.record import require_sound
from derive.methods.covariance_sde import score_limits
from derive.methods.covariance_sde.derivation import derive
from derive.mutants.breaks import unframed
from derive.verify.covariance_sde.independent import independent
from derive.verify.covariance_sde.mutants import mutants
from derive.verify.covariance_sde.references import references

DERIVED = ("one_head", "two_kinds", "masked", "beside_fixed_scores", "beside_plain_values")


@pytest.mark.parametrize("name", DERIVED)
def test_the_equations_are_those_of_the_text_at_held_attentions(name):
    result = derive(getattr(layers, name))
    require_sound(result.steps, name, result.facts)
    known = references(result)
    rung = independent(known)
    assert rung.passed and not rung.unreached, rung.figures
    assert mutants(known).passed


@pytest.mark.parametrize(
    "name, reason",
    [
        ("without_values", "its values must be random too"),
        ("product_scores", "not linear in one Gaussian weight"),
        ("shared_weight", "stand in another part of the layer too"),
        ("shared_values", "stand in another part of the layer too"),
    ],
)
def test_what_the_second_moment_does_not_decide_is_refused(name, reason):
    with pytest.raises(Refusal, match=reason):
        derive(getattr(layers, name))


@pytest.mark.parametrize(
    "name, words", [("one_head", "small scores"), ("one_head", "without bound")]
)
def test_closed_forms_are_said_of_a_softmax(name, words):
    assert any(words in fact for fact in derive(getattr(layers, name)).facts)


def test_no_winner_is_said_where_scores_have_a_mean_or_are_not_compared():
    for name in ("beside_fixed_scores", "masked"):
        assert not any("without bound" in f for f in derive(getattr(layers, name)).facts)


def test_a_wrong_series_for_small_scores_is_noticed(monkeypatch):
    right = score_limits.small_scores

    def wrong(one, law):
        none, second = right(one, law)
        return none, second.scaled(sp.Rational(101, 100))

    monkeypatch.setattr(score_limits, "small_scores", wrong)
    result = derive(layers.one_head)
    with pytest.raises(CheckFailed, match="small scores"):
        require_sound(result.steps, "one_head", result.facts)


def test_a_wrong_correlation_of_scores_is_noticed(monkeypatch):
    monkeypatch.setattr(score_limits, "_correlation", lambda one, law: score_limits.CORRELATION / 2)
    result = derive(layers.one_head)
    with pytest.raises(CheckFailed, match="without bound"):
        require_sound(result.steps, "one_head", result.facts)


def test_a_mean_that_forgets_the_frame_is_noticed(monkeypatch):
    """Scores G for L G L^T: another C, which attentions drawn by the graph contradict."""
    monkeypatch.setattr(mixtures, "_one_head", unframed(mixtures._one_head))
    with pytest.raises(CheckFailed):
        result = derive(layers.one_head)
        require_sound(result.steps, "one_head", result.facts)


def test_a_step_with_drawn_attention_has_the_mean_of_the_equations():
    """Averaged over the attentions that it draws and their normals, by pairs of opposite sign."""
    from derive.verify.covariance_sde.gate import congruence_step

    result = derive(layers.one_head)
    rng, V = np.random.default_rng(3), np.array([[1.0, 0.4], [0.4, 1.0]])
    numbers = {s: 1.0 for s in result.model.params} | {result.law.gram.dims[0]: 2.0}
    numbers |= {result.model.width: 5.0}
    h, count = 1e-3, 4000
    L = np.linalg.cholesky(V)
    samples = []
    for _ in range(count):
        G, own = rng.standard_normal((2, 2, 2))
        pair = [
            congruence_step(result, {"V": V, "L": L, "G_1": s * G, "G_2": own}, h, numbers)
            for s in (1, -1)
        ]
        samples.append((sum(pair) / 2 - V)[0, 1] / h)
    target = evaluate(result.drift, {"V": V}, numbers)[0, 1]
    error = np.std(samples) / np.sqrt(count)
    assert abs(np.mean(samples) - target) < 4 * error + 0.02 * abs(target)
    assert error < 0.05
