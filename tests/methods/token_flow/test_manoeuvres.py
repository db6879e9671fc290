"""Manoeuvres are derived of any flow that has the levers, and each claim can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sympy as sp
from steered_flows import REFUSED, STEERED, plain

from derive.calculus.index.expressions import Expression
from derive.methods.common.record import require_sound
from derive.methods.token_flow import manoeuvre_checks as checks
from derive.methods.token_flow.derivation import derive
from derive.methods.token_flow.durations import END, START
from derive.methods.token_flow.manoeuvres import C_SPLIT, KEPT, MEAN, Z0, Z1, H, K, S, Z
from derive.methods.token_flow.result import Absent
from derive.theory.feedforward_sphere_attention import feedforward_sphere_attention


@pytest.fixture(scope="module")
def found():
    return derive(plain)


@pytest.mark.parametrize("model", STEERED, ids=lambda m: m.name)
def test_a_flow_with_both_levers_is_steered_whatever_it_is_called(model):
    result = derive(model)
    require_sound(result.steps, model.name)
    assert sp.expand(result.equations["split_rate"] - (MEAN - C_SPLIT) * (1 - Z**2)) == 0
    said = [f.partition(":")[0] for f in result.facts if f.kind == "manoeuvre"]
    assert said[1:3] == ["split", "pull"]


@pytest.mark.parametrize("model", REFUSED, ids=lambda m: m.name)
def test_a_flow_without_a_lever_is_left_with_the_reason(model):
    result = derive(model)
    assert isinstance(result.manoeuvres, Absent)
    assert REFUSED[model] in result.manoeuvres.why
    assert not {"uniform_velocity", "split_rate", "pull_time"} & result.equations.keys()


def test_a_pull_goes_on_great_circles_and_outside_its_gate_nothing_moves(found):
    first, second = found.manoeuvres.pull_rates
    gate = sp.Max(0, sp.Symbol("g", real=True) - H)
    assert sp.expand(first - gate * (1 - S**2)) == 0
    assert sp.expand(second - gate * (K - sp.Symbol("g", real=True) * S)) == 0


def test_durations_differentiated_give_the_rates_back(found):
    steered = found.manoeuvres
    at = {Z0: 0.35, Z1: 0.6, C_SPLIT: 0.2}
    rate = steered.split_rate.subs({MEAN: Z, Z: Z1})
    assert abs((sp.diff(steered.split_time, Z1) * rate).subs(at).evalf() - 1) < 1e-12
    for kept, border in ((0.7, 0.2), (0.3, -2.0)):
        at = {START: -0.3, END: 0.8, K: 0.4, KEPT: kept, H: border}
        speed = K * sp.tanh(END) + KEPT * sp.sech(END) - H
        assert abs((sp.diff(steered.pull_time, END) * speed).subs(at).evalf() - 1) < 1e-12


def without_a_term(expression):
    return Expression(expression.free, expression.terms[1:])


def of_levers(**changed):
    return lambda m: replace(m, levers=replace(m.levers, **{k: f(m) for k, f in changed.items()}))


def of_gate(**changed):
    return of_levers(
        gate=lambda m: replace(
            m.levers.gate, **{k: f(getattr(m.levers.gate, k)) for k, f in changed.items()}
        )
    )


def number(factor):
    return lambda lever: replace(lever, number=lever.number * factor)


BROKEN = [
    (checks.uniform, of_levers(uniform=lambda m: without_a_term(m.levers.uniform))),
    (checks.uniform, of_levers(scores=lambda m: ())),
    (checks.split, lambda m: replace(m, split_rate=-m.split_rate)),
    (checks.split, lambda m: replace(m, shift=m.shift * 1.01)),
    (checks.split, of_gate(out=number(-1))),
    (checks.split, of_gate(offset=number(2))),
    (checks.split, of_levers(barycentre=lambda m: number(2)(m.levers.barycentre))),
    (checks.pull, lambda m: replace(m, pull_rates=m.pull_rates[::-1])),
    (checks.pull, of_gate(offset=number(-1))),
    (checks.pull, of_gate(into=number(2))),
    (checks.kept, lambda m: replace(m, kept=m.kept**2 + S)),
    (checks.durations, lambda m: replace(m, split_time=m.split_time * 1.01)),
    (checks.durations, lambda m: replace(m, pull_time=m.pull_time.subs(K, -K))),
]


@pytest.mark.parametrize(("check", "broken"), BROKEN)
def test_a_claim_that_is_broken_fails_its_check(found, check, broken):
    right, wrong = found.manoeuvres, broken(found.manoeuvres)
    assert check(right, found.names, found.book).passed
    assert not check(wrong, found.names, found.book).passed


def test_a_matrix_that_is_not_turned_around_fails_its_check(found):
    levers = found.manoeuvres.levers
    wrong = replace(found.manoeuvres, levers=replace(levers, outputs=levers.outputs[:1]))
    assert checks.reverse(found.manoeuvres, found.names).passed
    assert not checks.reverse(wrong, found.names).passed


def test_a_shipped_flow_without_levers_says_nothing_of_them():
    result = derive(feedforward_sphere_attention)
    assert not [s for s in result.steps if s.name == "manoeuvres"]
