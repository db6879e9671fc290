"""The two-token gap of shaped attention has the tabulated quantiles and explosion probabilities.

Source of the law: Noci et al. (2023), arXiv 2306.17759, Theorem 4.2, at m = 2 (derivation in
`two_token_gap`). V_0 = [[1, .2], [.2, 1]], so w_0 = 1.6. EXACT is the limit of two routes, finite
volumes extrapolated in the cell size and a spectral expansion (below), which agree to all the
digits given; TABLE is what is left of it after rounding.
"""

import numpy as np
import pytest
import two_token_gap as gap
from numpy.polynomial import legendre
from scipy.linalg import eigh, expm
from scipy.special import roots_jacobi

W0 = 1.6
PROBS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])

# (gamma^2, tau_0, t): P(exploded) and the quantiles of w, as tabulated.
TABLE = {
    (0.125, 1.0, 0.75): "3.24e-05 0.5057 0.9021 1.3520 2.0354 3.7377",
    (0.125, 0.25, 0.5): "0.03197 0.6295 1.0513 1.5501 2.4380 8.067",
    (0.25, 0.5, 0.5): "0.00970 0.4193 0.8066 1.2884 2.1216 5.235",
    # Two near-ties: 4.6850488 and 0.1545486 are below the halves by 1.2e-6 and 1.4e-6.
    (0.5, 0.5, 0.5): "0 0.2361 0.5431 0.9732 1.7760 4.6850",
    (0.8, 0.5, 0.5): "0 0.1545 0.3818 0.7025 1.2775 3.1295",
}
EXACT = {
    (0.125, 1.0, 0.75): (3.23700e-5, 0.50572733, 0.90205165, 1.35200516, 2.03544071, 3.73772057),
    (0.125, 0.25, 0.5): (0.03197337, 0.62951546, 1.05125555, 1.55007791, 2.43802348, 8.06695122),
    (0.25, 0.5, 0.5): (0.009696895, 0.41929069, 0.80659921, 1.28841333, 2.12156470, 5.23473861),
    (0.5, 0.5, 0.5): (0.0, 0.23607414, 0.54310530, 0.97320403, 1.77600380, 4.68504884),
    (0.8, 0.5, 0.5): (0.0, 0.15454863, 0.38180963, 0.70246577, 1.27748626, 3.12952832),
}
ROWS = list(TABLE)


def _row(row: tuple[float, float, float], cells: int) -> np.ndarray:
    values = gap.quantiles(*row, W0, PROBS, cells=cells)
    return np.concatenate(([gap.exploded(*row, W0, cells=cells)], values))


def _rounded_like(value: float, text: str) -> str:
    if "e" in text:
        return f"{value:.2e}"
    return f"{value:.{len(text.partition('.')[2])}f}"


@pytest.mark.parametrize("row", ROWS)
def test_every_digit_of_the_table(row):
    texts = TABLE[row].split()
    values = _row(row, gap.CELLS)
    assert [_rounded_like(v, s) for v, s in zip(values, texts, strict=True)] == texts


