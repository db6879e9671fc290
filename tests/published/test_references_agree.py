"""The references for shaped attention agree: Theorem 4.2, the exact layer, the two-token gap.

Source: Noci et al. (2023), arXiv 2306.17759. If the theorem as typed here is right, it is the
limit of n (E V' - V) and n Cov V' of the exact layer; and at m = 2 the gap w has the coefficients
that `two_token_gap` solves for.
"""

import numpy as np
import one_layer_moments as layer
import pytest
import shaped_attention_theorem as theorem
import two_token_gap as gap

V2 = np.array([[1.3, 0.4], [0.4, 0.8]])
V3 = np.array([[1.3, 0.4, -0.2], [0.4, 0.8, 0.1], [-0.2, 0.1, 1.1]])


@pytest.mark.parametrize(
    "V", [V2, np.array([[1.0, 0.2], [0.2, 1.0]]), np.array([[2.0, -1.0], [-1.0, 0.7]])]
)
def test_gap_of_two_tokens_is_autonomous(V):
    gamma, tau_0 = 0.6, 0.4
    e = np.array([1.0, -1.0])
    w = e @ V @ e
    b, Sigma = theorem.drift(V, gamma, tau_0), theorem.diffusion(V, gamma, tau_0)
    np.testing.assert_allclose(e @ b @ e, gap.drift(w, gamma**2, tau_0), rtol=1e-13)
    np.testing.assert_allclose(theorem.S2(V), 0, atol=1e-15)
    variance = np.einsum("a,b,c,d,abcd->", e, e, e, e, Sigma)
    np.testing.assert_allclose(variance, gap.variance_rate(w, gamma**2, tau_0), rtol=1e-13)


@pytest.mark.parametrize("n_k", [1, 5])
def test_theorem_is_the_limit_of_the_exact_two_token_layer(n_k):
    gamma, tau_0 = 0.7, 0.5

    def scaled(n):
        mean, covariance = layer.two_token_moments(V2, gamma, tau_0, n, n_k)
        return n * (mean - V2), n * covariance

    coarse, fine = scaled(10_000), scaled(20_000)
    limit = theorem.drift(V2, gamma, tau_0), theorem.diffusion(V2, gamma, tau_0)
    for a, b, c in zip(coarse, fine, limit, strict=True):
        np.testing.assert_allclose(2 * b - a, c, rtol=3e-6)
        ratio = np.abs(a - c).max() / np.abs(b - c).max()
        np.testing.assert_allclose(ratio, 2, atol=0.02)  # weak error O(1/n)


@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_theorem_is_the_second_order_expansion_of_the_softmax(m):
    """n (E V' - V) and n Cov V' by differences of A V A^T along the logits L_p L_q^T, V = L L^T.

    The logits / tau have covariance V^{ac} V^{bd} / (n tau_0^2); so the drift is half the second
    derivative summed over p, q, and the attention noise the sum of squares of the first.
    """
    gamma, tau_0, h = 0.7, 0.5, 2e-3
    factor = np.random.default_rng(m).standard_normal((m, m + 3))
    V = factor @ factor.T / (m + 3)
    L = np.linalg.cholesky(V)

    def mixed(logits):
        A = layer.shaped_attention(logits, tau_0)
        return A @ V @ np.swapaxes(A, -1, -2)

    directions = np.einsum("ap,bq->pqab", L, L)
    steps = [mixed(k * h * directions) for k in (-2, -1, 0, 1, 2)]
    first = (steps[0] - 8 * steps[1] + 8 * steps[3] - steps[4]) / (12 * h)
    second = -steps[0] + 16 * steps[1] - 30 * steps[2] + 16 * steps[3] - steps[4]
    drift = gamma**2 * second.sum(axis=(0, 1)) / (24 * h**2)
    np.testing.assert_allclose(theorem.drift(V, gamma, tau_0), drift, rtol=1e-7, atol=1e-7)
    noise = gamma**4 * np.einsum("pqab,pqcd->abcd", first, first)
    noise += gamma**2 * (2 - gamma**2) * theorem.sigma_linear(V)
    np.testing.assert_allclose(theorem.diffusion(V, gamma, tau_0), noise, rtol=1e-7, atol=1e-7)


