"""Terms of equal value are equal, however written; what differs is named, and only that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from faces import equations, text_of, typed
from read_equations import read

import derive
from derive import notation
from derive.calculus.index.evaluate import evaluate
from derive.errors import RequestError
from derive.face import comparing
from derive.face.equations import Equations
from derive.notation.common.arrays import node
from derive.notation.common.scalars import dims


def changed(name: str, old: str, new: str) -> Equations:
    text = text_of(name)
    assert old in text
    return derive.derive(typed(text.replace(old, new), name))


@pytest.fixture(scope="module")
def shaped() -> Equations:
    return equations("shaped_attention")


def test_another_way_of_writing_changes_nothing(shaped: Equations) -> None:
    other = changed(
        "shaped_attention",
        "gamma * A @ X @ W_V / sqrt(n)",
        "-(A @ (X @ W_V)) * (gamma / sqrt(n))",  # W_V and -W_V have one law
    )
    assert not shaped - other
    assert "every term of every equation is equal" in repr(shaped.compare(other))


def test_a_flipped_sign_shows_in_its_terms_alone(shaped: Equations) -> None:
    """A = I - softmax + 1/m: terms of second order in the attention change sign, squares do not."""
    other = changed(
        "shaped_attention", "eye(m) + softmax(logits / (tau_0 * sqrt(n * n_k))) - 1 / m",
        "eye(m) - softmax(logits / (tau_0 * sqrt(n * n_k))) + 1 / m",
    )  # fmt: skip
    found = shaped - other
    assert set(found.terms) == {"drift", "noise"}  # a field may carry a sign
    (gone, where), (come, _) = found.terms["drift"]  # |H V H|^2 V/m stays
    assert gone == "gamma**2/(m*tau_0**2) * [ u d^T + d u^T ]" == come
    assert "u = V H (d/2 - V 1/m)" in where and "H = I - 1 1^T/m" in where
    assert "<pre>" in found._repr_html_()


def test_what_differs_reads_back_as_the_difference(shaped: Equations) -> None:
    other = changed("shaped_attention", "(tau_0 * sqrt", "(3 * tau_0 * sqrt")
    found = shaped - other
    assert set(found.terms) == {"drift", "diffusion", "noise", "mixing_rate"}
    size, numbers = 3, {"gamma": 0.4, "tau_0": 0.7, "m": 3.0}
    root = np.random.default_rng(2).standard_normal((size, size))
    known = {"V": root @ root.T, **numbers}
    for name in ("drift", "mixing_rate"):
        values = []
        for eq, rows in zip((shaped, other), found.terms[name], strict=True):
            where = rows[-1].strip().removeprefix("where ").split("; ")
            given = {s: numbers[s.name] for c, _ in eq[name].value.terms for s in c.free_symbols}
            dims = {i.dim: size for _, fs in eq[name].value.terms for f in fs for i in f.indices}
            right = evaluate(eq[name].value, {"V": known["V"]}, given | dims)
            assert np.allclose(read(rows[:-1], where, known, size), right, rtol=1e-12)
            values.append(right)
        assert not np.allclose(*values)


def test_a_new_name_of_a_parameter_is_another_parameter() -> None:
    other = changed("linear_attention", "tau_0", "theta_0")
    assert set((equations("linear_attention") - other).terms) >= {"drift"}


def test_a_wider_range_of_a_parameter_is_the_same_parameter() -> None:
    assert not equations("linear_attention") - changed("linear_attention", "in (0, 1)", "in (0, 1]")


def test_closures_are_compared_by_what_their_tensors_mean() -> None:
    """What a tensor is called says nothing: P_1 is another inverse in another model."""
    eq = equations("softmax_closure")
    again = changed("softmax_closure", "return average", "return 1 * average")
    assert not eq - again
    hotter = changed("softmax_closure", "exp((Q @ x)", "exp(2 * (Q @ x)")
    assert set((eq - hotter).terms) == {"velocity", "mean_rate", "jacobian", "cov_rate"}
    l2 = equations("l2_closure")
    hotter = changed("l2_closure", "exp(-(gap", "exp(-2 * (gap")  # its inverse has the same name
    assert {t.name for t in l2.book.of} == {t.name for t in hotter.book.of}
    assert {"velocity", "jacobian"} <= set((l2 - hotter).terms)
    assert not l2 - derive.derive("l2_closure")


def test_graphs_are_compared_by_value() -> None:
    eq = equations("gaussian_tracking")
    text = text_of("gaussian_tracking")
    old = "alpha / 2 * squared_norm(S - goal)"
    assert old in text
    same = text.replace(old, "(alpha / 4) * squared_norm(goal - S) * 2")
    assert not eq - derive.derive(typed(same, "gaussian_tracking"))
    other = text.replace(old, "alpha * squared_norm(S - goal)")
    found = eq - derive.derive(typed(other, "gaussian_tracking"))
    assert {"running_cost", "hamiltonian", "costate_rate"} <= set(found.terms)
    assert not {"state_rate", "stationarity", "control_law"} & set(found.terms)
    assert len(found.terms["running_cost"][0]) == 1


def test_other_methods_and_states_are_refused_with_the_reason(shaped: Equations) -> None:
    with pytest.raises(RequestError, match="covariance_sde.*gaussian_closure"):
        shaped.compare("linear_closure")
    with pytest.raises(RequestError, match="on the sphere"):
        shaped.compare("post_norm_shaped_attention")


def test_a_path_is_taken_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text_of("linear_attention").replace("+ logits", "+ 2 * logits"))
    found = equations("linear_attention") - file
    assert {"drift", "diffusion"} <= set(found.terms)


def test_a_matrix_that_is_not_symmetric_is_not_its_transpose() -> None:
    """The dynamics with V and with V^T differ in more than the control law."""
    found = equations("gaussian_tracking") - changed("gaussian_tracking", "V=V)", "V=V.T)")
    assert {"hamiltonian", "state_rate", "costate_rate"} <= set(found.terms)


def test_control_problems_of_equal_value_are_equal_however_written() -> None:
    """S is declared symmetric and alpha / 2 |x|^2 is written in another order."""
    other = changed("gaussian_tracking", "squared_norm(S - goal)", "squared_norm(goal.T - S.T)")
    assert not equations("gaussian_tracking") - other


def difference(one: str, other: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of two scalars of x (N, d), G and F (d, d)."""
    N, d = dims("N: samples", "d: dimension")
    names = {
        "x": node("leaf", (), (N, d), "x"),
        "G": node("leaf", (), (d, d), "G"),
        "F": node("leaf", (), (d, d), "F"),
        "sum_of": lambda a: a.sum(-1).sum(-1),
        **{f: getattr(notation, f) for f in ("squared_norm", "exp", "relu", "tanh", "log")},
    }
    left, right = ((eval(text, names),) for text in (one, other))
    return comparing._of_graphs(left, right, ())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("squared_norm(x)", "squared_norm(x) + exp(-squared_norm(x))"),
        ("exp(-squared_norm(x))", "exp(-2 * squared_norm(x))"),
        ("sum_of(relu(x @ G.T))", "sum_of(x @ G.T)"),
        ("sum_of(tanh(x @ G.T @ F.T))", "sum_of(tanh(x @ F.T @ G.T))"),
        ("sum_of(tanh(x @ G.T))", "sum_of(tanh(3 * x @ G.T))"),
        ("exp(squared_norm(x @ G.T))", "exp(2 * squared_norm(x @ G))"),
        ("sum_of(1 / relu(x))", "sum_of(1 / x)"),
    ],
)
def test_graphs_that_differ_where_arguments_are_of_order_one_differ(one: str, other: str) -> None:
    """At large arguments of one sign each pair was equal: functions saturate, overflow, vanish."""
    assert difference(one, other) != ((), ())
    assert difference(one, one) == ((), ())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sum_of(log(x) + log(2 * x))", "sum_of(2 * log(x) + log(x / x * 2))"),
        ("sum_of(relu(x) - relu(-x))", "sum_of(x)"),
        ("sum_of((x @ G.T) @ F.T)", "sum_of(x @ (F @ G).T)"),
    ],
)
def test_graphs_of_equal_value_where_both_have_one_are_equal(one: str, other: str) -> None:
    assert difference(one, other) == ((), ())


def test_graphs_without_values_are_not_called_equal() -> None:
    with pytest.raises(RequestError, match="no finite values"):
        difference("sum_of(log(-x * x))", "sum_of(log(-2 * x * x))")
