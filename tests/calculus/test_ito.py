"""Ito's rule against a route without it: the covariance of Brownian tokens, in the tokens.

With tokens X (m, N) that are Brownian motions, V = X X^T has the drift N delta_ab and the diffusion
V_ac delta_bd + V_ad delta_bc + V_bc delta_ad + V_bd delta_ac.  A function of V is one of X, whose
drift is half its Laplacian in X, and whose covariance with another is the product of gradients.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Index, Tensor, delta_tensor
from derive.calculus.ito import image, image_diffusion, image_drift, image_noise
from derive.draws import generator

TOKENS, WIDTH = 3, 4
PAIRS = list(itertools.product(range(TOKENS), repeat=2))
X = sp.Matrix(TOKENS, WIDTH, sp.symbols(f"x:{TOKENS * WIDTH}", real=True))
m, N = sp.Symbol("m", positive=True, integer=True), sp.Symbol("N", positive=True, integer=True)
V, D = Tensor("V", (m, m), "covariance", symmetric=True), delta_tensor(m)
a, b, c, d = (Index(n, m) for n in "abcd")
DRIFT = collect((a, b), [(N, (D[a, b],))])
DIFFUSION = collect(
    (a, b, c, d),
    [(sp.Integer(1), (V[p, q], D[r, s])) for (p, r), (q, s) in itertools.product(
        ((a, b), (b, a)), ((c, d), (d, c)))],
)  # fmt: skip


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    """Rows of unit size."""
    found = generator(71).standard_normal((TOKENS, WIDTH))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def in_tokens(f: sp.Expr, at: np.ndarray) -> tuple[float, np.ndarray]:
    """Half the Laplacian and the gradient of a function of X."""
    half = sum((sp.diff(f, x, 2) for x in X), sp.Integer(0)) / 2
    rates = sp.lambdify(list(X), [half, *(sp.diff(f, x) for x in X)], "numpy")(*at.ravel())
    return float(rates[0]), np.array(rates[1:], float)


def correlations() -> dict[tuple[int, int], sp.Expr]:
    gram = X * X.T
    return {(i, j): gram[i, j] / sp.sqrt(gram[i, i] * gram[j, j]) for i, j in PAIRS}


@pytest.fixture(scope="module")
def wanted(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drift (m, m) and diffusion (m, m, m, m) of the correlations."""
    found = {pair: in_tokens(f, tokens) for pair, f in correlations().items()}
    drift = np.array([found[p][0] for p in PAIRS]).reshape(TOKENS, TOKENS)
    slopes = np.array([found[p][1] for p in PAIRS])
    return drift, (slopes @ slopes.T).reshape((TOKENS,) * 4)


def at_tokens(expression: Expression, tokens: np.ndarray) -> np.ndarray:
    numbers = {m: float(TOKENS), N: float(WIDTH)}
    return evaluate(expression, {"V": tokens @ tokens.T}, numbers)


def normalised() -> tuple[Expression, Tensor]:
    """The increment of V_ab / sqrt(V_aa V_bb) about unit rows, to second order, by hand."""
    t = Tensor("t", (m, m), "increment", symmetric=True)
    half, terms = sp.Rational(1, 2), []
    terms.append((sp.Integer(1), (t[a, b],)))
    for e in (a, b):
        terms.append((-half, (V[a, b], t[e, e])))
        terms.append((-half, (t[a, b], t[e, e])))
        terms.append((3 * half / 4, (V[a, b], t[e, e], t[e, e])))
    terms.append((half**2, (V[a, b], t[a, a], t[b, b])))
    return collect((a, b), terms), t


def test_index_expressions_have_the_drift_of_the_tokens(
    tokens: np.ndarray, wanted: tuple[np.ndarray, np.ndarray]
) -> None:
    found = at_tokens(image_drift(*normalised(), DRIFT, DIFFUSION), tokens)
    np.testing.assert_allclose(found, wanted[0], atol=1e-12)


def test_index_expressions_have_the_diffusion_of_the_tokens(
    tokens: np.ndarray, wanted: tuple[np.ndarray, np.ndarray]
) -> None:
    found = at_tokens(image_diffusion(*normalised(), DIFFUSION), tokens)
    np.testing.assert_allclose(found, wanted[1], atol=1e-12)


def test_the_linear_part_is_that_of_a_fluctuation(tokens: np.ndarray) -> None:
    increment, t = normalised()
    F = Tensor("F", (m, m), "field", symmetric=True)
    linear = image_noise(increment, t, collect((a, b), [(sp.Integer(1), (F[a, b],))]))
    field = generator(72).standard_normal((TOKENS, TOKENS))
    field = field + field.T
    gram, size = tokens @ tokens.T, np.diag(field)
    found = evaluate(linear, {"V": gram, "F": field}, {m: float(TOKENS)})
    np.testing.assert_allclose(found, field - gram * (size[:, None] + size) / 2, atol=1e-14)


def test_without_its_second_order_term_the_rule_is_wrong(
    tokens: np.ndarray, wanted: tuple[np.ndarray, np.ndarray]
) -> None:
    nothing = DIFFUSION.scaled(sp.Integer(0))
    found = at_tokens(image_drift(*normalised(), DRIFT, nothing), tokens)
    assert np.max(np.abs(found - wanted[0])) > 0.1


def test_entries_have_the_drift_and_noise_of_the_tokens(
    tokens: np.ndarray, wanted: tuple[np.ndarray, np.ndarray]
) -> None:
    """The correlation of two tokens, by its derivatives."""
    places = ((0, 0), (0, 1), (1, 1))
    v = {p: sp.Symbol(f"v{p[0]}{p[1]}", positive=True) for p in places}
    rho = v[0, 1] / sp.sqrt(v[0, 0] * v[1, 1])
    gram = tokens @ tokens.T
    put = {symbol: gram[p] for p, symbol in v.items()}
    first = {p: float(sp.diff(rho, v[p]).subs(put)) for p in places}
    second = {(p, q): float(sp.diff(rho, v[p], v[q]).subs(put)) for p in places for q in places}
    b, Q = at_tokens(DRIFT, tokens), at_tokens(DIFFUSION, tokens)
    drift = {p: b[p] for p in places}
    pairs = {(p, q): Q[p + q] for p in places for q in places}
    mean, square = image(first, second, drift, pairs)
    assert mean == pytest.approx(wanted[0][0, 1], abs=1e-12)
    assert square == pytest.approx(wanted[1][0, 1, 0, 1], abs=1e-12)
    assert abs(image(first, {}, drift, pairs)[0] - mean) > 0.1
