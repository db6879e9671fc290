"""In space: the average of M x and its score are read off; what is said of t -> oo is checked."""

from __future__ import annotations

import pytest
from odd_flows import A, B, H, K, Q, V, attraction, beta, d, k, values_in_space

from derive.methods.common.record import require_sound
from derive.methods.token_flow import limit_facts
from derive.methods.token_flow.derivation import derive
from derive.methods.token_flow.rescaled import Rescaled
from derive.methods.token_flow.result import Absent
from derive.methods.token_flow.told import told
from derive.notation import average, exp, matrices, space, sphere, sum_over, token_flow

D, F = matrices(D=(k, d), F=(k, d))
v = matrices(v=(d,))
KINDS = {"rescaled", "leading", "limit object", "leaders"}


def in_space(function):
    return token_flow(state="x[d]", on=space)(function)


def found(definition):
    result = derive(definition)
    require_sound(result.steps, definition.name, result.facts)
    return result


def said(result):
    return [f for f in result.facts if f.kind in KINDS]


@in_space
def other_names(x, y):
    """The same as euclidean attention; nothing is called Q, K, V, and the score is scaled."""
    return B @ average(A @ y, exp(beta * ((D @ y) @ (F @ x)) + v @ x - x @ (A @ y)))


def test_the_average_and_its_score_are_read_whatever_they_are_called():
    result = found(other_names)
    assert isinstance(result.rescaled, Rescaled)
    shown = told(result.rescaled.matrix, result.names, result.book)
    assert shown == "sum_{k} B[i,k] A[k,j]" or shown == "sum_{k} A[k,j] B[i,k]"
    shown = told(result.rescaled.score, result.names, result.book)
    assert "-A[i,j]" in shown and "beta * sum_{k} D[k,j] F[k,i]" in shown
    assert {f.kind for f in said(result)} == KINDS


def linear_in_the_key(x, y):
    return average(V @ y, exp((D @ x) @ (F @ y) + v @ y))


def by_distance(x, y):
    return average(y, exp(-beta * ((x - y) @ (x - y))))


def cubed(x, y):
    return average(V @ y, exp((x @ y) ** 3))


def with_its_own_part(x, y):
    return average(V @ y, exp(x @ y)) + A @ x


def heads(x, y):
    return sum_over(H, lambda h: average(A @ y, exp((Q[h] @ x) @ (K[h] @ y))))


def two_averages(x, y):
    return average(A @ y, exp(x @ y)) + average(B @ y, exp(x @ (A @ y)))


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (linear_in_the_key, "v[k] x[b,k], which is no product of a query and a key"),
        (by_distance, "x[b,k] x[b,k], which is no product of a query and a key"),
        (cubed, "which is no product of a query and a key"),
        (with_its_own_part, "is left in its difference to an average of M x[b]"),
        (heads, "not those of one exponential of a score of two tokens"),
        (two_averages, "not those of one exponential of a score of two tokens"),
    ],
)
def test_other_definitions_are_told_why_no_limit_is(definition, reason):
    result = found(in_space(definition))
    assert isinstance(result.rescaled, Absent) and reason in result.rescaled.why
    (fact,) = said(result)
    assert reason in fact
    assert "score" not in result.equations


def test_nothing_is_said_on_the_sphere_nor_where_tokens_at_one_point_do_not_move_linearly():
    @token_flow(state="x[d]", on=sphere)
    def on_sphere(x, y):
        return average(y, exp(x @ y))

    @in_space
    def of_a_square(x, y):
        return average(y, 1 + (x @ y) ** 2)

    for definition in (on_sphere, attraction, of_a_square):
        result = found(definition)
        assert result.rescaled is None or isinstance(result.rescaled, Absent)
        assert not any(f.kind in KINDS - {"limit object"} for f in result.facts)


def test_what_no_parameters_meet_is_not_said():
    """M = -1 whatever the parameters: tokens go to 0, nothing leads."""

    @in_space
    def repelled(x, y):
        return -average(y, exp(beta * (x @ y)))

    words = [str(f) for f in said(found(repelled))]
    assert any("all tokens go to 0" in f for f in words)
    assert not any("lambda" in f for f in words)

    @in_space
    def only_forward(x, y):
        return average(y, exp(beta * (x @ y)))

    words = [str(f) for f in said(found(only_forward))]
    assert any("F symmetric and positive" in f for f in words)
    assert not any("F symmetric and negative" in f or "go to 0" in f for f in words)


def failing(result):
    names, book = result.names, result.book
    return {
        str(f)[:30]
        for f in limit_facts.long_times(result.rescaled, names, book)
        if f.check is not None and not f.check.passed
    }


def test_every_finding_is_refused_where_scores_have_the_other_sign(monkeypatch):
    result = derive(values_in_space)
    assert not failing(result)
    right = limit_facts.later
    monkeypatch.setattr(limit_facts, "later", lambda x, M, S, t: right(x, M, -S, t))
    words = failing(result)
    assert {"for such M, F symmetric and po", "for such M, F symmetric and ne"} <= words
    assert "where S is symmetric and posit" in words
    assert "in one dimension, where M > 0 " in words


def test_a_frame_a_score_or_a_form_that_is_wrong_is_refused(monkeypatch):
    result = derive(values_in_space)
    one = result.rescaled
    for broken in (Rescaled(one.score, one.score), Rescaled(one.matrix, one.matrix)):
        checked = limit_facts.by_the_text(broken, result.names, result.book)
        assert not checked.passed
    right = limit_facts.shares
    monkeypatch.setattr(limit_facts, "shares", lambda x, S: right(x, S.T))
    assert "where M has an eigenvalue lamb" in failing(result)
