"""Exact entries: the theorem expanded apart in SymPy, the kernels' numbers, and derivatives of one
equation that must be another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import sympy as sp
from faces import equations

import derive
from derive.errors import RequestError
from derive.face.equations import Equations

SEED = 1


@pytest.fixture(scope="module")
def shaped() -> Equations:
    return equations("shaped_attention")


def by_name(expression: sp.Expr, values: Mapping[str, Any]) -> sp.Expr:
    return expression.xreplace({s: sp.sympify(values[s.name]) for s in expression.free_symbols})


def number(expression: sp.Expr, values: Mapping[str, float]) -> float:
    return float(sp.N(by_name(expression, values)))


def entries_of(name: str, array: np.ndarray) -> dict[str, float]:
    """V_12 and so on, as entries are called."""
    return {
        f"{name}_{''.join(str(i + 1) for i in at)}": float(array[at])
        for at in np.ndindex(*array.shape)
    }


def theorem_drift(m: int) -> sp.Matrix:
    """Theorem 4.2 of arXiv 2306.17759, its printed sums taken index by index."""
    gamma, tau = sp.symbols("gamma tau_0")
    V = sp.Matrix(m, m, lambda a, b: sp.Symbol(f"V_{min(a, b) + 1}{max(a, b) + 1}"))
    row = [sum(V[a, k] for k in range(m)) / sp.Integer(m) for a in range(m)]
    grand = sum(row) / sp.Integer(m)
    trace = sum(V[k, k] for k in range(m)) / sp.Integer(m)

    def first(a: int, n: int, b: int, k: int) -> sp.Expr:
        return V[a, b] * (V[n, k] - row[n] - row[k] + grand) / sp.Integer(m) ** 2

    def second(a: int, n: int) -> sp.Expr:
        return V[a, a] * (V[n, n] - 2 * row[n] + 2 * grand - trace) / sp.Integer(m)

    def entry(a: int, b: int) -> sp.Expr:
        pairs = itertools.product(range(m), repeat=2)
        out = sum(V[n, k] * first(a, n, b, k) for n, k in pairs)
        half = sum(V[b, n] * second(a, n) + V[a, n] * second(b, n) for n in range(m))
        return gamma**2 / tau**2 * (out + half / 2)

    return sp.Matrix(m, m, entry)


@pytest.mark.parametrize("m", [2, 3])
def test_the_drift_is_the_published_one_entry_by_entry(shaped: Equations, m: int) -> None:
    found = shaped.drift.sympy(m=m)
    plain = found.applyfunc(lambda e: e.xreplace({s: sp.Symbol(s.name) for s in e.free_symbols}))
    assert (plain - theorem_drift(m)).applyfunc(sp.expand) == sp.zeros(m, m)


def covariance(m: int, unit: bool = False) -> np.ndarray:
    X = np.random.default_rng(SEED).standard_normal((m, m + 2))
    if unit:
        X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X @ X.T / (1 if unit else m + 2)


@pytest.mark.parametrize(
    ("name", "m"),
    [
        ("shaped_attention", 2),
        pytest.param(
            "causal_shaped_attention", 3, marks=pytest.mark.slow
        ),  # a base pattern with entries of its own
        ("shaped_relu_mlp", 2),  # functions of correlations
        ("random_value_sphere_attention", 2),  # V_aa = 1, softmax of V kept whole
        ("relu_attention", 2),  # square roots of V_aa
    ],
)
def test_drift_and_diffusion_are_the_kernels_numbers(name: str, m: int) -> None:
    eq, kernel = equations(name), derive.load(name)
    V = covariance(m, unit="sphere" in name)
    params = {f: 0.3 + 0.1 * k for k, f in enumerate(kernel.Params._fields)}
    values = params | entries_of("V", V)
    got = [number(e, values) for e in eq.drift.sympy(m=m)]
    assert got == pytest.approx(np.ravel(kernel.drift(V, kernel.Params(**params))), rel=1e-10)
    sums = eq.diffusion.sympy(m=m)
    wanted = np.asarray(kernel.diffusion(V, kernel.Params(**params)))
    for at in ((0, 0, 0, 0), (0, 1, 0, 1), (0, 1, 1, 1)):
        assert number(sums[at], values) == pytest.approx(wanted[at], rel=1e-10, abs=1e-12)


def law(d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(SEED)
    factor = rng.standard_normal((d, d)) / 2
    return rng.standard_normal(d), rng.standard_normal(d) / 2, factor @ factor.T


@pytest.mark.parametrize("name", ["linear_closure", "softmax_closure", "l2_closure"])
def test_a_closures_velocity_is_the_kernels_number(name: str) -> None:
    """With inverses, determinants and exponentials of the law in it."""
    eq, kernel = equations(name), derive.load(name)
    x, mean, cov = law(2)
    rng = np.random.default_rng(SEED)
    shapes = {m.data: [2] * len(m.shape) for m in eq.result.model.matrices}
    params = {
        f: rng.standard_normal(shapes[f]) / 3 if f in shapes else 0.4 for f in kernel.Params._fields
    }
    values = entries_of("x", x) | entries_of("m", mean) | entries_of("S", cov)
    for field, array in params.items():
        values |= entries_of(field, array) if field in shapes else {field: array}
    sizes = {d.name: 2 for m in eq.result.model.matrices for d in m.shape}
    got = [number(e, values) for e in eq.velocity.sympy(**sizes)]
    wanted = kernel.velocity(x, mean, cov, kernel.Params(**params))
    assert got == pytest.approx(np.asarray(wanted), rel=1e-9)


def test_a_gaussian_mean_without_closed_form_is_an_integral() -> None:
    velocity = equations("sigmoid_closure").velocity
    sizes = {n: 1 for n in velocity._dims()[0]}
    assert velocity.sympy(**sizes)[0].has(sp.Integral, sp.exp)


def test_the_costate_rate_is_minus_the_derivative_of_the_hamiltonian() -> None:
    """Entries of one equation differentiated are entries of another, symbols of S being shared by
    both halves of it."""
    eq = equations("gaussian_tracking")
    hamiltonian, rate = eq.hamiltonian.sympy(d=2), eq.costate_rate.sympy(d=2)
    names = {s.name: s for s in hamiltonian.free_symbols}
    for a, b in ((0, 0), (0, 1), (1, 1)):
        slope = sp.diff(hamiltonian, names[f"S_{a + 1}{b + 1}"])
        weight = 1 if a == b else 2  # S_12 moves two entries
        assert sp.expand(rate[a, b] * weight + slope) == 0


def test_what_is_missing_or_unknown_is_named(shaped: Equations) -> None:
    with pytest.raises(RequestError, match=r"size of m is missing: \.drift\.sympy\(m=2\)"):
        shaped.drift.sympy()
    with pytest.raises(RequestError, match="no dimension q; it has m"):
        shaped.drift.sympy(q=2)
    with pytest.raises(RequestError, match="no size"):
        shaped.drift.sympy(m=2.5)
    with pytest.raises(RequestError, match=r"size of d_k is missing.*d=2, d_k=2"):
        equations("linear_closure").velocity.sympy(d=2)


def test_entries_have_the_shape_of_the_equation(shaped: Equations) -> None:
    assert shaped.drift.sympy(m=2).shape == (2, 2)
    assert shaped.diffusion.sympy(m=2).shape == (2, 2, 2, 2)
    assert isinstance(shaped.mixing_rate.sympy(m=2), sp.Expr)


@pytest.mark.parametrize("name", ["shaped_attention", "softmax_closure", "gaussian_tracking"])
def test_every_equation_has_entries_or_says_why_not(name: str) -> None:
    for equation in equations(name):
        found = equation.sympy(**dict.fromkeys(equation._dims()[0], 1))
        assert found is not None
