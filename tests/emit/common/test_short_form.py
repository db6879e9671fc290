"""The shortest form of an equation is that equation: proven term by term, and its text read back.

The reader of `tests.support.read_equations` sees the text alone; the values that it must find come
from the sums over tokens.
"""

from __future__ import annotations

import ast
import re
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from derivations import derivation
from representatives import spread

from derive.calculus.index.evaluate import BUILT, built, evaluate
from derive.calculus.index.expressions import Expression
from derive.calculus.index.grouping import expanded, grouped
from derive.calculus.index.means import plain, shortest
from derive.calculus.index.text import show
from derive.calculus.written.dialect import LATEX, TEXT
from derive.calculus.written.short_form import ShortForm, short_form
from derive.calculus.written.spelling import Words
from derive.emit.covariance_sde.report import product_words
from derive.entry import generated_folder
from derive.methods.covariance_sde.derivation import derive
from derive.methods.covariance_sde.finite_width import finite_width
from derive.notation.common.arrays import walk
from derive.registry import registered
from tests.support import odd_layers
from tests.support.read_equations import Entries, read
from tests.support.read_latex import translated

MODELS = [e for e in registered() if e.method == "covariance_sde"]
MARKED = [spread(e.name, e) for e in MODELS]
SIZE = 3
# from published papers: the terms of shaped attention's covariance SDE as their authors write them
TERMS = {"drift": 3, "diffusion": 6, "noise": 3, "mixing_rate": 1}


def equations_of(name):
    return derivation(name).equations


def draw(expression, rng):
    """Arrays for the tensors and numbers for the symbols of an expression."""
    numbers = {
        s: 2 if s.is_integer else rng.uniform(0.2, 0.9)
        for c, _ in expression.terms
        for s in c.free_symbols
    }
    numbers |= {i.dim: SIZE for _, fs in expression.terms for f in fs for i in f.indices}
    numbers |= {i.dim: SIZE for i in expression.free}
    arrays = {}
    root = rng.standard_normal((SIZE, SIZE))
    for tensor in sorted(expression.tensors(), key=lambda t: t.kind in BUILT):
        if tensor.kind == "covariance":
            value = root @ root.T
            if tensor.meaning == "unit diagonal":
                sizes = np.sqrt(np.diag(value))
                value = value / np.outer(sizes, sizes)
            arrays[tensor.name] = value
        elif tensor.kind == "delta":
            arrays[tensor.name] = np.eye(SIZE)
        elif tensor.kind == "pattern":
            value = rng.uniform(0.1, 1, (SIZE, SIZE))
            arrays[tensor.name] = value / value.sum(1, keepdims=True)
        elif tensor.kind in BUILT:
            if tensor.kind == "response":
                data = (a.data for a in walk(tensor.meaning.root))
                symbols = {s for d in data for s in getattr(d, "free_symbols", ())}
                numbers |= {s: rng.uniform(0.2, 0.9) for s in symbols - set(numbers)}
            gram = (
                tensor.meaning[-1] if isinstance(tensor.meaning, tuple) else tensor.meaning.tensor
            )
            arrays.setdefault(gram.name, root @ root.T)
            arrays[tensor.name] = built(tensor, arrays, numbers)
        else:
            value = rng.standard_normal((SIZE, SIZE))
            arrays[tensor.name] = value + value.T if tensor.symmetric else value
    return arrays, numbers


def known(arrays, numbers):
    columns = {n: a[:, None] if a.ndim == 1 else a for n, a in arrays.items()}
    columns |= {"Ehh" if n == "E|h||h|" else n: a for n, a in columns.items()}
    return columns | {s.name: float(v) for s, v in numbers.items() if isinstance(s, sp.Symbol)}


def read_back(expression, form, rng):
    """The text's value and the equation's."""
    arrays, numbers = draw(expression, rng)
    found = read(form.lines, form.where, known(arrays, numbers), SIZE)
    if isinstance(found, Entries):
        found = found.at([i.name for i in expression.free])
    return found, evaluate(expression, arrays, numbers)