def test_theorem_is_the_limit_of_the_exact_layer_of_three_tokens():
    gamma, tau_0, n = 0.7, 0.5, 200_000
    rng = np.random.default_rng(42)
    exact = layer.one_layer_moments(V3, gamma, tau_0, n, 2, samples=400_000, rng=rng)
    z = (exact.mean - V3 - theorem.drift(V3, gamma, tau_0) / n) / exact.mean_error
    assert np.abs(z).max() < 4.5
    z = (exact.covariance - theorem.diffusion(V3, gamma, tau_0) / n) / exact.covariance_error
    assert np.abs(z).max() < 4.5
    # The attention terms are far above the error: missing or doubled, they would be seen.
    linear = theorem.diffusion(V3, gamma, np.inf) / n
    assert np.abs((exact.covariance - linear) / exact.covariance_error).max() > 100


def test_rao_blackwell_agrees_with_the_quadrature():
    args = (V2, 0.7, 0.5, 20, 3)
    mean, covariance = layer.two_token_moments(*args)
    finer = layer.two_token_moments(*args, order=40)
    np.testing.assert_allclose(mean, finer[0], rtol=1e-8)
    np.testing.assert_allclose(covariance, finer[1], rtol=1e-6)
    drawn = layer.one_layer_moments(*args, samples=200_000, rng=np.random.default_rng(7))
    assert np.abs((drawn.mean - mean) / drawn.mean_error).max() < 4.5
    assert np.abs((drawn.covariance - covariance) / drawn.covariance_error).max() < 4.5


def test_dense_shaped_attention_layer_has_the_exact_moments():
    """The definition with dense weights, n = 8, n_k = 2."""
    gamma, tau_0, n, n_k, paths = 0.7, 0.5, 8, 2, 200_000
    rng = np.random.default_rng(11)
    X = np.sqrt(n) * np.linalg.cholesky(V2) @ np.linalg.qr(rng.standard_normal((n, 2)))[0].T
    W_K, W_Q = rng.standard_normal((2, paths, n, n_k))
    Y = (X @ W_K) @ np.swapaxes(X @ W_Q, -1, -2) / n
    A = layer.shaped_attention(Y, tau_0 * np.sqrt(n * n_k))
    value = (A @ X) @ rng.standard_normal((paths, n, n)) / np.sqrt(n)
    X = np.sqrt(1 - gamma**2) * X + gamma * value
    V = X @ np.swapaxes(X, -1, -2) / n
    mean, covariance = layer.two_token_moments(V2, gamma, tau_0, n, n_k, order=48)
    scale = np.sqrt(paths)
    assert np.abs((V.mean(axis=0) - mean) / V.std(axis=0)).max() * scale < 4.5
    products = np.einsum("kab,kcd->kabcd", V - mean, V - mean)
    z = (products.mean(axis=0) - covariance) / products.std(axis=0) * scale
    assert np.abs(z).max() < 4.5
    # Given the logits, what is left of V' has mean zero whatever function of A it is weighted with.
    left = V - layer.conditional_mean(V2, A, gamma)
    weighted = left * A[:, :1, :1]
    assert np.abs(weighted.mean(axis=0) / weighted.std(axis=0)).max() * scale < 4.5
    left = np.einsum("kab,kcd->kabcd", left, left)
    left -= layer.conditional_covariance(V2, A, gamma, n)
    weighted = left * A[:, :1, :1, None, None]
    assert np.abs(weighted.mean(axis=0) / weighted.std(axis=0)).max() * scale < 4.5


def test_identical_tokens_stay_identical():
    V = V3[np.ix_([0, 1, 1], [0, 1, 1])]
    e = np.array([0.0, 1.0, -1.0])
    b, Sigma = theorem.drift(V, 0.7, 0.5), theorem.diffusion(V, 0.7, 0.5)
    np.testing.assert_allclose(b @ e, 0, atol=1e-15)
    np.testing.assert_allclose(np.einsum("abcd,b->acd", Sigma, e), 0, atol=1e-15)


def test_coefficients_are_permutation_equivariant_and_batched():
    order = [2, 0, 1]
    P = np.eye(3)[order]
    V = np.stack([V3, 2 * V3])
    b, Sigma = theorem.drift(V, 0.7, 0.5), theorem.diffusion(V, 0.7, 0.5)
    np.testing.assert_allclose(theorem.drift(P @ V @ P.T, 0.7, 0.5), P @ b @ P.T, rtol=1e-13)
    moved = np.einsum("ae,bf,cg,dh,kefgh->kabcd", P, P, P, P, Sigma)
    np.testing.assert_allclose(theorem.diffusion(P @ V @ P.T, 0.7, 0.5), moved, rtol=1e-12)
    np.testing.assert_allclose(b[1], theorem.drift(2 * V3, 0.7, 0.5), rtol=1e-14)
    flat = Sigma[0].reshape(9, 9)
    assert np.linalg.eigvalsh(flat).min() > -1e-12
