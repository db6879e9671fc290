"""Bounds of pushes within and across caps: derived with their signs, and refused without."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sympy as sp
from odd_flows import cubic_pull, gaussian_weights, repelling

from derive.methods.token_flow import metastability
from derive.methods.token_flow.derivation import derive
from derive.methods.token_flow.metastability import INSIDE
from derive.methods.token_flow.result import Absent
from derive.methods.token_flow.two_clusters import COSINE, MASS
from derive.registry import find, load


@pytest.fixture(scope="module")
def softmax():
    return derive(load(find("sphere_attention")))


def test_the_bounds_of_softmax_worked_out_by_hand(softmax):
    beta = next(iter(softmax.model.params))
    far = (1 - MASS) * sp.exp(beta * COSINE)
    others = far / (far + MASS * sp.exp(beta * INSIDE))
    near = MASS * sp.exp(beta * INSIDE)
    inside = near / (near + (1 - MASS) * sp.exp(beta))
    assert sp.simplify(softmax.caps.others - others) == 0
    assert sp.simplify(softmax.caps.inside - inside) == 0


@pytest.mark.parametrize(
    ("name", "factor"), [("others", sp.Rational(1, 2)), ("inside", sp.Integer(2))]
)
def test_a_bound_that_is_passed_is_seen(softmax, name, factor):
    def check(found):
        return metastability.by_the_text(found, softmax.names, softmax.velocity, softmax.book)

    wrong = replace(softmax.caps, **{name: factor * getattr(softmax.caps, name)})
    assert check(softmax.caps).passed
    assert not check(wrong).passed


def test_weights_nobody_shipped_have_bounds():
    assert not isinstance(derive(gaussian_weights).caps, Absent)


@pytest.mark.parametrize("definition", [cubic_pull, repelling], ids=lambda m: m.name)
def test_pushes_of_either_sign_have_none(definition):
    assert "seen" in derive(definition).caps.why