@pytest.mark.parametrize("entry", MARKED, ids=lambda e: e.name)
def test_every_equation_of_every_model_reads_back_as_its_sums(entry):
    rng = np.random.default_rng(5)
    equations = equations_of(entry.name)
    compared = 0
    for expression in equations.values():
        form = short_form(expression)
        found, right = read_back(expression, form, rng)
        size = np.abs(right).max() + 1e-300
        assert np.abs(found - right).max() <= 1e-12 * max(size, 1), (entry.name, form)
        assert form.count <= max(len(expression.terms), 0)
        compared += bool(expression.terms)
    assert compared


def test_shaped_attention_is_written_as_its_authors_do():
    equations = equations_of("shaped_attention")
    assert {n: short_form(e).count for n, e in equations.items()} == TERMS
    drift = short_form(equations["drift"])
    assert drift.lines == ["gamma**2/(m*tau_0**2) * [ |H V H|^2 V/m + u d^T + d u^T ]"]
    assert set(drift.where) == {
        "H = I - 1 1^T/m",
        "d = diag(V)",
        "u = V H (d/2 - V 1/m)",
    }


@pytest.mark.parametrize("wrong", ["sign", "factor", "exchange", "index"])
def test_a_text_with_one_error_does_not_read_back(wrong):
    equations = equations_of("shaped_attention")
    name = "drift" if wrong in ("sign", "factor") else "diffusion"
    form = short_form(equations[name])
    lines, where = list(form.lines), list(form.where)
    if wrong == "sign":
        where = [w.replace("d/2 - V", "d/2 + V") for w in where]
    elif wrong == "factor":
        where = [w.replace("d/2", "d") for w in where]
    elif wrong == "exchange":
        lines = [row.replace(" + (a <-> b, c <-> d)", "") for row in lines]
    else:
        lines = [row.replace("M[b,d]", "M[a,d]") for row in lines]
    assert (lines, where) != (form.lines, form.where)
    broken = type(form)(lines, where, form.count, form.is_matrix)
    found, right = read_back(equations[name], broken, np.random.default_rng(6))
    assert np.abs(found - right).max() > 1e-3 * np.abs(right).max()


@pytest.mark.parametrize("name", ["drift", "diffusion", "noise"])
def test_what_a_normalisation_takes_off_is_one_operator(name):
    """The noise and its covariance are those of the layer before it is normalised, projected."""
    post, before = (equations_of(n) for n in ("post_norm_shaped_attention", "shaped_attention"))
    found = grouped(shortest(post[name]))
    assert found.operator is not None and found.operator.scale == sp.Rational(-1, 2)
    assert found.count <= 6 < len(post[name].terms)
    if name != "drift":
        inner = replace(found, operator=None, lines=found.inside, inside=())
        assert show(expanded(inner)) == show(shortest(before[name])) and not found.lines


def test_an_operator_that_takes_off_too_much_is_refused(monkeypatch):
    from derive.calculus.index import diagonals_off, grouping
    from derive.errors import CheckFailed

    right = diagonals_off.split

    def wrong(expression):
        operator, inner, rest = right(expression)
        return replace(operator, scale=2 * operator.scale), inner, rest

    monkeypatch.setattr(grouping, "split", wrong)
    with pytest.raises(CheckFailed, match="groups"):
        grouped(shortest(equations_of("post_norm_shaped_attention")["noise"]))


