"""The matrix form of an equation, at fixed sizes, is its entries; or the product is named."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import sympy as sp
from faces import equations
from representatives import representatives

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import UNIT
from derive.errors import DefinitionError, RequestError
from derive.face.entries import closure_of
from derive.face.equation import Equation
from derive.face.symbols import named
from derive.registry import registered

SEED = 5


def names_of(equation: Equation) -> tuple[set[str], set[str]]:
    """Symbols that are symmetric, and those whose diagonal is one."""
    if not isinstance(equation.value, Expression):
        return {str(a.data) for a in equation.home._symmetric}, set()
    tensors = closure_of(equation.value.tensors(), equation.home.book)
    law = [t for t in tensors if t.kind == "covariance"]
    symmetric = {t.name for t in tensors if t.symmetric} | {t.name for t in law}
    return symmetric, {t.name for t in law if t.meaning == UNIT}


def integrand(e: Any) -> Any:
    """Integrals compared by what is integrated: no quadrature of forty digits."""
    return e.replace(sp.Integral, lambda f, *_: f)


def explicit(form: Any, sizes: dict[str, int]) -> Any:
    """The entries of a form, by SymPy's own rules."""
    symbols = {s for s in form.atoms(sp.Symbol) if s.name in sizes}
    form = form.xreplace({s: sp.Integer(sizes[s.name]) for s in symbols})
    form = integrand(form)
    form = form.replace(sp.Trace, lambda a: a.as_explicit().trace())
    form = form.replace(sp.Determinant, lambda a: a.as_explicit().det())
    return form.as_explicit().doit() if form.is_Matrix else form


def entries(equation: Equation, sizes: dict[str, int], form: Any) -> np.ndarray:
    """The same as an array in the symbols of `.sympy`."""
    symmetric, unit = names_of(equation)

    def symbol(e: Any) -> sp.Expr:
        name, at = e.parent.name, [int(k) for k in e.indices]
        at = at[: 1 if e.parent.shape[1] == 1 else 2]
        if name in unit and at[0] == at[1]:
            return sp.Integer(1)
        return named(name, tuple(sorted(at) if name in symmetric else at))

    found = np.array(explicit(form, sizes), dtype=object)
    elements = set().union(*(sp.sympify(e).atoms(sp.matrices.expressions.matexpr.MatrixElement)
                             for e in found.ravel()))  # fmt: skip
    changes = {e: symbol(e) for e in elements}
    return np.array([sp.sympify(e).xreplace(changes) for e in found.ravel()], dtype=object)


def compare(equation: Equation, sizes: dict[str, int]) -> None:
    forms, wanted = equation.matrix, equation.sympy(**sizes)
    if not isinstance(forms, tuple):
        forms, wanted = (forms,), (wanted,)
    rng = np.random.default_rng(SEED)
    for form, one in zip(forms, wanted, strict=True):
        mine, right = entries(equation, sizes, form), np.array(integrand(one), dtype=object).ravel()
        assert len(mine) == len(right)
        symbols = set().union(*(sp.sympify(e).free_symbols for e in (*mine, *right)))
        values = {s: sp.Rational(int(rng.integers(1, 30)), 31) for s in sorted(symbols, key=str)}
        for a, b in zip(mine, right, strict=True):
            off = (sp.sympify(a) - b).xreplace(values)
            assert off == 0 or abs(sp.N(off, 40)) < 1e-30, (equation.name, off)


