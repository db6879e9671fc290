"""The gate sees a manoeuvre that is wrong."""

from __future__ import annotations

import pytest
from steered_flows import plain

from derive.emit.token_flow.module import render
from derive.methods.token_flow.derivation import derive
from derive.runtime.flows import manoeuvres as runtime
from derive.verify.common.compare import module_of, strict_jax
from derive.verify.token_flow.gate import params_of
from derive.verify.token_flow.manoeuvres import targets
from derive.verify.token_flow.mutants import mutants


@pytest.fixture(scope="module")
def flow():
    result = derive(plain)
    return result, render(result, "here.py", "here.py")


def wrong(result, text):
    """Functions that do not meet the text, run without being compiled."""
    module = module_of(text, "steered_flow")
    with strict_jax():
        return {
            t.name.partition(",")[0]
            for t in targets(result, result.manoeuvres, module, 4, 3, params_of)
            if not t.error(t.call(getattr(module, t.name.partition(",")[0]), *t.arguments))
            <= t.allowed
        }


@pytest.mark.parametrize(
    ("old", "new", "seen"),
    [
        ("", "", None),
        ("(-c / width)", "(c / width)", "split"),
        ("(-c / width)", "-c", "split"),
        ("b=filled((width,), 1, alpha)", "b=filled((width,), 0, alpha)", "split"),
        ("B=filled((d, d), 0, alpha)", "B=filled((d, d), 1, alpha)", "split"),
        ("b=filled((width,), -h, omega)", "b=filled((width,), 0, omega)", "pull"),
        ("U=filled((width, d), z[", "U=filled((width, d), omega[", "pull"),
        ("V=filled((d, d), 0, omega)", "V=filled((d, d), 1, omega)", "pull"),
        ("W=-params.W", "W=params.W", "reversed_piece"),
        ("matvec(V, xmasses)", "matvec(V.mT, xmasses)", "uniform_velocity"),
        ("(mean - c)", "(mean + c)", "split_rate"),
        ("k - g * s", "k + g * s", "pull_rates"),
        ("(1 + c)), c)", "(1 + c)), -c)", "split_time"),
        ("2 * C, k - h", "-2 * C, k - h", "pull_time"),
    ],
)
def test_a_wrong_sign_a_lost_border_and_a_wrong_pole_are_seen(flow, old, new, seen):
    result, text = flow
    assert not old or text.count(old) == 1, old
    found = wrong(result, text.replace(old, new) if old else text)
    assert (seen in found) if seen else not found


@pytest.mark.parametrize("branch", ["_log_share", "_by_fractions", "_by_reciprocal_roots", "_area"])
def test_a_wrong_branch_of_a_duration_is_seen(flow, branch, monkeypatch):
    right = getattr(runtime, branch)
    monkeypatch.setattr(runtime, branch, lambda *a: 1.001 * right(*a))
    assert wrong(*flow) == {"pull_time"}


def test_a_gate_that_is_closed_on_the_way_must_be_said(flow, monkeypatch):
    monkeypatch.setattr(runtime.np, "inf", 1e3)
    assert wrong(*flow) >= {"pull_time", "split_time"}


def test_terms_of_the_uniform_velocity_are_broken_and_caught(flow):
    rung = mutants(flow[0])
    assert rung.passed, rung