@pytest.mark.parametrize(
    ("model", "counts"),
    [
        ("linear_attention", {"L_2 covariance": (13, 13)}),
        pytest.param(
            "shaped_attention",
            {"L_2 drift": (22, 90), "L_2 covariance": (165, 882)},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "causal_shaped_attention",
            {"L_2 drift": (20, 122), "L_2 covariance": (171, 1320)},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_corrections_of_finite_width_read_back(model, counts):
    rng = np.random.default_rng(10)
    equations = finite_width(derivation(model)).equations
    for name, (short, sums) in counts.items():
        for dialect, of in ((TEXT, lambda form: form), (LATEX, in_text)):
            form = short_form(equations[name], dialect)
            assert (form.count, len(equations[name].terms)) == (short, sums)
            found, right = read_back(equations[name], of(form), rng)
            assert np.abs(found - right).max() <= 1e-12 * np.abs(right).max(), name


def test_a_form_that_loses_a_term_is_refused(monkeypatch):
    from derive.calculus.index import grouping, means
    from derive.errors import CheckFailed

    equations = equations_of("shaped_attention")
    drift, mixing = equations["drift"], equations["mixing_rate"]
    closed = means._closed

    def doubled(coefficient, factors, edge):
        whole, means_ = closed(coefficient, factors, edge)
        return [(2 * c, f) for c, f in whole], means_

    with monkeypatch.context() as patch:
        patch.setattr(means, "_closed", doubled)
        with pytest.raises(CheckFailed, match="short form"):
            shortest(mixing)
    with monkeypatch.context() as patch:
        patch.setattr(grouping, "_common", lambda coefficients, dims: sp.Integer(1))
        patch.setattr(grouping, "_partners", lambda pieces, *rest: list(pieces)[:-1])
        with pytest.raises(CheckFailed, match="groups"):
            grouped(shortest(drift))


def test_a_form_expands_to_what_it_came_from():
    for entry in MODELS[:3]:
        for expression in equations_of(entry.name).values():
            short = shortest(expression)
            assert plain(short) == expression
            assert expanded(grouped(short)) == short


@pytest.mark.parametrize("entry", MARKED, ids=lambda e: e.name)
def test_the_latex_of_a_short_form_is_well_formed(entry):
    """Braces and brackets balance in every line; no symbol has two superscripts."""
    for expression in equations_of(entry.name).values():
        form = short_form(expression, LATEX)
        for row in [*form.lines, *form.where]:
            assert row.count("{") == row.count("}"), row
            assert row.count(r"\left") - row.count(r"\leftrightarrow") == row.count(r"\right"), row
            assert not re.search(r"\^\{[^{}]*\}\^|\^\w\^", row), row
        assert form.count == short_form(expression).count


def in_text(form):
    """A form in LaTeX as one in text."""
    lines, where = ([translated(row) for row in rows] for rows in (form.lines, form.where))
    return ShortForm(lines, where, form.count, form.is_matrix)


@pytest.mark.parametrize("entry", MARKED, ids=lambda e: e.name)
def test_the_latex_of_every_equation_reads_back_as_its_sums(entry):
    rng = np.random.default_rng(7)
    for expression in equations_of(entry.name).values():
        form = short_form(expression, LATEX)
        found, right = read_back(expression, in_text(form), rng)
        size = np.abs(right).max() + 1e-300
        assert np.abs(found - right).max() <= 1e-12 * max(size, 1), (entry.name, form)


@pytest.mark.parametrize("entry", MARKED, ids=lambda e: e.name)
def test_what_a_module_says_of_its_equations_reads_back(entry):
    """The constant EQUATIONS and the docstring of the module as it is committed."""
    text = (generated_folder() / f"{entry.name}.py").read_text()
    module = ast.parse(text)
    (said,) = (
        ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "EQUATIONS"
    )
    docstring = " ".join(ast.get_docstring(module).split())
    rng = np.random.default_rng(11)
    equations = equations_of(entry.name)
    assert set(equations) <= set(said)
    for name, expression in equations.items():
        right, _, where = said[name].partition(" = ")[2].partition(r" \quad \text{where } ")
        tex = ShortForm([right], where.split(r",\quad ") if where else [], 0)
        found, right = read_back(expression, in_text(tex), rng)
        assert np.abs(found - right).max() <= 1e-12 * max(np.abs(right).max(), 1), name
        avoid = {s.name for e in equations.values() for c, _ in e.terms for s in c.free_symbols}
        form = short_form(expression, avoid=avoid)
        for row in [*form.lines, *form.where]:
            assert " ".join(row.split()) in docstring, row


WRONG_LATEX = {  # model, equation, what is replaced by what
    "sign": ("shaped_attention", "drift", r"d - \frac{1}{m}", r"d + \frac{1}{m}"),
    "transpose": ("shaped_attention", "noise", r"F_{1}^{\top}", "F_{1}"),
    "exchange": (
        "shaped_attention",
        "diffusion",
        r" + \left(a \leftrightarrow b, c \leftrightarrow d\right)",
        "",
    ),
    "operator": (
        "post_norm_shaped_attention",
        "noise",
        r"- \frac{1}{2} V \operatorname",
        r"+ \frac{1}{2} V \operatorname",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_LATEX)
def test_latex_with_one_error_does_not_read_back(wrong):
    model, name, right, error = WRONG_LATEX[wrong]
    expression = equations_of(model)[name]
    form = short_form(expression, LATEX)
    lines, where = (
        [row.replace(right, error) for row in rows] for rows in (form.lines, form.where)
    )
    assert (lines, where) != (form.lines, form.where)
    broken = in_text(replace(form, lines=lines, where=where))
    found, right = read_back(expression, broken, np.random.default_rng(8))
    assert np.abs(found - right).max() > 1e-3 * np.abs(right).max()


def test_a_sign_that_the_latex_alone_gets_wrong_is_noticed(monkeypatch):
    signed = Words.signed

    def wrong(self, coefficient, product):
        sign, words = signed(self, coefficient, product)
        return ("+" if self.dialect.is_latex else sign), words

    monkeypatch.setattr(Words, "signed", wrong)
    expression = equations_of("shaped_attention")["drift"]
    for dialect, of in ((TEXT, lambda form: form), (LATEX, in_text)):
        form = of(short_form(expression, dialect))
        found, right = read_back(expression, form, np.random.default_rng(9))
        apart = np.abs(found - right).max() / np.abs(right).max()
        assert apart < 1e-12 if dialect is TEXT else apart > 1e-3


@pytest.mark.parametrize("layer", ["mixed_tokens", "windowed", "gram_response", "with_bias"])
def test_layers_that_nobody_has_shipped_read_back_from_text_and_latex(layer):
    """Patterns of their own, a lone delta, functions of V, one weight on both sides."""
    rng = np.random.default_rng(12)
    for expression in derive(getattr(odd_layers, layer)).equations.values():
        for dialect, of in ((TEXT, lambda form: form), (LATEX, in_text)):
            found, right = read_back(expression, of(short_form(expression, dialect)), rng)
            assert np.abs(found - right).max() <= 1e-11 * max(np.abs(right).max(), 1)


@pytest.mark.parametrize("entry", MARKED, ids=lambda e: e.name)
def test_what_a_field_is_said_to_be_is_what_is_drawn(entry):
    """Its law is that of L G L^T, by the linear map of the normals."""
    noise = derivation(entry.name).noise
    rng = np.random.default_rng(3)
    root = np.tril(rng.standard_normal((SIZE, SIZE)))
    for field in noise.fields:
        built, name = field.built, field.drawn.name
        arrays, numbers = draw(built, rng)
        law = noise.covariance_of(field)
        free = [i.dim for i in built.free]
        if any(arrays[t.name].shape != (SIZE, SIZE) for t in built.tensors()) or len(free) != 2:
            continue
        gram = noise.gram.name
        arrays[noise.factor.name] = root
        total = np.zeros((SIZE,) * 4)
        for i, j in np.ndindex(SIZE, SIZE):
            unit = np.zeros((SIZE, SIZE))
            if field.drawn.symmetric:  # (G + G^T) / sqrt(2)
                unit[i, j] += np.sqrt(0.5)
                unit[j, i] += np.sqrt(0.5)
            else:
                unit[i, j] = 1
            image = evaluate(built, arrays | {name: unit}, numbers)
            total += np.multiply.outer(image, image)
        right = evaluate(law, {gram: root @ root.T}, numbers)
        assert np.abs(total - right).max() < 1e-12 * np.abs(right).max(), field.core


def test_the_product_that_a_field_stands_for_is_the_core():
    """X W_K W_Q^T X^T, not X W_Q W_K^T X^T: read as matrices, it is the core's sum over units."""
    rng, compared = np.random.default_rng(4), 0
    for field in derivation("shaped_attention").noise.fields:
        for core in field.cores:
            arrays, numbers = draw(core, rng)
            numbers |= {s: 1.0 for c, _ in core.terms for s in c.free_symbols if s not in numbers}
            left, *others = (
                arrays[w.removesuffix("^T")].T if w.endswith("^T") else arrays[w]
                for w in product_words(core).split()
            )
            for matrix in others:
                left = left @ matrix
            ((coefficient, factors),) = core.terms
            bare = Expression(core.free, ((sp.Integer(1), factors),))
            right = evaluate(bare, arrays, numbers)
            assert np.abs(left - right).max() < 1e-12 * np.abs(right).max()
            if len(factors) == 4 and len({f.tensor for f in factors}) == 3:  # two weights
                assert np.abs(left - right.T).max() > 1e-3 * np.abs(right).max()
            compared += 1
    assert compared == 3
