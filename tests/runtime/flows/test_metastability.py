"""Bounds of how soon caps close and how long they stay, beside the tokens themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import derive


@pytest.fixture(scope="module", params=["sphere_attention", "sphere_attention_unnormalised"])
def kernel(request):
    return derive.load(request.param)


def two_caps(angle, spread, seed=0, per=3):
    rng = np.random.default_rng(seed)
    centres = np.array([[1.0, 0, 0], [np.cos(angle), np.sin(angle), 0]])
    x = np.repeat(centres, per, axis=0) + spread * rng.standard_normal((2 * per, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("beta", [6.0, 8.0])
def test_caps_have_closed_and_are_together_as_the_bounds_say(kernel, beta):
    x = two_caps(2.4, 0.03)
    params = kernel.Params(beta=beta)
    bound = kernel.metastability(x, params, spread=1e-3)
    assert bound.closes < bound.stays < np.inf
    times = np.array([0.0, bound.closes, bound.stays])
    found = kernel.solve(x, params, t1=times[-1], saves=times)
    grams = found.x @ found.x.mT
    same = bound.labels[:, None] == bound.labels
    assert grams[0][same].min() < 1 - 1e-3  # they had something to close
    assert grams[1][same].min() >= 1 - 1e-3
    assert grams[2][same].min() >= 1 - 1e-3
    toward = np.sum(found.x * bound.centres[bound.labels], axis=-1)
    assert toward.min() >= 1 - 2 * bound.width
    assert grams[:, ~same].max() <= bound.across


def test_the_bound_of_staying_is_within_some_orders_of_what_happens(kernel):
    # tokens leave in the end: the bound is no empty one
    x = two_caps(1.6, 0.01)
    params = kernel.Params(beta=5.0)
    bound = kernel.metastability(x, params)
    found = kernel.solve(x, params, t1=1000 * bound.stays, saves=200)
    toward = np.sum(found.x * bound.centres[bound.labels], axis=-1).min(axis=1)
    left = found.times[np.argmax(toward < 1 - 2 * bound.width)]
    assert bound.stays < left < 300 * bound.stays


def test_staying_grows_with_beta_as_exp_of_one_minus_the_cosine_across():
    kernel = derive.load("sphere_attention")
    x = two_caps(1.6, 0.01)
    bounds = [kernel.metastability(x, kernel.Params(beta=b)) for b in (20.0, 40.0)]
    slope = np.log(bounds[1].stays / bounds[0].stays) / 20
    least = np.cos(2 * np.arccos(1 - 2 * bounds[0].width))
    assert slope == pytest.approx(least - bounds[0].across, rel=1e-6)


def test_a_spread_below_what_others_pull_apart_is_not_promised():
    kernel = derive.load("sphere_attention")
    bound = kernel.metastability(two_caps(1.6, 0.03), kernel.Params(beta=1.0), spread=1e-6)
    assert bound.closes == np.inf


@pytest.mark.parametrize(
    ("angle", "spread", "words"),
    [(2.4, 0.9, "from its cap's centre"), (0.15, 0.05, "may touch")],
)
def test_caps_that_bound_nothing_are_refused(angle, spread, words):
    kernel = derive.load("sphere_attention")
    with pytest.raises(ValueError, match=words):
        kernel.metastability(
            two_caps(angle, spread), kernel.Params(beta=9.0), labels=[0, 0, 0, 1, 1, 1]
        )


def test_one_cap_is_refused():
    kernel = derive.load("sphere_attention")
    with pytest.raises(ValueError, match="one cap"):
        kernel.metastability(two_caps(0.1, 0.01), kernel.Params(beta=9.0))


def test_a_cap_without_a_centre_is_refused(kernel):
    x = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0]])
    with pytest.raises(ValueError, match="centre"):
        kernel.metastability(x, kernel.Params(beta=30.0), labels=[0, 0, 1, 1])


@pytest.mark.parametrize("beta", [2e4, 1e6])
def test_caps_that_do_not_close_in_any_time_floats_hold_are_not_said_to(kernel, beta):
    # tokens of a cap pull at exp(-beta/800): at beta = 2e4 the time is about 4e10
    x = np.array([[1.0, 0, 0], [1, 0.05, 0], [0, 1, 0], [0, 1, 0.05]])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found = kernel.metastability(x, kernel.Params(beta=beta))
    assert found.closes > 1e9


def test_bounds_are_those_of_float64_whatever_the_arrays_are():
    # pushes across at beta = 150 are below what float32 holds: staying is long, not for ever
    kernel = derive.load("sphere_attention")
    x, params = two_caps(2.4, 0.03).astype(np.float32), kernel.Params(beta=np.float32(150))
    found = kernel.metastability(x, params)
    assert 1e30 < found.stays < np.inf


@pytest.mark.parametrize("labels", [[np.nan, np.nan, 1, 1], [None, None, 1, 1]])
def test_labels_that_are_none_are_refused(kernel, labels):
    x = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
    with pytest.raises(ValueError, match="numbers or words"):
        kernel.metastability(x, kernel.Params(beta=30.0), labels=labels)


def test_both_times_are_those_of_the_stated_inequalities():
    # r' >= 2 p(r) (1 - r^2) - 2 L sqrt(1 - r^2) integrated by another rule; the furthest token's
    # way at L |P w|, both from the definition's softmax written out
    beta, spread = 8.0, 1e-3
    x = two_caps(2.4, 0.03)
    kernel = derive.load("sphere_attention")
    bound = kernel.metastability(x, kernel.Params(beta=beta), spread=spread)
    half = np.arccos(1 - 2 * bound.width)
    angle = np.arccos(bound.centres[0] @ bound.centres[1]) - 2 * half
    far, near = np.exp(beta * np.cos(angle)), np.exp(beta * np.cos(2 * half))
    leak = far / (far + near)  # two caps of equal mass
    assert bound.stays == pytest.approx(bound.width / (leak * np.sin(half)), rel=1e-9)

    def rate(_, r):
        own = np.exp(beta * r)
        push = own / (own + 5 * np.exp(beta))
        return 2 * push * (1 - r**2) - 2 * leak * np.sqrt(1 - r**2)

    def reached(_, r):
        return r[0] - (1 - spread)

    reached.terminal = True
    times = []
    for k in range(2):
        own = x[bound.labels == k]
        start = [(own @ own.T).min()]
        if start[0] < 1 - spread:
            way = solve_ivp(rate, (0, 1e4), start, events=reached, rtol=1e-10, atol=1e-12)
            times.append(way.t[-1])
    assert times
    assert bound.closes == pytest.approx(max(times), rel=1e-6)


def test_a_cap_that_is_closed_and_might_open_again_is_not_said_to_be_closed():
    x = two_caps(1.6, 1e-5)  # all cosines above 1 - 1e-6, and a strong pull from outside
    kernel = derive.load("sphere_attention")
    assert kernel.metastability(x, kernel.Params(beta=1.0), spread=1e-6).closes == np.inf
    assert kernel.metastability(x, kernel.Params(beta=40.0), spread=1e-6).closes == 0.0


def test_pushes_below_what_floats_hold_are_no_eternity():
    kernel = derive.load("sphere_attention")
    bound = kernel.metastability(two_caps(2.4, 1e-3), kernel.Params(beta=2e3), spread=1e-3)
    assert 1e290 < bound.stays < np.inf
