"""Arrays, sizes and scalars of closures and of problems may be called as one likes, or the line
is refused: the gate compares each kernel with its equations."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest

from derive.errors import DefinitionError
from derive.face.kernel import checked_text_of
from derive.registry import find

CLOSURE = string.Template('''"""A closure under other names."""
from derive.notation import *

H, d, $k = dims("H: heads", "d: dimension", "$k: key width")
Q, $K, $V = matrices(Q=(H, $k, d), $K=(H, $k, d), $V=(H, d, d))
$beta, $scale = params("$beta: positive", "$scale: real")


@gaussian_closure(state="x[d]")
def own(x, y):
    def head(h):
        return $scale * average($V[h] @ y, exp((Q[h] @ x) @ ($K[h] @ y) * $beta / sqrt($k)))

    return sum_over(H, head)
''')
CLOSURE_USUAL = dict(k="k", K="K", V="V", beta="beta", scale="scale")
CONTROL = string.Template('''"""A problem under other names."""
from derive.notation import *

d, $k = dims("d: size", "$k: actuators")
$alpha, $beta = params("$alpha: positive", "$beta: positive")


@optimal_control(state="$m[d]", control="$u[$k]", data="$B[d, $k], $goal[d]")
def own($m, $u, $B, $goal):
    moved = tanh($alpha * $m) + $B @ $u
    cost = squared_norm($m - $goal) / 2 + $beta * squared_norm($u) / 2
    return problem(dynamics=moved, running=cost, terminal=squared_norm($m) / $k)
''')
CONTROL_USUAL = dict(k="k", alpha="alpha", beta="beta", m="m", u="u", B="B", goal="goal")


def gated(folder: Path, text: str) -> None:
    """Derive, emit and compare; nothing is returned, for the gate is the assertion."""
    file = folder / "own.py"
    file.write_text(text, encoding="utf-8")
    assert "def velocity" in (kernel := checked_text_of(find(str(file)))) or "State(" in kernel


def late(**names: str) -> Any:
    """Slow: quick is one of each kind, of a head's parts, of Python's words, of products."""
    return pytest.param(names, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "names",
    [
        dict(K="V_h", V="Q_h"),  # shares of one head are called so, where the name is free
        late(scale="W_h", beta="V_h_2"),
        late(K="head_1", V="value_1"),
        late(K="score_1", V="weight_1", beta="inner_1"),
        dict(k="vector", K="half", V="matrix", beta="lambda_", scale="größe"),
        late(k="count", K="array", V="γ", beta="State", scale="t"),
        dict(V="KQ", beta="SKQ", scale="first"),  # products are called by their factors
        late(K="first", V="M", beta="QK", scale="mK"),
    ],
    ids=lambda names: " ".join(names.values()),
)
def test_matrices_and_scalars_of_closures(tmp_path: Path, names: dict[str, str]) -> None:
    gated(tmp_path, CLOSURE.substitute(CLOSURE_USUAL | names))


@pytest.mark.parametrize(
    "names",
    [
        late(k="half", alpha="exp", beta="lambda_"),
        dict(k="vector", m="α", u="Δt", goal="変数"),
        late(k="params_", m="half", u="matrix", B="root", goal="State"),
        dict(m="V_sum", u="x_", goal="h_xx", B="control"),
        late(m="eye", u="argument_", B="vector_1", goal="part"),
        dict(m="d_x", u="p_x", B="p_u", goal="d_B"),
    ],
    ids=lambda names: " ".join(names.values()),
)
def test_arrays_and_sizes_of_problems(tmp_path: Path, names: dict[str, str]) -> None:
    gated(tmp_path, CONTROL.substitute(CONTROL_USUAL | names))


@pytest.mark.parametrize(
    ("slot", "name", "why"),
    [
        ("B", "p_m", "costate"),
        ("goal", "d_u", "variation"),
        ("k", "d_m", "variation"),
        ("alpha", "p_m", "costate"),
        ("B", "_B", "underscore"),
        ("m", "_m", "underscore"),
        ("B", "np", "means something else"),
    ],
)
def test_names_that_a_problem_has_for_itself_are_refused_at_the_line(
    tmp_path: Path, slot: str, name: str, why: str
) -> None:
    with pytest.raises(DefinitionError, match=why) as problem:
        gated(tmp_path, CONTROL.substitute(CONTROL_USUAL | {slot: name}))
    assert problem.value.place is not None and problem.value.place.line in (8, 9)


@pytest.mark.parametrize(("slot", "name"), [("K", "_K"), ("V", "__V"), ("K", "rate"), ("V", "x")])
def test_names_that_a_closure_has_for_itself_are_refused_at_the_line(
    tmp_path: Path, slot: str, name: str
) -> None:
    with pytest.raises(DefinitionError, match=name) as problem:
        gated(tmp_path, CLOSURE.substitute(CLOSURE_USUAL | {slot: name}))
    assert problem.value.place is not None and problem.value.place.line in (5, 9, 10)


def test_one_name_for_a_matrix_and_a_size_is_refused(tmp_path: Path) -> None:
    text = CLOSURE.substitute(CLOSURE_USUAL).replace("V=(H, d, d)", "k=(H, d, d)")
    with pytest.raises(DefinitionError, match="a matrix and as a dimension"):
        gated(tmp_path, text)


@pytest.mark.parametrize("template", [CLOSURE, CONTROL])
def test_a_model_that_starts_with_an_underscore_is_refused(
    tmp_path: Path, template: string.Template
) -> None:
    text = template.substitute(CLOSURE_USUAL | CONTROL_USUAL).replace("def own", "def _own")
    with pytest.raises(DefinitionError, match="_own"):
        gated(tmp_path, text)
