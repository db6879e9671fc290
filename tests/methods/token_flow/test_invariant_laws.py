"""Laws that a flow keeps in a family: which definitions, by which maps, and that tokens do so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from derive.calculus.index.expressions import Expression
from derive.errors import CheckFailed
from derive.methods.common.record import require_sound
from derive.methods.token_flow import invariant_laws
from derive.methods.token_flow.derivation import derive
from derive.methods.token_flow.instances import at, instance, tangent
from derive.methods.token_flow.invariant_laws import Family, family
from derive.notation import (
    average,
    dims,
    exp,
    integral,
    matrices,
    params,
    space,
    sphere,
    token_flow,
)

d = dims("d: token dimension")
beta = params("beta: positive")
A, V = matrices(A=(d, d), V=(d, d))


@token_flow(state="x[d]", on=sphere)
def barycentre(x, y):
    return integral(y, 1)


@token_flow(state="x[d]", on=sphere)
def scored_keys(x, y):
    """The query does not enter the weight."""
    return average(V @ y, exp(beta * (y @ (A @ y))))


@token_flow(state="x[d]", on=sphere)
def swarm(x, y):
    return integral(y, 1) + (A - A.T) @ x


@token_flow(state="x[d]", on=sphere)
def linear_attention_qkv(x, y):
    return integral(V @ y, x @ (A @ y)) + A @ x


@token_flow(state="x[d]", on=sphere)
def stretched_swarm(x, y):
    return integral(y, 1) + A @ x


@token_flow(state="x[d]", on=sphere)
def square_of_products(x, y):
    return integral(y, (x @ y) * (x @ y))


@token_flow(state="x[d]", on=sphere)
def softmax_attention(x, y):
    return average(y, exp(beta * (x @ y)))


@token_flow(state="x[d]", on=space)
def linear_in_space(x, y):
    return integral(V @ y, x @ (A @ y)) + integral(y, 1)


KEPT = {
    barycentre: "Moebius",
    scored_keys: "Moebius",
    swarm: "Moebius",
    linear_attention_qkv: "linear",
    linear_in_space: "affine",
}
LEFT = {
    stretched_swarm: "A[i,j] + A[j,i] is left",
    square_of_products: "x[a,l] x[a,p]",
    softmax_attention: "exp(beta * x[g]^T x[h])) is left",
}


def said(model):
    result = derive(model)
    require_sound(result.steps, model.name, result.facts)
    return result, [f for f in result.facts if f.kind == "invariant laws"]


@pytest.mark.parametrize("model, kind", KEPT.items(), ids=lambda m: getattr(m, "name", m))
def test_a_family_is_said_where_the_query_enters_by_one_small_group(model, kind):
    result, (fact,) = said(model)
    assert family(result.velocity, result.names).kind == kind
    assert {"Moebius": "Moebius", "linear": "F x / |F x|", "affine": "affine"}[kind] in fact


@pytest.mark.parametrize("model, term", LEFT.items(), ids=lambda m: getattr(m, "name", m))
def test_the_term_that_leaves_every_family_is_named(model, term):
    _, (fact,) = said(model)
    assert fact.startswith("tokens move by no one") and term in fact


def moved(model, result, size, t1=4.0):
    """Tokens by the text and F by F' = B F, at t1: Runge and Kutta's steps of one size."""
    one = instance(model, 5, tokens=6)
    F = np.eye(one.x.shape[1])
    found = family(result.velocity, result.names)

    def rates(state):
        now = replace(one, x=state[0])
        B = at(now, found.matrix, result.book) if getattr(found, "kind", "") == "linear" else 0 * F
        return tangent(now), B @ state[1]

    def step(state, k, h):
        return tuple(s + h * v for s, v in zip(state, k, strict=True))

    state = (one.x, F)
    for _ in range(size):
        h = t1 / size
        k1 = rates(state)
        k2 = rates(step(state, k1, h / 2))
        k3 = rates(step(state, k2, h / 2))
        k4 = rates(step(state, k3, h))
        mean = tuple((a + 2 * b + 2 * c + e) / 6 for a, b, c, e in zip(k1, k2, k3, k4, strict=True))
        state = step(state, mean, h)
    return one.x, *state


def cross_ratio(x):
    def gap(a, b):
        return np.linalg.norm(x[a] - x[b])

    return gap(0, 1) * gap(2, 3) / (gap(0, 2) * gap(1, 3))


@pytest.mark.parametrize("model", [barycentre, scored_keys, swarm], ids=lambda m: m.name)
def test_cross_ratios_of_four_tokens_stay_to_the_error_of_the_steps(model):
    result = derive(model)
    off = []
    for size in (32, 128):
        start, end, _ = moved(model, result, size)
        assert np.abs(end - start).max() > 0.1
        off.append(abs(cross_ratio(end) / cross_ratio(start) - 1))
    assert off[1] < 1e-5 and off[1] < max(off[0] / 50, 1e-12)


def test_cross_ratios_of_four_tokens_change_under_softmax_attention():
    start, end, _ = moved(softmax_attention, derive(softmax_attention), 32, 1.0)
    assert abs(cross_ratio(end) / cross_ratio(start) - 1) > 1e-3


def test_tokens_of_linear_attention_are_the_images_under_one_linear_map():
    result = derive(linear_attention_qkv)
    start, end, F = moved(linear_attention_qkv, result, 128, 2.0)
    image = start @ F.T
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    assert np.abs(end - start).max() > 0.1
    np.testing.assert_allclose(end, image, atol=1e-7)


@pytest.mark.parametrize("part", ["shift", "matrix"])
def test_a_family_with_a_part_forgotten_is_noticed(part, monkeypatch):
    right = invariant_laws.family

    def wrong(velocity, names):
        found = right(velocity, names)
        empty = Expression(getattr(found, part).free, ())
        return Family(
            found.kind,
            *(empty if name == part else getattr(found, name) for name in ("shift", "matrix")),
        )

    monkeypatch.setattr(invariant_laws, "family", wrong)
    result = derive(swarm)
    with pytest.raises(CheckFailed, match="Moebius"):
        require_sound(result.steps, "swarm", result.facts)
