"""What is no control problem is refused with the line and a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from derive.errors import DefinitionError
from derive.methods.optimal_control.derivation import derive
from derive.registry import entries, load

HEAD = """from derive.notation import *

n, d = dims("n: tokens", "d: width")
alpha, beta = params("alpha: positive", "beta: positive")

"""

GOOD = """
@optimal_control(state="x[n, d]", control="V[d, d]", data="goal[n, d]")
def model(x, V, goal):
    running = alpha * squared_norm(x - goal) + beta * squared_norm(V)
    return problem(dynamics=tanh(x) @ V.T, running=running)
"""

BAD = {
    "no control in the cost": (
        GOOD.replace(" + beta * squared_norm(V)", ""), "running cost does not depend on the control V"
    ),
    "no state in the cost": (
        GOOD.replace("alpha * squared_norm(x - goal) + ", "").replace(", data=\"goal[n, d]\"", "")
        .replace("x, V, goal", "x, V"),
        "the cost does not depend on the state",
    ),
    "control does not steer": (
        GOOD.replace("tanh(x) @ V.T", "tanh(x)"), "V does not occur in the dynamics"
    ),
    "a control that is not there": (
        GOOD.replace('control="V[d, d]"', 'control="V[d, d], A[d, d]"'),
        "the control A does not occur.*write the definition in that product",
    ),
    "wrong shape of the dynamics": (
        GOOD.replace("dynamics=tanh(x) @ V.T", "dynamics=(tanh(x) @ V.T).sum(axis=0)"),
        r"shape \(d\), but x has shape \(n, d\)",
    ),
    "shapes that do not join": (GOOD.replace("tanh(x) @ V.T", "V @ x"), "@ joins the dimension d"),
    "cost is no scalar": (
        GOOD.replace("alpha * squared_norm(x - goal)", "alpha * (x - goal)"), "a cost is a scalar"
    ),
    "undeclared dimension": (GOOD.replace('"x[n, d]"', '"x[N, d]"'), "the dimension N, which is not declared"),
    "argument that is nothing": (
        GOOD.replace("(x, V, goal)", "(x, V, goal, A)"), "takes A, which is no state, control or data"
    ),
    "data that is not taken": (
        GOOD.replace('data="goal[n, d]"', 'data="goal[n, d], A[d, d]"'), "does not take it"
    ),
    "bounds that cross": (
        GOOD.replace("running=running)", "running=running, bounds=box(V, 1, -1))"), "bounds cross"
    ),
    "negative curvature": (
        GOOD.replace("+ beta * squared_norm(V)", "- beta * squared_norm(V)"), "not positive definite"
    ),
    "linear in the control": (
        GOOD.replace("+ beta * squared_norm(V)", "+ beta * V.sum()"), "H_uu is singular"
    ),
    "returns no problem": (GOOD.replace("return problem(dynamics=", "return dict(dynamics="), "return problem"),
    "a float": (GOOD.replace("beta * squared_norm(V)", "0.1 * squared_norm(V)"), "Rational"),
    "a name with two roles": (
        GOOD.replace('data="goal[n, d]"', 'data="alpha[n, d]"').replace("goal", "alpha"),
        "alpha is a data and a parameter",
    ),
    "symmetric state with other dynamics": (
        GOOD.replace('state="x[n, d]"', 'state="x[d, d] symmetric"').replace("goal[n, d]", "goal[d, d]"),
        "not symmetric by form",
    ),
    "unknown end": (GOOD.replace("running=running)", 'running=running, end="loose")'), "free.*fixed"),
    "a problem of several states with one rate": (
        GOOD.replace('state="x[n, d]"', 'state="x[n, d], y[n, d]"').replace("(x, V, goal)", "(x, y, V, goal)"),
        "2 states",
    ),
}  # fmt: skip


def _derive(folder: Path, text: str) -> object:
    file = folder / "user_model.py"
    file.write_text(HEAD + text, encoding="utf-8")
    (entry,) = entries(file)
    return derive(load(entry))


def test_the_good_definition_is_good(tmp_path: Path) -> None:
    assert _derive(tmp_path, GOOD).equations  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", BAD)
def test_refusals_name_the_line(name: str, tmp_path: Path) -> None:
    text, words = BAD[name]
    assert text != GOOD
    with pytest.raises(DefinitionError) as caught:
        _derive(tmp_path, text)
    assert re.search(words, caught.value.message), caught.value.message
    place = caught.value.place
    assert place is not None and place.file.endswith("user_model.py"), caught.value
    assert 6 <= place.line <= 12


def test_the_text_of_a_definition_changes_the_system(load_theory: Callable, tmp_path: Path) -> None:
    """Another nonlinearity, scaling or cost: every equation follows, no line of the engine does."""
    from derive.emit.optimal_control.module import model_signature

    variants = [
        GOOD,
        GOOD.replace("tanh(x)", "sigmoid(x)"),
        GOOD.replace("tanh(x) @ V.T", "softmax(x @ x.T) @ x @ V.T"),
        GOOD.replace("tanh(x) @ V.T", "tanh(x @ V.T)").replace("running = alpha", "running = 2 * alpha"),
        GOOD.replace("squared_norm(x - goal)", "(log(2 + (x - goal)**2)).sum()"),
    ]  # fmt: skip
    signatures = set()
    for text in variants:
        result = _derive(tmp_path, text)
        assert all(s.check is None or s.check.passed for s in result.steps)  # type: ignore[attr-defined]
        signatures.add(model_signature(result))  # type: ignore[arg-type]
    assert len(signatures) == len(variants)
