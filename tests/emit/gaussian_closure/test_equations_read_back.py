"""The text of every shipped closure's equations, read as a reader does, is its index expression."""

from __future__ import annotations

import numpy as np
import pytest
from derivations import derivation
from read_closures import read_closure

from derive.calculus.index.defined_values import value
from derive.calculus.index.expressions import single
from derive.calculus.index.factors import Index
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


def _gap(result):
    """The largest relative distance of a text from its expression, and how many there are."""
    rng = np.random.default_rng(8)
    arrays, numbers = _known(result, rng)
    worst, shown = [], written(result)
    for name, expression in result.equations.items():
        given = dict(arrays)
        right = value(expression, result.book, given, SIZES, numbers)
        for tensor in expression.tensors():
            if tensor in result.book.of:
                given[tensor.name] = _defined(tensor, result.book, arrays, numbers)
        known = given | {s.name: np.array(v) for s, v in numbers.items()}
        text = " ".join(shown[name].right)
        sizes = SIZES | {"h": SIZES["H"], "tau": SIZES["B"]}
        for s in range(SIZES["B"] if result.model.positional else 1):
            places = {"s": s, "h": 0, "tau": 0}
            found = read_closure(text, known, places, sizes, shown[name].where)
            wanted = right[s] if result.model.positional else right
            wanted = wanted[:, None] if wanted.ndim == 1 else wanted
            worst.append(np.abs(found - wanted).max() / np.abs(wanted).max())
    return max(worst), len(worst)


def _defined(tensor, book, arrays, numbers):
    indices = tuple(Index(f"q{k}", d) for k, d in enumerate(tensor.dims))
    return value(single(tensor[indices], indices), book, arrays, SIZES, numbers)


@pytest.mark.parametrize("entry", MODELS, ids=lambda e: e.name)
def test_every_equation_reads_back_as_its_index_expression(entry):
    worst, compared = _gap(derivation(entry.name))
    assert compared and worst < 1e-11


def test_a_wrong_sign_in_the_writer_does_not_read_back(monkeypatch):
    (entry,) = (e for e in MODELS if e.name == "l2_closure")
    plain = Products._row_of

    def turned(self, product):
        sign, words = plain(self, product)
        return ("-" if sign == "+" and words.startswith("2") else sign), words

    monkeypatch.setattr(Products, "_row_of", turned)
    worst, _ = _gap(derivation(entry.name))
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
    "waves": "integral(V @ y, cos(b @ (x - y)))",
    "noise": f"noise(A) + average(V @ y, exp(al * ({SCORE})))",
}


@pytest.mark.parametrize("field", FIELDS)
def test_so_does_every_equation_of_fields_that_nobody_has_shipped(field, tmp_path):
    (tmp_path / "unseen.py").write_text(UNSEEN.format(velocity=FIELDS[field]))
    worst, compared = _gap(derived(find(str(tmp_path / "unseen.py"))))
    assert compared >= 4 and worst < 1e-11


def test_what_a_report_names_itself_takes_no_name_of_the_definition(tmp_path):
    """S' = R S + S R^T + N, with matrices R and N of the definition's own, would say neither."""
    text = UNSEEN.format(velocity="average(V @ y, exp(x @ y)) + noise(A)")
    text = text.replace("V=(d, d), A=", "R=(d, d), N=").replace("K, V, A, b", "K, R, N, b")
    (tmp_path / "own.py").write_text(text.replace("V @ y", "R @ y").replace("noise(A)", "noise(N)"))
    shown = written(derived(find(str(tmp_path / "own.py"))))
    assert shown["jacobian"].left == "J = E grad Gamma" and shown["noise"].left == "E"
    assert shown["cov_rate"].left == "S' = J S + S J^T + E"
    assert shown["jacobian"].right == ("R S",) and shown["noise"].right == ("N N^T",)
