"""The largest exponents of a push: derived where one is the largest everywhere, else refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sympy as sp
from odd_flows import cubic_pull, gaussian_weights, repelling

from derive.methods.token_flow import slow_motion
from derive.methods.token_flow.derivation import derive
from derive.methods.token_flow.result import Absent
from derive.methods.token_flow.slow_motion import OTHER, OWN
from derive.methods.token_flow.two_clusters import COSINE
from derive.registry import find, load


@pytest.fixture(scope="module")
def softmax():
    return derive(load(find("sphere_attention")))


def test_softmax_worked_out_by_hand(softmax):
    found = softmax.slow_motion
    assert (found.height, found.weight) == (COSINE - 1, OTHER / OWN)
    assert sp.simplify(found.share - OTHER**2 / (OWN**2 + OTHER**2)) == 0


def test_a_normalised_gaussian_has_twice_the_height():
    assert sp.expand(derive(gaussian_weights).slow_motion.height - 2 * (COSINE - 1)) == 0


@pytest.mark.parametrize(
    "wrong",
    [{"height": COSINE - sp.Rational(9, 10)}, {"weight": OWN / OTHER}, {"weight": 2 * OTHER / OWN}],
    ids=str,
)
def test_a_wrong_limit_is_seen(softmax, wrong):
    assert slow_motion.by_the_text(softmax.slow_motion, softmax.names).passed
    off = replace(softmax.slow_motion, **wrong)
    assert not slow_motion.by_the_text(off, softmax.names).passed


def test_clusters_that_push_each_other_away_are_not_said_to_merge():
    assert "pull each other" in derive(repelling).slow_motion.why


def test_polynomial_pushes_have_no_large_parameter():
    found = derive(cubic_pull).slow_motion
    assert isinstance(found, Absent)