SLOW = {"attention_tracking", "l2_closure", "sigmoid_closure", "sphere_attention_tracking"}
# what others have in parts: blocks, heads, a quadratic law
SLOW |= {"shaped_transformer", "multihead_shaped_attention", "concatenated_shaped_attention"}
SLOW |= {"gaussian_tracking", "gaussian_query_tracking"}
# another function at the places of `shaped_smooth_mlp`
SLOW |= {"shaped_smooth_mlp_gelu", "shaped_smooth_mlp_silu"}
#: whose inverse of a polynomial in matrices SymPy writes out for minutes
INVERTED = {("sigmoid_closure", n) for n in ("P_1", "G_3", "c_1", "wave_mean", "wave_jacobian")}
#: whose entries at size three take more than a second or two; those at size two have all words
DEAR = {"post_norm_shaped_attention", "random_value_sphere_attention", "shaped_attention"}
DEAR |= {"shaped_smooth_mlp", "shaped_relu_mlp", "linear_closure", "softmax_closure"}
OTHERS = SLOW | {e.name for e in registered()} - representatives()
MODELS = [
    pytest.param(e.name, size, marks=[pytest.mark.slow] if e.name in late else [])
    for e in registered()
    for size, late in ((2, OTHERS), (3, OTHERS | DEAR))
    if e.name not in SLOW or size == 2
]
REFUSED = "free indices make no matrix|no matrix word writes|has no matrix form"


@pytest.mark.parametrize(("model", "size"), MODELS)
def test_the_matrix_form_of_every_equation_is_its_entries(model: str, size: int) -> None:
    """Second derivatives of control problems have their own."""
    compared = 0
    for equation in equations(model):
        if equation.name.startswith("h_") or (model, equation.name) in INVERTED:
            continue
        try:
            assert equation.matrix is not None
        except (RequestError, DefinitionError) as refusal:
            assert re.search(REFUSED, str(refusal)), equation.name
            continue
        if size == 2 or not equation.name.startswith("cov"):
            compare(equation, {d: size for d in equation._dims()[0]})
        compared += 1
    assert compared or model.startswith(
        ("causal", "masked", "multihead_softmax", "multihead_sphere", "euclidean_linear")
    ), model


@pytest.mark.parametrize("model", ["gaussian_tracking", "large_time_resnet"])
def test_second_derivatives_have_a_matrix_form_too(model: str) -> None:
    for name in ("h_xx", "h_xu", "h_ux", "h_uu"):
        equation = equations(model)[name]
        compare(equation, {d: 2 for d in equation._dims()[0]})


def test_a_drift_can_be_calculated_with_further() -> None:
    """Its trace at three tokens is the trace of the entries; the paper's words stand in it."""
    drift = equations("shaped_attention").drift
    form = drift.matrix
    assert isinstance(form, sp.MatrixExpr) and form.shape[0].name == "m"
    assert form.atoms(sp.Trace) and form.atoms(sp.DiagonalOf) and form.atoms(sp.OneMatrix)
    gamma = next(s for s in form.atoms(sp.Symbol) if s.name == "gamma")
    slope = sp.diff(form, gamma)
    whole = drift.sympy(m=2).diff(gamma)
    values = {s: sp.Rational(k + 2, 7) for k, s in enumerate(sorted(whole.free_symbols, key=str))}
    found = entries(drift, {"m": 2}, slope)
    assert [sp.simplify((a - b).xreplace(values)) for a, b in zip(found, whole, strict=True)] == [
        0
    ] * 4


@pytest.mark.parametrize(
    ("model", "name", "words"),
    [
        ("shaped_attention", "diffusion", r"4 free indices make no matrix: .*V\[a,c\] V\[b,d\]"),
        ("causal_shaped_attention", "drift", "no matrix word writes the product sum_"),
        ("multihead_softmax_closure", "velocity", r"no matrix word.*K\[k,l,p\]"),
        ("sparse_neural_ode", "control_law", "linf_norm has no matrix form"),
        ("sinkhorn_closure", "jacobian", "D_1 .spectral. has no matrix form"),
    ],
)
def test_what_has_no_matrix_form_is_named(model: str, name: str, words: str) -> None:
    with pytest.raises((RequestError, DefinitionError), match=words):
        assert equations(model)[name].matrix is None


def test_a_transposed_letter_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison has power: entries are those of general matrices, no symmetry hides a turn."""
    from derive.face import matrix_form

    monkeypatch.setattr(matrix_form, "transposed", lambda value: value)
    equation = equations("softmax_closure").jacobian
    with pytest.raises((AssertionError, ValueError)):
        compare(equation, {d: 2 for d in equation._dims()[0]})
