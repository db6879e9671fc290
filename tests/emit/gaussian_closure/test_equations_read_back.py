"""The text and LaTeX of every shipped closure, read as a reader does, are its index expressions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from derivations import derivation
from read_closures import read_closure
from read_latex import translated

from derive.calculus.index.defined_values import value
from derive.calculus.index.expressions import single
from derive.calculus.index.factors import Index
from derive.calculus.written.dialect import LATEX, TEXT
from derive.calculus.written.products import Products
from derive.derivation import derived
from derive.emit.gaussian_closure.equations import written
from derive.registry import find, registered

MODELS = [e for e in registered() if e.method == "gaussian_closure"]
SIZES = {"d": 3, "d_k": 4, "d_v": 2, "H": 2, "B": 3}


def _known(result, rng):
    """Random arrays for all tensors, symbols' numbers, defined tensors by their meaning."""
    arrays = {m.data: rng.standard_normal([SIZES[s.name] for s in m.shape])
              for m in result.model.matrices}  # fmt: skip
    block = [SIZES["B"]] * result.model.positional
    arrays["m"], arrays["x"] = rng.standard_normal((2, *block, SIZES["d"]))
    F = rng.standard_normal((*block, SIZES["d"], SIZES["d"]))
    arrays |= {"S": F @ F.swapaxes(-1, -2), "F_S": F, "theta": rng.uniform(0.2, 1, SIZES["B"])}
    arrays["mask_upto"] = np.tril(np.ones((SIZES["B"],) * 2))
    symbols = {s for e in result.equations.values() for c, _ in e.terms for s in c.free_symbols}
    bodies = [b for d in result.book.of.values() for b in d.bodies]
    symbols |= {s for b in bodies for c, _ in b.terms for s in c.free_symbols}
    return arrays, {s: rng.uniform(0.3, 0.8) for s in symbols}


DIALECTS = {"text": TEXT, "latex": LATEX}
PLACES = ("s", "h", "tau")


def _gap(result, dialect=TEXT):
    """The largest relative distance of a text from its expression, and how many there are."""
    rng = np.random.default_rng(8)
    arrays, numbers = _known(result, rng)
    worst, shown = [], written(result, dialect)
    for name, expression in result.equations.items():
        given = dict(arrays)
        right = value(expression, result.book, given, SIZES, numbers)
        for tensor in expression.tensors():
            if tensor in result.book.of:
                given[tensor.name] = _defined(tensor, result.book, arrays, numbers)
        known = given | {s.name: np.array(v) for s, v in numbers.items()}
        text, where = " ".join(shown[name].right), shown[name].where
        if dialect.is_latex:
            text, where = translated(text, PLACES), [translated(row, PLACES) for row in where]
        sizes = SIZES | {"h": SIZES["H"], "tau": SIZES["B"]}
        for s in range(SIZES["B"] if result.model.positional else 1):
            places = dict.fromkeys(PLACES, 0) | {"s": s}
            found = read_closure(text, known, places, sizes, where)
            wanted = right[s] if result.model.positional else right
            wanted = wanted[:, None] if wanted.ndim == 1 else wanted
            worst.append(np.abs(found - wanted).max() / np.abs(wanted).max())
    return max(worst), len(worst)


def _defined(tensor, book, arrays, numbers):
    indices = tuple(Index(f"q{k}", d) for k, d in enumerate(tensor.dims))
    return value(single(tensor[indices], indices), book, arrays, SIZES, numbers)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("entry", MODELS, ids=lambda e: e.name)
def test_every_equation_reads_back_as_its_index_expression(entry, dialect):
    worst, compared = _gap(derivation(entry.name), DIALECTS[dialect])
    assert compared and worst < 1e-11


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_wrong_sign_in_the_writer_does_not_read_back(dialect, monkeypatch):
    (entry,) = (e for e in MODELS if e.name == "l2_closure")
    plain = Products._row_of

    def turned(self, product):
        sign, words = plain(self, product)
        return ("-" if sign == "+" and words.startswith("2") else sign), words

    monkeypatch.setattr(Products, "_row_of", turned)
    worst, _ = _gap(derivation(entry.name), DIALECTS[dialect])
    assert worst > 1e-2


def test_latex_without_a_transpose_does_not_read_back():
    dropped = replace(LATEX, transpose="{}")
    for name in ("l2_closure", "multihead_softmax_closure"):
        worst = 1.0
        with suppress(ValueError):  # shapes do not fit
            worst, _ = _gap(derived(find(name)), dropped)
        assert worst > 1e-2


UNSEEN = '''"""A velocity field of no shipped model."""
from derive.notation import average, cos, dims, exp, gaussian_closure, integral, matrices, noise
from derive.notation import params

d, d_k = dims("d: token dimension", "d_k: key dimension")
Q, K, V, A, b = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d), A=(d, d), b=(d,))
al, be = params("al: positive", "be: real")


@gaussian_closure(state="x[d]")
def unseen(x, y):
    """Its words are in no list."""
    return {velocity}
'''
SCORE = "(Q @ x) @ (K @ y)"
FIELDS = {
    "difference": f"average(V @ y, exp({SCORE})) - be * average(A @ y, exp(2 * ({SCORE})))",
    "relative": f"average(V @ (y - x), exp({SCORE})) + b",
    "square": f"integral(V @ y, ({SCORE})**2)",
    "two forms": "integral(V @ y, (b @ y) * (x @ y))",
    "trace in front": "integral((y @ (A @ y)) * (V @ x)) - al * x",
    "lone term": f"integral(2 * (V @ y), {SCORE}) + x",
    "nothing of the tokens": "integral(b, x @ y) + integral(1, x @ y) * b",
    "waves": "integral(V @ y, cos(b @ (x - y)))",
    "noise": f"noise(A) + average(V @ y, exp(al * ({SCORE})))",
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("field", FIELDS)
def test_so_does_every_equation_of_fields_that_nobody_has_shipped(field, dialect, tmp_path):
    (tmp_path / "unseen.py").write_text(UNSEEN.format(velocity=FIELDS[field]))
    worst, compared = _gap(derived(find(str(tmp_path / "unseen.py"))), DIALECTS[dialect])
    assert compared >= 4 and worst < 1e-11


def test_what_begins_or_ends_alike_is_one_bracket_beside_a_lone_term(tmp_path):
    (tmp_path / "unseen.py").write_text(UNSEEN.format(velocity=FIELDS["lone term"]))
    shown = written(derived(find(str(tmp_path / "unseen.py"))))
    assert shown["velocity"].right == ("2 V (S + m m^T) K^T Q x", "+ x")


def test_what_a_report_names_itself_takes_no_name_of_the_definition(tmp_path):
    """S' = R S + S R^T + N, with matrices R and N of the definition's own, would say neither."""
    text = UNSEEN.format(velocity="average(V @ y, exp(x @ y)) + noise(A)")
    text = text.replace("V=(d, d), A=", "R=(d, d), N=").replace("K, V, A, b", "K, R, N, b")
    (tmp_path / "own.py").write_text(text.replace("V @ y", "R @ y").replace("noise(A)", "noise(N)"))
    shown = written(derived(find(str(tmp_path / "own.py"))))
    assert shown["jacobian"].left == "J = E grad Gamma" and shown["noise"].left == "E"
    assert shown["cov_rate"].left == "S' = J S + S J^T + E"
    assert shown["jacobian"].right == ("R S",) and shown["noise"].right == ("N N^T",)
