"""A word is one definition: value, derivatives, code and LaTeX follow from it, and agree.

The new word of these tests is a file of its own that nothing in derive names.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp

from derive.calculus.arrays import derivative as rules
from derive.calculus.arrays.algebra import Algebra
from derive.calculus.written.dialect import LATEX
from derive.emit.common.array_written import written
from derive.emit.common.graph_code import statements
from derive.emit.optimal_control.module import render
from derive.errors import DefinitionError
from derive.methods.optimal_control.derivation import derive
from derive.notation.common.arrays import Array
from derive.notation.common.graph import value
from derive.notation.common.scalars import dims
from derive.notation.common.words.word import WORDS, Word, applied
from derive.registry import entries, load
from derive.runtime.common import ops
from derive.runtime.control import words as control

n, d = dims("n: rows", "d: columns")
SIZES = {n: 3, d: 4}

LOGSUMEXP = '''
import numpy as np

from derive.errors import DefinitionError
from derive.notation.common.words.word import ATOM, WORDS, Word, given


class LogSumExp(Word):
    """log of the sum of exponentials along an axis."""

    def value(self, array, axis):
        top = array.real.max(axis=axis, keepdims=True)
        return np.log(np.exp(array - top).sum(axis=axis)) + top.squeeze(axis)

    def shape(self, array, axis):
        if not 0 <= axis < array.ndim:
            raise DefinitionError(f"logsumexp along axis {axis} of {array.ndim}")
        return array.shape[:axis] + array.shape[axis + 1 :]

    def _share(self, g, array):
        (inner,), (axis,) = array.args, given(array)
        return g.function("exp", g.add(inner, g.scale(-1, g.expand(array, axis))))

    def adjoint(self, g, array, position, bar):
        return g.multiply(g.expand(bar, given(array)[0]), self._share(g, array))

    def tangent(self, g, array, position, move):
        return g.total(g.multiply(self._share(g, array), move), given(array)[0])

    def latex(self, p, array):
        return rf"\\log\\sum_{{{'ij'[given(array)[0]]}}} e^{{{p.words(array)}}}", ATOM


LogSumExp("logsumexp").register()
'''


PROBLEM = """
from derive.notation import dims, optimal_control, problem, squared_norm
from derive.notation.common.words.word import applied

logsumexp = applied("logsumexp")
n, d = dims("n: rows", "d: columns")


@optimal_control(state="x[n, d]", control="u[n, d]")
def spread_out(x, u):
    return problem(dynamics=u, running=logsumexp(x, 1).sum() + squared_norm(u) / 2)
