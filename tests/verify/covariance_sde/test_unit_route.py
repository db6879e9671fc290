"""The second route for kinked and normalised blocks: what it finds, notices and does not reach.

Nothing here is random but the instances, whose seeds are fixed.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import sympy as sp
from derivations import derivation

from derive.calculus.index.expressions import Expression, collect
from derive.methods.covariance_sde.derivation import derive
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation import (
    concatenate,
    covariance_sde,
    dims,
    eye,
    gaussian,
    params,
    relu,
    softmax,
    sqrt,
    tanh,
)
from derive.notation.layers.model import Model, trace
from derive.verify.covariance_sde import references as reference_routes
from derive.verify.covariance_sde.cones import cone_rule
from derive.verify.covariance_sde.independent import independent
from derive.verify.covariance_sde.mutants import mutants
from derive.verify.covariance_sde.references import references
from derive.verify.covariance_sde.second_route import NotCovered, RouteError
from derive.verify.covariance_sde.unit_averages import UnitLayer
from derive.verify.covariance_sde.unit_route import Limits, unit_route

m, n, n_k, H = dims("m: tokens", "n: width", "n_k: key width", "H: heads, fixed")
n_h = dims("n_h: hidden width, proportional to the width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")
c_plus, c_minus = params("c_plus: real", "c_minus: real")

VALUES = {"gamma": 0.6, "tau_0": 0.7, "c_plus": 0.4, "c_minus": -1.3}
V0 = np.array([[1.3, 0.4], [0.4, 0.8]])
LINEAR = np.einsum("ac,bd->abcd", V0, V0) + np.einsum("ad,bc->abcd", V0, V0)


def shaped(h):  # type: ignore[no-untyped-def]
    a, b = 1 + c_plus / sqrt(n), 1 + c_minus / sqrt(n)
    return sqrt(2 / (a**2 + b**2)) * (a * relu(h) - b * relu(-h))


def mlp(X):  # type: ignore[no-untyped-def]
    W_1, W_2 = gaussian(n, n), gaussian(n, n)
    return sqrt(1 - gamma**2 / 3) * X + gamma * shaped(X @ W_1 / sqrt(n)) @ W_2 / sqrt(3 * n)


def attention(X):  # type: ignore[no-untyped-def]
    W_V = gaussian(n, n)
    return sqrt(1 - gamma**2 / 3) * X + gamma * mixing(X) @ X @ W_V / sqrt(3 * n)


def parallel(X):  # type: ignore[no-untyped-def]
    W_V, W_1, W_2 = gaussian(n, n), gaussian(n, n), gaussian(n, n)
    branch = mixing(X) @ X @ W_V + shaped(X @ W_1 / sqrt(n)) @ W_2
    return sqrt(1 - 2 * gamma**2 / 3) * X + gamma * branch / sqrt(3 * n)


def mixing(X):  # type: ignore[no-untyped-def]
    W_Q, W_K = gaussian(n, n_k), gaussian(n, n_k)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    return eye(m) + softmax(logits / (tau_0 * sqrt(n * n_k))) - 1 / m


def wide(X):  # type: ignore[no-untyped-def]
    W_1, W_2 = gaussian(n, n_h), gaussian(n_h, n)
    return sqrt(1 - gamma**2 / 3) * X + gamma * shaped(X @ W_1 / sqrt(n)) @ W_2 / sqrt(3 * n_h)


def transposed(X):  # type: ignore[no-untyped-def]
    W_1, W_2 = gaussian(n, n), gaussian(n, n)
    branch = (W_2 @ shaped(W_1 @ X.T / sqrt(n))).T
    return sqrt(1 - gamma**2 / 3) * X + gamma * branch / sqrt(3 * n)


def without_skip(X):  # type: ignore[no-untyped-def]
    return shaped(X @ gaussian(n, n) / sqrt(n))


def gated(X):  # type: ignore[no-untyped-def]
    W_1, W_2, W_3 = gaussian(n, n), gaussian(n, n), gaussian(n, n)
    gate = (1 + X @ W_2 / n) / sqrt(1 + 1 / n)
    return sqrt(1 - gamma**2) * X + gamma * (shaped(X @ W_1 / sqrt(n)) * gate) @ W_3 / sqrt(n)


def centred_units(X):  # type: ignore[no-untyped-def]
    W_1, W_2 = gaussian(n, n), gaussian(n, n)
    h = shaped(X @ W_1 / sqrt(n))
    return sqrt(1 - gamma**2) * X + gamma * (h - h.mean(axis=1, keepdims=True)) @ W_2 / sqrt(n)


def kinked_logits(X):  # type: ignore[no-untyped-def]
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    A = eye(m) + relu((X @ W_Q) @ (X @ W_K).T / (n * sqrt(n_k))) / n
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)


def many_keys(X):  # type: ignore[no-untyped-def]
    W_Q, W_K, W_V = gaussian(n, n_h), gaussian(n, n_h), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / (n * sqrt(n * n_h))
    A = eye(m) + softmax(logits) - 1 / m + (relu(logits) + relu(-2 * logits)) / (tau_0 * sqrt(n))
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)


def uncentred_keys(X):  # type: ignore[no-untyped-def]
    W_Q, W_K, W_V = gaussian(n, n_h), gaussian(n, n_h), gaussian(n, n)
    A = eye(m) + relu((X @ W_Q) @ (X @ W_K).T / (n * sqrt(n * n_h)))
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)


def smooth_gate(X):  # type: ignore[no-untyped-def]
    W_1, W_2, W_3 = gaussian(n, n), gaussian(n, n), gaussian(n, n)
    units = X @ W_1 / sqrt(n) * (1 + tanh(X @ W_2 / n))
    return sqrt(1 - gamma**2) * X + gamma * units @ W_3 / sqrt(n)


def side_by_side(X):  # type: ignore[no-untyped-def]
    return sqrt(1 - gamma**2) * X + gamma * concatenate(X @ gaussian(H, n, n / H)) / sqrt(n)


def too_loud(X):  # type: ignore[no-untyped-def]
    W_1, W_2 = gaussian(n, n), gaussian(n, n)
    return sqrt(1 - gamma**2) * X + gamma * relu(X @ W_1 / sqrt(n)) @ W_2 / sqrt(n)


def model(text) -> Model:  # type: ignore[no-untyped-def]
    return covariance_sde(state="X[m, n]", width=n)(text)


@cache
def limits(text) -> Limits:  # type: ignore[no-untyped-def]
    return unit_route(trace(model(text)), VALUES, V0, {"n_h": lambda n: 2 * n, "H": 2})


def derived(name: str) -> CovarianceSDE:
    return derivation(name)


@pytest.mark.parametrize("m", [1, 2])
def test_the_rule_between_the_kinks_is_exact_for_piecewise_polynomials(m: int) -> None:
    root = np.random.default_rng(m).standard_normal((m, m + 1))
    V = root @ root.T
    g, w = cone_rule(np.linalg.cholesky(V), 14, 6)
    h = g @ np.linalg.cholesky(V).T
    size = np.sqrt(np.diag(V))
    r = np.clip(V / np.outer(size, size), -1, 1)
    bends = 2 / np.pi * (np.sqrt(1 - r**2) + r * np.arcsin(r)) * np.outer(size, size)
    np.testing.assert_allclose(np.einsum("k,ka,kb->ab", w, abs(h), abs(h)), bends, atol=1e-13)
    np.testing.assert_allclose(np.einsum("k,ka,kb->ab", w, h, h), V, atol=1e-13)
    fourth = np.einsum("k,k->", w, h[:, 0] ** 4)
    np.testing.assert_allclose(fourth, 3 * V[0, 0] ** 2, rtol=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "shaped_relu_mlp",
        "shaped_smooth_mlp",
        pytest.param("shaped_smooth_mlp_gelu", marks=pytest.mark.slow),
    ],
)
def test_drift_diffusion_and_correction_are_reached_to_1e_9(name: str) -> None:
    rung = independent(references(derived(name)))
    assert rung.passed
    parts = {"drift", "diffusion", "n^(-1/2) drift", "n^(-1/2) diffusion"}
    assert set(rung.figures) == parts
    assert max(rung.figures.values()) < 1e-9
    assert float(rung.power.rpartition(" ")[2]) < 1e-7


def _changed(expression: Expression, term: int, factor: sp.Expr) -> Expression:
    terms = list(expression.terms)
    terms[term] = (factor * terms[term][0], terms[term][1])
    return collect(expression.free, terms)


@pytest.mark.parametrize("name", ["shaped_relu_mlp", "shaped_smooth_mlp"])
@pytest.mark.parametrize("part", ["drift", "diffusion"])
@pytest.mark.parametrize("factor", ["1001/1000", "as stated", "-1", "0"])
def test_a_changed_coefficient_is_caught(name: str, part: str, factor: str) -> None:
    result = derived(name)
    (block,) = result.blocks
    (reference,) = references(result)
    if factor == "as stated":
        factor = "1 + " + independent([reference]).power.rpartition(" ")[2]
    for term in range(len(getattr(block, part).terms)):
        wrong = replace(block, **{part: _changed(getattr(block, part), term, sp.sympify(factor))})
        rung = independent([replace(reference, block=wrong)])
        assert not rung.passed
        assert rung.figures[part] >= 1e-9


@pytest.mark.parametrize("error, passed", [(NotCovered, True), (RouteError, False)])
def test_a_certificate_says_why_a_block_is_not_reached(
    monkeypatch: pytest.MonkeyPatch, error: type[RouteError], passed: bool
) -> None:
    def route(*_, **__):  # type: ignore[no-untyped-def]
        raise error("the reason")

    monkeypatch.setattr(reference_routes, "unit_route", route)
    rung = independent(references(derived("shaped_relu_mlp")))
    assert rung.passed == passed
    assert rung.figures == {"not reached": "the reason"}
    assert not rung.power


def test_mutants_of_a_kinked_block_are_killed() -> None:
    rung = mutants(references(derived("shaped_relu_mlp")))
    assert rung.passed
    assert rung.figures["made"] == rung.figures["killed"] > 20


@pytest.mark.parametrize("text", [wide, transposed])
def test_other_texts_of_one_law_have_its_limit(text) -> None:  # type: ignore[no-untyped-def]
    one, two = limits(mlp), limits(text)
    np.testing.assert_allclose(two.drift, one.drift, atol=1e-11)
    # twice the hidden units halve what their sum fluctuates: gamma^4 / 9 of the linear noise
    spread = VALUES["gamma"] ** 4 / 9 * LINEAR / 2 if text is wide else 0
    np.testing.assert_allclose(two.diffusion, one.diffusion - spread, atol=1e-11)


def test_attention_and_a_kinked_mlp_side_by_side() -> None:
    one, two, both = (limits(t) for t in (attention, mlp, parallel))
    np.testing.assert_allclose(both.drift, one.drift + two.drift, atol=1e-10)
    # skip and branch noise: g (2 - g) is not additive in g, two branches of g/3 each
    double = 2 * (VALUES["gamma"] ** 2 / 3) ** 2
    np.testing.assert_allclose(
        both.diffusion, one.diffusion + two.diffusion - double * LINEAR, atol=1e-10
    )


def test_a_layer_whose_columns_are_the_units() -> None:
    """Its drift is that of the residual layer at full strength, its noise linear."""
    found = limits(without_skip)
    np.testing.assert_allclose(
        found.drift, limits(mlp).drift * 3 / VALUES["gamma"] ** 2, atol=1e-10
    )
    np.testing.assert_allclose(found.diffusion, LINEAR, atol=1e-11)


@pytest.mark.slow
def test_units_with_a_gate() -> None:
    """The gate adds to a unit's square V_aa V_bb/n, and its normaliser takes 1/n away."""
    found = limits(gated)
    g2 = VALUES["gamma"] ** 2
    plain = limits(mlp).drift * 3
    np.testing.assert_allclose(found.drift, plain + g2 * (V0**2 - V0), atol=1e-10)
    np.testing.assert_allclose(found.diffusion, limits(mlp).diffusion * 3, atol=1e-10)


