"""A model typed into a session or a notebook cell: found, derived, and blamed at its line."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from faces import equations, text_of, typed

import derive
from derive.errors import DefinitionError, Refusal, RequestError
from derive.face.equations import Equations
from derive.registry import find, load

NAME = "shaped_attention"
SHORT = "linear_closure"  # derived and compiled in no time
CELLS = ["<ipython-input-3-ab12>", "/tmp/ipykernel_77/1234567.py", "<stdin>", "<string>"]


@pytest.mark.parametrize(
    "cell", [CELLS[0], *(pytest.param(c, marks=pytest.mark.slow) for c in CELLS[1:])]
)
def test_what_is_wrong_is_blamed_at_the_cells_line(cell: str) -> None:
    text = text_of(NAME)
    line = text.split("\n").index(
        "    A = eye(m) + softmax(logits / (tau_0 * sqrt(n * n_k))) - 1 / m"
    )
    wrong = text.replace("softmax(logits", "softmax(logitz")
    with pytest.raises(DefinitionError, match="logitz") as told:
        derive.derive(typed(wrong, NAME, cell))
    assert told.value.place is not None
    assert (told.value.place.file, told.value.place.line) == (cell, line + 1)
    (line_shown,) = told.value._render_traceback_()  # all that a notebook shows
    assert line_shown.startswith(f"DefinitionError: {cell}:{line + 1}: ")
    with pytest.raises(Refusal) as refused:
        derive.derive(typed(text.replace(" - 1 / m", ""), NAME, cell))
    assert refused.value.place is not None and refused.value.place.file == cell


def test_a_session_holds_other_models_too() -> None:
    """Of their names only what the definition reads counts, through helpers as well."""
    text = text_of(NAME)
    helper = "def scale():\n    return 1 / (tau_0 * sqrt(n * n_k))\n\n\n@covariance_sde"
    crowded = text.replace("@covariance_sde", 'zeta = params("zeta: positive")\n\n' + helper)
    crowded = crowded.replace("logits / (tau_0 * sqrt(n * n_k))", "logits * scale()")
    model = typed(crowded, NAME)
    assert [p.name for p in model.params] == ["gamma", "tau_0"]
    assert [d.name for d in model.dims] == ["m", "n", "n_k"]
    assert not derive.derive(model) - equations(NAME)


def test_the_title_is_the_functions_docstring() -> None:
    body = f"def {SHORT}(x, y):\n"
    titled = text_of(SHORT).replace(body, body + '    """Mine, with a twist.\n\n    More."""\n')
    eq = derive.derive(typed(titled, SHORT))
    assert eq.title == "Mine, with a twist." and "Mine, with a twist." in eq.code
    untitled = derive.derive(typed(text_of(SHORT), SHORT))
    assert untitled.title == SHORT  # a session's own docstring is not its author's


def test_closures_and_control_problems_too() -> None:
    for name, equation in (("softmax_closure", "velocity"), ("gaussian_tracking", "control_law")):
        model = typed(text_of(name), name)
        eq = derive.derive(model)
        assert equation in eq.names
        assert not eq - equations(name)


def test_an_imported_definition_keeps_its_file() -> None:
    model = load(find(SHORT))
    entry = find(model)
    assert entry.source == f"theory/{SHORT}.py" and entry.argument == SHORT
    assert derive.derive(model).code == equations(SHORT).code


@pytest.mark.parametrize("thing", [3, len, lambda X: X])
def test_what_is_no_model_is_told(thing: Any) -> None:
    with pytest.raises(RequestError, match="is no model.*decorated with @"):
        derive.derive(thing)


def test_an_interactive_python_takes_a_model() -> None:
    """Typed into `python -i`, whose lines no file holds."""
    lines = text_of(SHORT).replace("\n\n\n", "\n").replace("\n\n", "\n")
    script = lines + "\nimport derive\nprint(repr(derive.derive(linear_closure)))\n"
    done = subprocess.run(
        [sys.executable, "-i", "-q"], input=script, capture_output=True, text=True
    )
    assert "<linear_closure (gaussian_closure): velocity" in done.stdout, done.stderr


def test_equations_are_attributes_and_listed() -> None:
    eq = equations(NAME)
    assert eq.drift is eq["drift"] and {"drift", "diffusion", "noise"} <= set(dir(eq))
    with pytest.raises(AttributeError, match="no equation 'velocity'; it has drift, diffusion"):
        _ = eq.velocity
    with pytest.raises(KeyError):
        eq["velocity"]


def test_what_is_shown() -> None:
    eq = equations(NAME)
    assert len(repr(eq)) < 200 and "\n" not in repr(eq)
    assert eq.text == str(eq) and "Drift" in eq.text
    assert eq.drift._repr_latex_().startswith("$") and r"\gamma" in eq.drift.latex
    html = eq._repr_html_()
    assert "$$" in html and "&amp;" in html and "<script" not in html
    assert "check passed" in repr(eq.steps) and len(eq.steps) == len(eq.result.steps)
    assert repr(eq.facts).startswith("- one layer moves V")
    shown: list[str] = []

    class Printer:
        text = staticmethod(shown.append)

    eq._repr_pretty_(Printer(), False)
    eq.drift._repr_pretty_(Printer(), False)
    assert shown == [eq.text, eq.drift.text]


def test_html_is_escaped() -> None:
    body = f"def {SHORT}(x, y):\n"
    text = text_of(SHORT).replace(body, body + '    """<script>alert(1)</script>"""\n')
    assert "<script" not in derive.derive(typed(text, SHORT))._repr_html_()


def test_every_method_is_one_class() -> None:
    for name in (NAME, "softmax_closure", "gaussian_tracking"):
        eq = equations(name)
        assert type(eq) is Equations and all(e.text and e.latex for e in eq)
