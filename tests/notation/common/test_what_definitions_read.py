"""What a definition may say besides the notation's own words: Python's abs, names of other files;
and that its kernel takes the parameters that it reads, no others of its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from derive.derivation import derived, rendered
from derive.errors import CheckFailed, DefinitionError
from derive.gate import require_right
from derive.registry import find
from derive.verify.common.compare import module_of

HELPERS = """from derive.notation import dot, params, sqrt

kappa = params("kappa: positive")


def unit(x):
    return x / sqrt(dot(x, x))


def bent(s):
    return abs(kappa * s)
"""
TEXT = '''"""Models whose words lie in another file."""

import helpers
from helpers import kappa
from derive.notation import *

d, m, w, N = dims("d: dimension", "m: tokens", "w: width", "N: particles")
beta, unread = params("beta: positive", "unread: real")
V, M = matrices(V=(d, d), M=(d, d))


@token_flow(state="x[d]", on=sphere)
def flow(x, y):
    return average(y, exp(beta * (x @ helpers.unit(y))))


@gaussian_closure(state="x[d]")
def closure(x, y):
    return integral(V @ y, helpers.bent(x @ y))


@optimal_control(state="x[N, d]", control="W[d, d]", data="goal[N, d]")
def control(x, W, goal):
    cost = squared_norm(helpers.bent(x) - goal) + squared_norm(W)
    return problem(dynamics=x @ W.T, running=cost)


@covariance_sde(state="X[m, w]", width=w)
def layer(X):
    return X + helpers.bent(X @ gaussian(w, w) / sqrt(w)) @ gaussian(w, w) / w


@optimal_control(state="x[N, d]", control="W[d, d]", data="goal[N, d]")
def steered_below(x, W, goal):
    return problem(dynamics=x @ W.T, running=below(x - goal) + squared_norm(W))


def below(a):
    return beta * squared_norm(a)
'''
READ = {
    "flow": ("beta",),
    "closure": ("V", "kappa"),
    "control": ("kappa", "goal"),
    "layer": ("kappa",),
    "steered_below": ("kappa", "beta", "unread", "goal"),  # of what is not bound yet, all
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("read")
    (found / "helpers.py").write_text(HELPERS, encoding="utf-8")
    (found / "read.py").write_text(TEXT, encoding="utf-8")
    return found


@pytest.mark.parametrize("name", READ)
def test_a_kernel_takes_what_its_definition_reads(name: str, folder: Path) -> None:
    """Derived, rendered and compared function by function: abs and the helpers have the values of
    the text in both readings."""
    entry = find(f"{folder / 'read.py'}:{name}")
    result = derived(entry)
    text = rendered(entry, result)
    require_right(result, text, entry.method, entry.name)
    assert module_of(text, name).Params._fields == READ[name]


def test_a_wrong_derivation_is_named_by_its_model_and_its_file(folder: Path) -> None:
    """A file has several models; the remedy is a command that works."""
    entry = find(f"{folder / 'read.py'}:layer")
    result = derived(entry)
    text = rendered(entry, result)
    start = text.index("    return ", text.index("def drift")) + len("    return ")
    broken = text[:start] + "2 * " + text[start:]
    with pytest.raises(CheckFailed, match=r"kernel of layer is .* derive show read\.py:layer has"):
        require_right(result, broken, entry.method, entry.name, entry.argument)


def test_a_symbol_that_no_text_shows_is_told(folder: Path) -> None:
    """Of a name that is made at run time nothing is read; the message says what is missing."""
    file = folder / "hidden.py"
    body = TEXT.split("@token_flow")[0] + (
        '@token_flow(state="x[d]", on=sphere)\ndef hidden(x, y):\n'
        '    return average(y, exp(globals()["beta"] * (x @ y)))\n'
    )
    file.write_text(body, encoding="utf-8")
    assert [str(p) for p in derived(find(str(file))).model.params] == ["kappa", "beta", "unread"]
    file.write_text(body.replace('globals()["beta"]', "helpers.missing"), encoding="utf-8")
    with pytest.raises(DefinitionError, match="no attribute 'missing'"):
        derived(find(str(file)))
