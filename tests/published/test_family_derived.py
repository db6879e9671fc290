"""The family of covariance SDEs, derived from the definitions in `theory/`, against the papers.

Published formulas are typed here as functions of numbers and compared with the derived
expressions at random covariances; both are exact, so agreement is to rounding.
"""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from family import (
    agree,
    at,
    attention_drift,
    attention_noise,
    covariance,
    derived,
    linear_noise,
    nu,
    scalars_of,
    values,
)
from scipy.integrate import quad
from scipy.special import gammainc

from derive.methods.covariance_sde.derivation import derive
from derive.notation import (
    covariance_sde,
    dims,
    eye,
    gaussian,
    log,
    params,
    pattern,
    softmax,
    sqrt,
)


@pytest.mark.parametrize("m", [1, 2, 4])
def test_shaped_relu_mlp_drifts_by_nu_and_diffuses_linearly(m: int) -> None:
    V = covariance(m, 1)
    drift, diffusion = values(derived("shaped_relu_mlp"), V, gamma=0.6, c_plus=0.4, c_minus=-1.3)
    agree(drift, 0.36 * nu(V, 0.4, -1.3))
    agree(diffusion, 2 * 0.36 * linear_noise(V))


def test_correlation_under_shaped_relu_is_the_published_diffusion() -> None:
    # arXiv 2206.02768: d rho = (nu(rho) - rho (1 - rho^2)/2) dt + (1 - rho^2) dB for a plain MLP; a
    # residual branch has the drift gamma^2 nu and the noise of 2 gamma^2 Sigma_lin
    (found,) = [s for s in scalars_of("shaped_relu_mlp") if s.name.name == "rho"]
    g, plus, minus = 0.36, 0.3, -0.9
    for rho in (-0.95, -0.3, 0.0, 0.4, 0.99):
        values_ = {"rho": rho, "gamma": 0.6, "c_plus": plus, "c_minus": minus}
        V = np.array([[1, rho], [rho, 1]])
        typed = g * nu(V, plus, minus)[0, 1] - g * rho * (1 - rho**2)
        assert at(found.drift, values_) == pytest.approx(typed, abs=1e-13)
        assert at(found.square, values_) == pytest.approx(2 * g * (1 - rho**2) ** 2, abs=1e-13)


@pytest.mark.parametrize("start", [0.4, 1.0, 2.5])
def test_one_token_explodes_with_the_probability_of_an_incomplete_gamma(start: float) -> None:
    # dv = beta v (v - 1) dt + sqrt(2) v dB explodes ever with probability P(1 + beta, beta v_0),
    # beta = 3/4 phi''(0)^2 / a^2; on the clock 2 gamma^2 t of a residual branch it is half of it
    (found,) = [s for s in scalars_of("shaped_smooth_mlp_gelu") if s.name.name == "v"]
    a, gamma_ = 1.2, 0.7
    beta = 3 / 4 * (4 / np.sqrt(2 * np.pi)) ** 2 / a**2 / 2

    rate = sp.integrate(sp.expand(sp.simplify(2 * found.drift / found.square)), found.name)
    inner = rate.subs(
        {s: {"gamma": gamma_, "a": a}[s.name] for s in rate.free_symbols - {found.name}}
    )
    exponent = sp.lambdify(found.name, inner)

    def slope(v: float) -> float:  # of the scale function
        return float(np.exp(-exponent(v)))

    below, above = quad(slope, 0, start)[0], quad(slope, start, np.inf)[0]
    assert below / (below + above) == pytest.approx(gammainc(1 + beta, beta * start), rel=1e-7)


def test_paths_of_one_token_explode_as_often_as_the_law_says() -> None:
    from derive.generated import shaped_smooth_mlp_gelu as model

    beta, samples = 3 / np.pi, 4096
    paths = model.simulate(
        np.eye(1), model.Params(gamma=0.9, a=1.0), t1=6.0, paths=samples, seed=3, exit_radius=1e6
    )
    share = float(np.mean(np.isfinite(paths.exit_time)))
    law = gammainc(1 + beta, beta)
    # four standard errors: false alarms 6e-5
    assert abs(share - law) < 4 * np.sqrt(law * (1 - law) / samples)


