"""The closed-form laws follow from the published coefficients and hold at finite width.

Source: Noci et al. (2023), arXiv 2306.17759, Theorem 4.2, without attention
(tau_0 = inf, or m = 1).
"""

import closed_form_laws as laws
import numpy as np
import pytest
import shaped_attention_theorem as theorem

V0 = np.array([[1.3, 0.4, -0.2], [0.4, 0.8, 0.1], [-0.2, 0.1, 1.1]])


def test_one_token_has_no_attention_and_rate_s():
    V = np.array([[1.7]])
    s = laws.rate(0.6)
    assert theorem.drift(V, 0.6, 0.3) == 0
    np.testing.assert_allclose(theorem.diffusion(V, 0.6, 0.3), 2 * s * 1.7**2, rtol=1e-15)
    # d log V = drift/V - (1/2) variance/V^2
    law = laws.one_token_log_law(s, 0.4)
    np.testing.assert_allclose([law.mean(), law.var()], [-s * 0.4, 2 * s * 0.4], rtol=1e-14)
    # E V^k of the log-normal law is exp(k (k - 1) s t): a martingale, and for k = 2 the moment ODE
    np.testing.assert_allclose(law.mean() + law.var() / 2, 0, atol=1e-15)
    second = laws.second_moment(V, s, 0.4)[0, 0, 0, 0]
    np.testing.assert_allclose(second, 1.7**2 * np.exp(2 * law.mean() + 2 * law.var()), rtol=1e-14)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_log_det_law_is_itos_formula_of_the_published_coefficients(m):
    V, gamma = V0[:m, :m], 0.7
    inverse = np.linalg.inv(V)
    Sigma = theorem.diffusion(V, gamma, np.inf)
    law = laws.log_det_law(m, laws.rate(gamma), 1.0)
    variance = np.einsum("ab,cd,abcd->", inverse, inverse, Sigma)
    drift = -np.einsum("ad,bc,abcd->", inverse, inverse, Sigma) / 2
    np.testing.assert_allclose([law.mean(), law.var()], [drift, variance], rtol=1e-12)
    if m == 1:
        other = laws.one_token_log_law(laws.rate(gamma), 1.0)
        np.testing.assert_allclose([law.mean(), law.var()], [other.mean(), other.var()], rtol=1e-14)


def test_second_moments_solve_their_equation_of_motion():
    """d/dt E[V^ab V^cd] = E Sigma^{ab,cd}, whose right side is linear in the second moments."""
    gamma, t, h = 0.7, 0.6, 1e-4
    s = laws.rate(gamma)
    np.testing.assert_allclose(
        laws.second_moment(V0, s, 0.0), np.einsum("ab,cd->abcd", V0, V0), atol=1e-15
    )
    E = laws.second_moment(V0, s, t)
    Sigma = s * (np.einsum("acbd->abcd", E) + np.einsum("adbc->abcd", E))
    slope = (laws.second_moment(V0, s, t + h) - laws.second_moment(V0, s, t - h)) / (2 * h)
    np.testing.assert_allclose(slope, Sigma, atol=1e-7)
    at_zero = (laws.second_moment(V0, s, h) - laws.second_moment(V0, s, -h)) / (2 * h)
    np.testing.assert_allclose(at_zero, theorem.diffusion(V0, gamma, np.inf), atol=1e-7)


def test_trace_moments_are_contractions_with_eigenvalues_2s_and_minus_s():
    s, t = 0.8, 0.6
    p, q = laws.trace_moments(V0, s, t)
    E = laws.second_moment(V0, s, t)
    np.testing.assert_allclose(p, np.einsum("abba->", E), rtol=1e-13)
    np.testing.assert_allclose(q, np.einsum("aabb->", E), rtol=1e-13)
    p0, q0 = np.sum(V0 * V0), np.trace(V0) ** 2
    values, vectors = np.linalg.eig(s * np.array([[1.0, 1.0], [2.0, 0.0]]))
    np.testing.assert_allclose(sorted(values), [-s, 2 * s], rtol=1e-12)
    flow = vectors @ np.diag(np.exp(values * t)) @ np.linalg.inv(vectors)
    np.testing.assert_allclose([p, q], flow @ [p0, q0], rtol=1e-12)