def test_smooth_units_with_two_weights_are_averaged_one_at_a_time() -> None:
    """Cubature over all their weights would take minutes."""
    rung = independent(references(derive(model(smooth_gate))))
    assert rung.passed
    assert "n^(-1/2) drift" in rung.figures
    assert max(rung.figures.values()) < 1e-10


@pytest.mark.slow  # quick: test_attention_and_a_kinked_mlp_side_by_side
def test_kinked_functions_of_logits() -> None:
    """Two kinks in one matrix, beside a softmax of the same logits; and wrong coefficients."""
    result = derive(model(many_keys))
    (block,), (reference,) = result.blocks, references(result)
    rung = independent([reference])
    assert rung.passed
    assert set(rung.figures) == {"drift", "diffusion"}
    assert max(rung.figures.values()) < 1e-9
    for factor in ("1001/1000", "-1", "0"):
        for term in range(len(block.drift.terms) if factor == "1001/1000" else 1):
            wrong = _changed(block.drift, term, sp.sympify(factor))
            found = replace(reference, block=replace(block, drift=wrong))
            assert not independent([found]).passed


def test_a_kink_of_logits_that_is_too_large_has_no_limit() -> None:
    with pytest.raises(RouteError, match="grow with n"):
        limits(uncentred_keys)