@pytest.mark.parametrize(
    "name, second, third",
    [
        ("shaped_smooth_mlp", 0.0, -2.0),
        ("shaped_smooth_mlp_gelu", 4 / np.sqrt(2 * np.pi), 0.0),
        ("shaped_smooth_mlp_silu", 1.0, 0.0),
    ],
)
def test_smooth_activation_has_the_published_drift_with_its_one_over_a_squared(
    name: str, second: float, third: float
) -> None:
    V, a = covariance(3, 2), 1.7
    v = np.diag(V)
    drift, diffusion = values(derived(name), V, gamma=0.5, a=a)
    typed = second**2 / (4 * a**2) * (np.outer(v, v) + V * (2 * V - 3))
    typed = typed + third / (2 * a**2) * V * (v[:, None] + v[None, :] - 2)
    agree(drift, 0.25 * typed)
    agree(diffusion, 2 * 0.25 * linear_noise(V))


def test_shaped_transformer_adds_the_drifts_and_diffusions_of_its_blocks() -> None:
    V, gamma, tau_0 = covariance(3, 3), 0.7, 0.8
    found = values(
        derived("shaped_transformer"), V, gamma=gamma, tau_0=tau_0, c_plus=0.3, c_minus=-0.9
    )
    p = np.full((3, 3), 1 / 3)
    g = gamma**2
    agree(found[0], attention_drift(V, p, gamma, tau_0) + g * nu(V, 0.3, -0.9))
    noise = (g * (2 - g) + 2 * g) * linear_noise(V) + g**2 * attention_noise(V, p, tau_0)
    agree(found[1], noise)


def test_causal_attention_replaces_the_uniform_pattern_by_the_causal_one() -> None:
    V, gamma, tau_0 = covariance(4, 4), 0.6, 0.5
    p = np.tril(np.ones((4, 4))) / np.arange(1, 5)[:, None]
    found = values(derived("causal_shaped_attention"), V, gamma=gamma, tau_0=tau_0)
    agree(found[0], attention_drift(V, p, gamma, tau_0))
    g = gamma**2
    agree(found[1], g * (2 - g) * linear_noise(V) + g**2 * attention_noise(V, p, tau_0))


def test_causal_models_are_nested() -> None:
    """The leading tokens do not see the others."""
    V = covariance(5, 5)
    sde = derived("causal_shaped_attention")
    whole, part = (values(sde, W, gamma=0.4, tau_0=1.0) for W in (V, V[:3, :3]))
    agree(whole[0][:3, :3], part[0])
    agree(whole[1][:3, :3, :3, :3], part[1])


m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")
base = pattern("base: any rows", m)


def with_a_given_pattern(X):  # type: ignore[no-untyped-def]
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    A = eye(m) + softmax(logits / (tau_0 * sqrt(n * n_k)) + log(base)) - base
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)


def test_any_row_stochastic_pattern_takes_the_place_of_one_over_m() -> None:
    sde = derive(covariance_sde(state="X[m, n]", width=n)(with_a_given_pattern))
    V, p = covariance(4, 6), base.data.sample(4)
    found = values(sde, V, gamma=0.6, tau_0=0.7)
    agree(found[0], attention_drift(V, p, 0.6, 0.7))
    agree(found[1], 0.36 * 1.64 * linear_noise(V) + 0.36**2 * attention_noise(V, p, 0.7))


@pytest.mark.parametrize("name", ["multihead_shaped_attention", "concatenated_shaped_attention"])
def test_heads_divide_the_attention_noise_and_nothing_else(name: str) -> None:
    V, g, H = covariance(3, 7), 0.25, 5.0
    p = np.full((3, 3), 1 / 3)
    found = values(derived(name), V, gamma=0.5, tau_0=0.6, H=H)
    agree(found[0], attention_drift(V, p, 0.5, 0.6))
    agree(found[1], g * (2 - g) * linear_noise(V) + g**2 / H * attention_noise(V, p, 0.6))


