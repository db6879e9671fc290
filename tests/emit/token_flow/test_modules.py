"""What is emitted of a token flow: names, memory, digits."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from odd_flows import ALL, gaussian_weights, scaled_by_dimension, two_heads_of_scores, two_roots

from derive.emit.token_flow.module import render
from derive.emit.token_flow.report import document
from derive.methods.token_flow import instances
from derive.methods.token_flow.derivation import derive
from derive.notation import dims, exp, integral, matrices, params, sphere, token_flow
from derive.site.beside import Beside
from derive.site.formats import formatted
from derive.verify.common.compare import module_of
from derive.verify.token_flow.gate import gate, params_of

d = dims("d: token dimension")
half, t_2, score_1 = matrices(half=(d, d), t_2=(d, d), score_1=(d, d))
pushes = params("pushes: positive")


@token_flow(state="x[d]", on=sphere)
def odd_names(x, y):
    return integral(half @ y, exp(pushes * (x @ (t_2 @ y)))) + score_1 @ x


def emitted(result):
    return module_of(render(result, "here.py", "here.py"), "odd_flow")


def test_the_same_definition_gives_the_same_bytes():
    assert render(derive(two_roots), "a.py", "a.py") == render(derive(two_roots), "a.py", "a.py")


@pytest.mark.parametrize("definition", ALL, ids=lambda m: m.name)
def test_every_format_says_every_finding(definition):
    result = derive(definition)
    shown = document(result)
    for form in ("text", "latex", "html", "json"):
        assert formatted(form, shown, Beside())
    text = formatted("text", shown, Beside())
    assert all(str(fact) in text for fact in result.facts)


def test_sums_over_more_keys_than_a_block_are_those_of_the_text():
    result = derive(two_roots)
    one = instances.instance(two_roots, 3, 700, 3, equal=True)
    with jax.enable_x64(True):
        found = np.asarray(emitted(result).velocity(one.x, params_of(emitted(result), one)))
    np.testing.assert_allclose(found, instances.tangent(one), rtol=1e-11, atol=1e-13)


def test_slow_rates_of_clusters_keep_their_digits():
    """Weights by distance, beta = 60: two clusters at right angles move at 2 exp(-120)."""
    result = derive(gaussian_weights)
    module = emitted(result)
    with jax.enable_x64(True):
        p = module.Params(beta=np.float64(60.0))
        rate = module.cluster_rate(np.eye(2), np.array([0.5, 0.5]), p)
    assert float(rate[0, 1]) == pytest.approx(2 * np.exp(-120.0), rel=1e-12)


def test_rates_at_equal_angles_underflow_where_they_would_overflow():
    module = emitted(derive(gaussian_weights))
    with jax.enable_x64(True):
        p = module.Params(beta=np.float64(1e4))
        assert float(module.equal_angle_rate(0.5, 8, p)) == 0.0


def test_the_dimension_in_a_number_is_a_parameter_of_reduced_rates():
    module = emitted(derive(scaled_by_dimension))
    assert "d" in module.Params._fields
    with jax.enable_x64(True):
        p = module.Params(d=np.float64(4.0))
        found = float(module.equal_angle_rate(0.3, 6, p))
    weight = np.exp((0.3 - 1) / 2)
    assert found == pytest.approx(2 * 0.7 * (5 * 0.3 + 1) * weight / (1 + 5 * weight), rel=1e-13)


def test_names_of_a_definition_do_not_meet_those_of_kernels():
    result = derive(odd_names)
    assert not [f for f in gate(result, emitted(result)) if not f.error <= f.allowed]


def test_weights_of_heads_have_an_axis_of_heads():
    result = derive(two_heads_of_scores)
    one = instances.instance(two_heads_of_scores, 5, 4, 3, equal=True)
    module = emitted(result)
    with jax.enable_x64(True):
        weights = np.asarray(module.attention_matrix(one.x, params_of(module, one)))
    assert weights.shape == (one.sizes["H"], 4, 4)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-12)