@pytest.mark.parametrize(
    "text, reason",
    [
        (centred_units, "units that do not see one another"),
        (kinked_logits, "has its kink where a function of W_K, W_Q vanishes"),
        (side_by_side, "heads side by side"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_what_is_not_covered_says_so(text, reason: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NotCovered, match=reason):
        limits(text)


def test_a_layer_without_a_limit_contradicts_a_derived_one() -> None:
    with pytest.raises(RouteError, match="grow with n") as found:
        limits(too_loud)
    assert not isinstance(found.value, NotCovered)


def test_a_kink_off_zero_does_not_settle() -> None:
    def text(X):  # type: ignore[no-untyped-def]
        W_1, W_2 = gaussian(n, n), gaussian(n, n)
        h = X @ W_1 / sqrt(n)
        return X * sqrt(1 - 1 / n) + relu(h - 1) @ W_2 / n

    with pytest.raises(RouteError, match="does not settle"):
        unit_route(trace(model(text)), VALUES, V0)


def test_graph_and_text_are_one_function_of_the_width() -> None:
    """Moments at any real width, and with hidden units that are smooth."""

    def text(X):  # type: ignore[no-untyped-def]
        W_1, W_2 = gaussian(n, n), gaussian(n, n)
        s = tau_0 * sqrt(n)
        return sqrt(1 - gamma**2) * X + gamma * s * tanh(X @ W_1 / sqrt(n) / s) @ W_2 / sqrt(n)

    for definition in (text, parallel):
        layer = UnitLayer(trace(model(definition)), VALUES, V0)
        for eps in (0.21, 0.05):
            pair = zip(layer.moments(eps), layer.moments(eps, reading="text"), strict=True)
            for graph, read in pair:
                np.testing.assert_allclose(graph, read, rtol=0, atol=1e-10)