@pytest.mark.parametrize("name, slope", [("linear_attention", 1.0), ("sigmoid_attention", 0.25)])
def test_pointwise_attention_drifts_by_the_trace_of_v_squared(name: str, slope: float) -> None:
    V = covariance(3, 8)
    drift, _ = values(derived(name), V, gamma=0.5, tau_0=0.6)
    agree(drift, 0.25 * slope**2 / (9 * 0.36) * np.trace(V @ V) * V)


def test_random_values_on_the_sphere_have_the_gram_form_of_the_paper() -> None:
    """arXiv 2601.21942 with Q^T K = beta I, in the Gram matrix R."""
    beta, d = 0.8, 6.0
    R = covariance(3, 9, unit=True)
    weight = np.exp(beta * R)
    A = weight / weight.sum(axis=1, keepdims=True)
    C = A @ R @ A.T
    c = np.diag(C)
    drift, diffusion = values(derived("random_value_sphere_attention"), R, beta=beta, d=d)
    agree(drift, (d - 2 + R**2) * C - (d - 1) / 2 * (c[:, None] + c[None, :]) * R)
    x = np.linalg.cholesky(R)  # rows are tokens: any vectors with these products
    T = x[None, :, :] - R[:, :, None] * x[:, None, :]  # T[i, j] = x_j - R_ij x_i
    dots = np.einsum("ijx,klx->ijkl", T, T)
    typed = (
        dots * C[:, None, :, None]
        + dots.transpose(0, 1, 3, 2) * C[:, None, None, :]
        + dots.transpose(1, 0, 2, 3) * C[None, :, :, None]
        + dots.transpose(1, 0, 3, 2) * C[None, :, None, :]
    )
    agree(diffusion, typed)


@pytest.mark.parametrize("beta, d, attracting", [(0.5, 3, True), (0.5, 4, False), (1.2, 6, True)])
def test_antipodal_tokens_attract_where_cosh_two_beta_exceeds_d_minus_two(
    beta: float, d: int, attracting: bool
) -> None:
    """Log-drift of 1 + R at R = -1, from the derived coefficients; positive means repelling."""
    assert (np.cosh(2 * beta) > d - 2) == attracting
    sde, gap = derived("random_value_sphere_attention"), 1e-5
    R = np.array([[1.0, -1 + gap], [-1 + gap, 1.0]])
    drift, diffusion = values(sde, R, beta=beta, d=float(d))
    log_drift = drift[0, 1] / gap - diffusion[0, 1, 0, 1] / (2 * gap**2)
    assert (log_drift < 0) == attracting


def test_post_norm_correlation_has_the_projected_drift_and_noise() -> None:
    """m = 2: Ito projection of shaped attention on the unit diagonal."""
    g, tau = 0.7, 0.5
    rho = 0.3
    V = np.array([[1.0, rho], [rho, 1.0]])
    b, S = values(derived("shaped_attention"), V, gamma=g, tau_0=tau)
    typed = (
        b[0, 1]
        - rho * (b[0, 0] + b[1, 1]) / 2
        + 3 * rho / 8 * (S[0, 0, 0, 0] + S[1, 1, 1, 1])
        + rho / 4 * S[0, 0, 1, 1]
        - (S[0, 1, 0, 0] + S[0, 1, 1, 1]) / 2
    )
    drift, diffusion = values(derived("post_norm_shaped_attention"), V, gamma=g, tau_0=tau)
    agree(drift[0, 1], typed)
    agree(np.diag(drift), np.zeros(2))
    agree(diffusion[0, 0], np.zeros((2, 2)))


def test_post_norm_without_attention_is_a_jacobi_diffusion_of_the_correlation() -> None:
    """tau_0 -> infinity: drift -(1 - lam^4)/2 rho (1 - rho^2), noise sqrt(1 - lam^4)(1 - rho^2)."""
    g, rho = 0.6, -0.4
    V = np.array([[1.0, rho], [rho, 1.0]])
    drift, diffusion = values(derived("post_norm_shaped_attention"), V, gamma=g, tau_0=1e9)
    size = 1 - (1 - g**2) ** 2
    agree(drift[0, 1], np.array(-size / 2 * rho * (1 - rho**2)))
    agree(diffusion[0, 1, 0, 1], np.array(size * (1 - rho**2) ** 2))