"""


def loaded(file: Path, text: str) -> ModuleType:
    file.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def logsumexp(tmp_path: Path) -> Iterator[ModuleType]:
    before = dict(WORDS)
    yield loaded(tmp_path / "logsumexp.py", LOGSUMEXP)
    WORDS.clear()
    WORDS.update(before)


def check(name: str, shapes: list[tuple[sp.Symbol, ...]], *more: int) -> None:
    """Adjoint and tangent of a word against each other, and against complex steps of its value."""
    g = Algebra()
    leaves = [g.leaf(f"A_{k}", shape) for k, shape in enumerate(shapes)]
    root = g.word(name, *leaves, *more)
    rng = np.random.default_rng(7)
    values = {a: rng.standard_normal([SIZES[q] for q in a.shape]) for a in leaves}
    for a in leaves[:1]:
        if a.shape == (n, n):
            values[a] += 4 * np.eye(3)
    bar = g.leaf("bar", root.shape)
    values[bar] = rng.standard_normal([SIZES[q] for q in root.shape])
    pairing = g.sum_all(g.multiply(bar, root))
    gradients = rules.gradient(g, pairing, leaves)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        move = g.leaf("move", leaf.shape)
        values[move] = rng.standard_normal(values[leaf].shape)
        (tangent,) = rules.along(g, [root], {leaf: move})
        moved = (
            value(root, {**values, leaf: values[leaf] + t * values[move]}, SIZES) for t in STEP
        )
        up, down = moved
        change = (up - down) / (STEP[0] - STEP[1])
        np.testing.assert_allclose(value(tangent, values, SIZES), change, rtol=0, atol=1e-7)
        left = np.sum(value(gradient, values, SIZES) * values[move])
        assert left == pytest.approx(np.sum(values[bar] * change), abs=1e-7)


STEP = (1e-6, -1e-6)
STRUCTURAL: dict[str, tuple[list[tuple[sp.Symbol, ...]], tuple[int, ...]]] = {
    "inverse": ([(n, n)], ()),
    "inv_sqrt_det": ([(n, n)], ()),
    "linear_solve": ([(n, n), (n, d)], ()),
    "linear_solve, vector": ([(n, n), (n,)], ()),
    "tril": ([(n, d)], (-1,)),
    "triu": ([(n, d)], (1,)),
    "linf_norm": ([(n, d), (d,)], ()),
    "l2_norm_of": ([(n, d), (d,)], ()),
}


@pytest.mark.parametrize("case", STRUCTURAL)
def test_derivatives_of_structural_words(case: str) -> None:
    shapes, more = STRUCTURAL[case]
    check(case.partition(",")[0], shapes, *more)


@pytest.mark.parametrize("case", STRUCTURAL)
@pytest.mark.parametrize("rule", ["adjoint", "tangent"])
def test_a_flipped_sign_is_caught(case: str, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    word = WORDS[case.partition(",")[0]]
    right = getattr(word, rule)
    monkeypatch.setattr(word, rule, lambda g, *args: g.scale(sp.Integer(-1), right(g, *args)))
    with pytest.raises(AssertionError):
        test_derivatives_of_structural_words(case)


def test_every_word_says_what_it_is_or_has_a_body() -> None:
    for name, word in WORDS.items():
        assert name == word.name
        overridden = [
            r for r in ("shape", "meaning") if getattr(type(word), r) is not getattr(Word, r)
        ]
        function = hasattr(word, "body") or name in ("power", "formula", "at_least", "at_most")
        assert bool(overridden) != function, name


def test_a_word_is_found_in_its_runtime() -> None:
    homes = {"ops": ops, "control": control}
    for word in WORDS.values():
        assert not word.calls or hasattr(homes[word.runtime], word.calls), word.name


def test_a_new_word_has_value_derivative_code_and_texts(logsumexp: ModuleType) -> None:
    write = applied("logsumexp")
    at = np.random.default_rng(3).standard_normal((3, 4))
    g = Algebra()
    X = g.leaf("X", (n, d))
    root: Array = write(X, axis=1)
    assert root.shape == (n,)
    expected = np.log(np.exp(at).sum(axis=1))
    np.testing.assert_allclose(value(root, {X: at}, SIZES), expected)
    np.testing.assert_allclose(write(at, 1), expected)  # the second reading
    for axis in (0, 1):
        check("logsumexp", [(n, d)], axis)
    check("logsumexp", [(d,)], 0)
    lines, text = statements(root, {}, {X: "X"}, "X.dtype")
    assert (lines, text) == ([], "logsumexp(X, 1)")
    found = eval(text, {"logsumexp": jax.nn.logsumexp, "X": at})
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert written("L", root, {}, LATEX).latex == r"L = \log\sum_{j} e^{X}"
    assert written("L", root, {}).text == "L = logsumexp(X, 1)"
    with pytest.raises(DefinitionError, match="axis 2"):
        write(X, 2)
    with pytest.raises(TypeError, match=r"logsumexp\(\) missing a required argument"):
        write(X, over=1)


@pytest.mark.parametrize("rule", ["adjoint", "tangent"])
def test_a_wrong_derivative_of_a_new_word_is_caught(
    rule: str, logsumexp: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(logsumexp.LogSumExp, rule)
    monkeypatch.setattr(
        logsumexp.LogSumExp, rule, lambda self, g, *a: g.scale(-1, right(self, g, *a))
    )
    with pytest.raises(AssertionError):
        check("logsumexp", [(n, d)], 1)


def test_a_new_word_goes_through_a_control_problem(
    logsumexp: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The derivation compares itself with complex steps of the text, the kernel runs."""
    (tmp_path / "problem.py").write_text(PROBLEM, encoding="utf-8")
    text = render(derive(load(entries(tmp_path / "problem.py")[0])), "p", "p")
    monkeypatch.setattr(control, "logsumexp", jax.nn.logsumexp, raising=False)
    module = loaded(tmp_path / "kernel.py", text)
    x = jnp.asarray(np.random.default_rng(5).standard_normal((3, 4)))
    (rate,) = module.costate_rate((x,), (x,), (x,), ())
    np.testing.assert_allclose(rate, -jax.nn.softmax(x, axis=1), rtol=1e-5)