def test_finite_width_tends_to_the_limit_at_order_one_over_n():
    gamma, t, m = 0.7, 0.5, 3
    s = laws.rate(gamma)
    limits = [
        laws.second_moment(V0, s, t),
        np.exp(laws.log_det_law(m, s, t).mean() + laws.log_det_law(m, s, t).var() / 2),
        laws.log_det_law(m, 1.0, t).mean(),
        laws.log_det_law(m, 1.0, t).var(),
        np.exp(6 * s * t),
        laws.trace_moments(V0, s, t)[1],
    ]

    def finite(n):
        layers = round(n * t)
        return [
            laws.linear_network_second_moment(V0, gamma, n, layers),
            laws.linear_network_det_mean(m, gamma, n, layers),
            *laws.wishart_network_log_det(m, n, layers),
            laws.linear_network_one_token_moment(3, gamma, n, layers),
            laws.linear_network_trace_moments(V0, gamma, n, layers)[1],
        ]

    for limit, coarse, fine in zip(limits, finite(10_000), finite(20_000), strict=True):
        np.testing.assert_allclose(2 * np.asarray(fine) - coarse, limit, rtol=1e-6)
        assert np.max(np.abs(np.asarray(fine) - limit)) > 1e-6


@pytest.mark.parametrize("gamma", [0.6, 1.0])
def test_finite_width_formulas_agree_with_each_other(gamma):
    n, layers = 5, 4
    one = np.array([[1.0]])
    second = laws.linear_network_second_moment(one, gamma, n, layers)[0, 0, 0, 0]
    np.testing.assert_allclose(
        second, laws.linear_network_one_token_moment(2, gamma, n, layers), rtol=1e-14
    )
    np.testing.assert_allclose(laws.linear_network_det_mean(1, gamma, n, layers), 1, rtol=1e-14)
    E = laws.linear_network_second_moment(V0[:2, :2], gamma, n, layers)
    det = E[0, 0, 1, 1] - E[0, 1, 0, 1]
    expected = laws.linear_network_det_mean(2, gamma, n, layers) * np.linalg.det(V0[:2, :2])
    np.testing.assert_allclose(det, expected, rtol=1e-13)
    own = np.einsum("ab,cd->abcd", V0, V0)
    np.testing.assert_allclose(
        laws.linear_network_second_moment(V0, gamma, n, 1) - own,
        laws.linear_layer_covariance(V0, gamma, n),
        atol=1e-15,
    )
    law = laws.linear_layer_one_token_law(gamma, n)
    for k in (1, 2, 3, 4):
        np.testing.assert_allclose(
            laws.linear_network_one_token_moment(k, gamma, n, 1), law.moment(k), rtol=1e-12
        )


def test_third_moment_of_the_plain_layer():
    n = 7
    value = laws.linear_network_one_token_moment(3, 1.0, n, 1)
    np.testing.assert_allclose(value, 1 + 6 / n + 8 / n**2, rtol=1e-15)


@pytest.mark.parametrize("gamma", [0.7, 1.0])
def test_dense_linear_network_has_the_finite_width_moments(gamma):
    """The definition with dense weights, n = 5, three layers; every |z| < 4.5, fixed seed."""
    rng = np.random.default_rng(20231)
    paths, m, n, layers = 60_000, 3, 5, 3
    lam = np.sqrt(1 - gamma**2)
    Q = np.linalg.qr(rng.standard_normal((n, m)))[0].T
    X = np.broadcast_to(np.sqrt(n) * np.linalg.cholesky(V0) @ Q, (paths, m, n))
    for layer in range(layers):
        X = lam * X + gamma * X @ rng.standard_normal((paths, n, n)) / np.sqrt(n)
        if layer == 0:
            first = X[:, 0, :]
    V = X @ np.swapaxes(X, -1, -2) / n
    pairs = np.einsum("kab,kcd->kabcd", V, V)
    _within(pairs, laws.linear_network_second_moment(V0, gamma, n, layers))
    _within(V, laws.linear_layer_mean(V0))
    ratio = np.linalg.det(V) / np.linalg.det(V0)
    _within(ratio, laws.linear_network_det_mean(m, gamma, n, layers))
    if gamma == 1:
        mean, variance = laws.wishart_network_log_det(m, n, layers)
        _within(np.log(ratio), mean)
        _within((np.log(ratio) - mean) ** 2, variance)
    one = np.sum(first**2, axis=-1) / n / V0[0, 0]
    law = laws.linear_layer_one_token_law(gamma, n)
    for p in (0.1, 0.5, 0.9):
        _within((one < law.ppf(p)).astype(float), p)


def _within(draws, expected):
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert np.max(np.abs(draws.mean(axis=0) - expected) / error) < 4.5
