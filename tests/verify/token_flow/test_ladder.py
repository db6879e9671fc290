"""The gate and the rungs of token flows notice a kernel that is wrong."""

from __future__ import annotations

import pytest
from odd_flows import (
    attraction,
    cubic_pull,
    gaussian_weights,
    strictly_before,
    two_roots,
    values_in_space,
)

from derive.emit.token_flow.module import render
from derive.methods.token_flow.derivation import derive
from derive.verify.common.compare import module_of
from derive.verify.token_flow.definition import definition
from derive.verify.token_flow.gate import gate
from derive.verify.token_flow.invariants import invariants
from derive.verify.token_flow.limit_objects import limit_objects
from derive.verify.token_flow.mutants import mutants
from derive.verify.token_flow.second_route import second_route
from derive.verify.token_flow.solver import reduced, solver


def emitted(result, old="", new=""):
    text = render(result, "here.py", "here.py")
    assert not old or text.count(old) >= 1, old
    return module_of(text.replace(old, new) if old else text, "odd_flow")


def wrong(result, module):
    return {f.name.partition(",")[0] for f in gate(result, module) if not f.error <= f.allowed}


@pytest.fixture(scope="module")
def softmax():
    return derive(gaussian_weights)


def test_right_kernels_pass_their_gate(softmax):
    for definition_ in (cubic_pull, strictly_before, two_roots, attraction):
        result = derive(definition_)
        assert not wrong(result, emitted(result)), definition_.name
    assert not wrong(softmax, emitted(softmax))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("2 * beta", "beta", {"velocity", "attention_matrix", "cluster_rate", "gram_rate"}),
        ("tangent(weighted", "(lambda v, x: v)(weighted", {"velocity"}),
        ("with_transpose(half)", "half", {"cluster_rate", "gram_rate"}),
        ("rate(rho, n, params):", "rate(r, n, params):\n    rho = r + 1e-9", {"equal_angle_rate"}),
        ("growth_rate(lambda t: ", "growth_rate(lambda t: 1.01 * ", {"growth"}),
        ("1 / (4 * beta)", "1 / (2 * beta)", {"energy"}),
    ],
)
def test_a_broken_line_is_refused_by_the_gate(softmax, old, new, named):
    assert named <= wrong(softmax, emitted(softmax, old, new))


@pytest.fixture(scope="module")
def in_space():
    return derive(values_in_space)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("    return V\n", "    return V.T\n", {"frame_matrix", "rescaled_velocity"}),
        ("    return A\n", "    return A.T\n", {"score_matrix"}),
        ("(lambda x: attention_matrix(x, params)", "(lambda x: 0 * x @ x.T", {"rescaled_velocity"}),
    ],
)
def test_a_broken_matrix_of_an_average_is_refused_by_the_gate(in_space, old, new, named):
    assert not wrong(in_space, emitted(in_space))
    assert named <= wrong(in_space, emitted(in_space, old, new))


def test_limits_that_are_told_wrongly_fail_their_rung(in_space):
    right = limit_objects(in_space, emitted(in_space))
    assert right.passed, right
    assert {"hyperplanes", "one hyperplane", "polytope", "leaders"} <= set(right.figures)
    opposite = emitted(in_space, "    score=score_matrix,", "    score=lambda x, p: -p.A,")
    found = limit_objects(in_space, opposite)
    assert not found.passed and "told wrongly" in found.figures


def test_a_function_that_nothing_compares_is_refused(softmax):
    module = emitted(softmax, "def gram_rate(", "def another(x):\n    return x\n\n\ndef gram_rate(")
    assert any("another" in f.name and f.error > f.allowed for f in gate(softmax, module))


def test_rungs_pass_for_right_kernels_and_fail_for_broken_ones():
    result = derive(cubic_pull)
    right = emitted(result)
    for rung in (second_route, invariants, solver, reduced):
        assert rung(result, right).status == "passed", rung.__name__
    assert definition(result).status == "passed"
    slower = emitted(result, "velocity=velocity", "velocity=lambda x, p: 0.999 * velocity(x, p)")
    assert solver(result, slower).failed and reduced(result, slower).failed
    turned = emitted(result, "return tangent(", "return x[:, :1] * tangent(")
    assert second_route(result, turned).failed and invariants(result, turned).failed


def test_every_broken_term_is_caught_by_the_text():
    rung = mutants(derive(cubic_pull))
    assert rung.status == "passed" and rung.figures["mutants"] > 40