@pytest.mark.parametrize("row", ROWS)
def test_cells_converge_at_second_order_to_the_exact_values(row):
    widths, values = [], []
    for cells in (1500, 3000, 6000):
        # The cell size is rounded so as to make z_0 a centre: take it from the solver.
        widths.append(gap.generator(*row, W0, cells=cells)[-1])
        values.append(_row(row, cells))
    limits = []
    for k in (0, 1):
        ratio = (widths[k] / widths[k + 1]) ** 2
        limits.append(values[k + 1] + (values[k + 1] - values[k]) / (ratio - 1))
    np.testing.assert_allclose(limits[0], limits[1], rtol=2e-9, atol=5e-10)
    np.testing.assert_allclose(limits[1], EXACT[row], rtol=1e-10, atol=7e-9)
    assert np.max(np.abs(values[0] - limits[1])[1:]) > 1e-5  # there was something to converge
    np.testing.assert_allclose(values[2][1:], EXACT[row][1:], rtol=2e-6)
    np.testing.assert_allclose(values[2][0], EXACT[row][0], rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("row", ROWS)
def test_a_spectral_expansion_has_the_same_quantiles(row):
    cdf = _spectral_cdf(*row, W0, np.append(EXACT[row][1:], 0.0))
    np.testing.assert_allclose(cdf[:-1], PROBS, atol=6e-8)
    np.testing.assert_allclose(1 - cdf[-1], EXACT[row][0], atol=1.2e-8)


def test_tridiagonal_exponential_is_the_dense_one():
    for gamma2 in (0.125, 0.25, 0.5, 0.8):
        lower, diagonal, upper, start, _ = gap.generator(gamma2, 0.5, 0.5, W0, cells=200)
        dense = np.diag(diagonal) + np.diag(lower, -1) + np.diag(upper, 1)
        mass = gap.solve(gamma2, 0.5, 0.5, W0, cells=200).mass
        np.testing.assert_allclose(mass, expm(0.5 * dense)[:, start], atol=1e-12)


def test_unit_noise_coordinate_has_the_drift_of_the_speed_density():
    """Ito: z' = -1/D, so f = -mu/D + D'/2, and the speed density must have (log rho)' = 2 f."""
    w = np.geomspace(1e-3, 1e3, 25)
    for gamma2, tau_0 in ((0.125, 1.0), (0.25, 0.5), (0.5, 0.5), (0.8, 0.5)):
        sig = np.sqrt(2 * gamma2 * (2 - gamma2))
        D = np.sqrt(gap.variance_rate(w, gamma2, tau_0))
        h = 1e-5
        slope = gap.variance_rate(w * (1 + h), gamma2, tau_0)
        slope = (slope - gap.variance_rate(w * (1 - h), gamma2, tau_0)) / (2 * h * w) / (2 * D)
        f = -gap.drift(w, gamma2, tau_0) / D + slope / 2
        z = gap.to_z(w, gamma2, tau_0)
        np.testing.assert_allclose(gap.from_z(z, gamma2, tau_0), w, rtol=1e-10)
        step = 1e-5 * z
        log_rho = [np.log(gap._speed(z + k * step, sig, 3 - 0.5 / gamma2)) for k in (1, -1)]
        np.testing.assert_allclose((log_rho[0] - log_rho[1]) / (4 * step), f, rtol=1e-6, atol=1e-7)
        dz = gap.to_z(w * (1 + h), gamma2, tau_0) - gap.to_z(w * (1 - h), gamma2, tau_0)
        dz /= 2 * h * w
        np.testing.assert_allclose(dz, -1 / D, rtol=1e-8)


def test_explosion_exactly_below_one_half():
    times = [gap.exploded(0.25, 0.5, t, W0) for t in (0.25, 0.5, 1.0, 2.0)]
    assert np.all(np.diff(times) > 0)
    assert gap.exploded(0.45, 0.25, 1.0, W0) > 1e-3
    assert gap.exploded(0.5, 0.25, 1.0, W0) == 0
    for gamma2 in (0.5, 0.6, 1.0):
        assert abs(gap.solve(gamma2, 0.25, 1.0, W0).mass.sum() - 1) < 1e-10
    row = (0.125, 0.25, 0.5)
    lost = gap.exploded(*row, W0)
    beyond = gap.quantiles(*row, W0, [1 - 1.1 * lost, 1 - 0.9 * lost])
    assert np.isfinite(beyond[0])
    assert np.isinf(beyond[1])


def test_weak_attention_is_the_log_normal_law():
    closed = gap.quantiles(0.5, np.inf, 0.5, W0, PROBS)
    nearly = gap.quantiles(0.5, 1e4, 0.5, W0, PROBS, cells=20000)
    np.testing.assert_allclose(nearly, closed, rtol=2e-6)
    np.testing.assert_allclose(gap.cdf(0.5, np.inf, 0.5, W0, closed), PROBS, rtol=1e-12)
    np.testing.assert_allclose(gap.cdf(0.5, 1e4, 0.5, W0, closed, cells=20000), PROBS, atol=1e-6)


def test_cdf_inverts_the_quantiles():
    for row in ROWS:
        values = gap.quantiles(*row, W0, PROBS)
        np.testing.assert_allclose(gap.cdf(*row, W0, values), PROBS, atol=1e-10)
        ends = gap.cdf(*row, W0, [0.0, np.inf])
        np.testing.assert_allclose(ends, [0, 1 - gap.exploded(*row, W0)], atol=1e-9)


def test_senseless_arguments_are_refused():
    for bad in ((1.5, 1.0, 1.0, 1.0), (0.5, -1.0, 1.0, 1.0), (0.5, 1.0, 0.0, 1.0), (0.5, 1, 1, 0)):
        with pytest.raises(ValueError, match="need"):
            gap.exploded(*bad)
    with pytest.raises(ValueError, match="raise cells"):
        gap.exploded(0.25, 0.5, 1.0, 1e6)
    with pytest.raises(ValueError, match="strictly"):
        gap.quantiles(0.25, 0.5, 1.0, 1.0, [0.0])


def _spectral_cdf(gamma2, tau_0, t, w0, w, degree=60):
    """P(w_t <= w), a second discretisation: Galerkin with z^e P_2j(z / end) / sqrt(cosh(sig z)).

    e = max(0, 2 - delta) is the exponent of the eigenfunctions at an absorbing or entrance origin;
    integrals by Gauss-Jacobi.
    """
    sig, delta = np.sqrt(2 * gamma2 * (2 - gamma2)), 3 - 1 / (2 * gamma2)
    e = max(0.0, 2 - delta)
    power = 1 - delta if e else delta - 1  # of the weight z^power that K carries
    nodes, weights = roots_jacobi(2 * degree + 80, 0.0, power)
    z0 = float(gap.to_z(w0, gamma2, tau_0))
    end = z0 + sig * t / 2 + 9 * np.sqrt(t)

    def rule(b):
        return b / 2 * (1 + nodes), (b / 2) ** (power + 1) * weights

    def even(z, derivative=0):
        coefficients = np.eye(2 * degree + 1)[:, ::2]
        if derivative:
            coefficients = legendre.legder(coefficients) / end
        return legendre.legval(z / end, coefficients).T

    def regular(z):
        return (np.tanh(sig * z) / z) ** (delta - 1)

    z, weight = rule(end)
    P, weight = even(z), weight * regular(z)
    slope = even(z, 1) - sig / 2 * np.tanh(sig * z)[:, None] * P
    slope = z[:, None] * slope + e * P if e else slope
    content = weight * z**2 if e else weight
    stiffness = slope.T @ (weight[:, None] * slope) / 2
    decay, modes = eigh(stiffness, P.T @ (content[:, None] * P))
    at_start = z0**e / np.sqrt(np.cosh(sig * z0)) * even(np.array([z0]))[0] @ modes
    density = modes @ (np.exp(-decay * t) * at_start)

    def below(b):
        z, weight = rule(b)
        factor = z ** (e + delta - 1 - power) * regular(z) * np.sqrt(np.cosh(sig * z))
        return (weight * factor) @ even(z) @ density

    z_of_w = [float(gap.to_z(x, gamma2, tau_0)) if x > 0 else 0.0 for x in w]
    total = below(end)
    return np.array([total - below(x) if x else total for x in z_of_w])
