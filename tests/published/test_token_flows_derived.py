"""What is derived of attention on the sphere equals what its papers state.

Sources: Geshkovski, Letrouit, Polyanskiy, Rigollet, A mathematical perspective on Transformers
(arXiv 2312.10794), and Dynamic metastability in the self-attention model (arXiv 2410.06833).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad, solve_ivp
from scipy.special import iv

from derive.methods.token_flow import growth_values
from derive.methods.token_flow.derivation import derive
from derive.methods.token_flow.equal_angles import RHO
from derive.methods.token_flow.names import COUNT
from derive.methods.token_flow.two_clusters import COSINE, MASS
from derive.registry import find, load

THEORY = Path(__file__).parents[2] / "theory"


def derived(name):
    return derive(load(find(name)))


@pytest.fixture(scope="module")
def normalised():
    return derived("sphere_attention")


@pytest.fixture(scope="module")
def unnormalised():
    return derived("sphere_attention_unnormalised")


def beta_of(result):
    return next(p for p in result.model.params if p.name == "beta")


def test_equal_angles_of_self_attention(normalised):
    b, n, g = beta_of(normalised), COUNT, RHO
    stated = 2 * sp.exp(b * g) * (1 - g) * ((n - 1) * g + 1) / (sp.exp(b) + (n - 1) * sp.exp(b * g))
    assert sp.simplify(normalised.equal_angles.cosine - stated) == 0


def test_equal_angles_without_a_normaliser(unnormalised):
    b, n, g = beta_of(unnormalised), COUNT, RHO
    stated = 2 / n * sp.exp(b * g) * (1 - g) * ((n - 1) * g + 1)
    assert sp.simplify(unnormalised.equal_angles.cosine - stated) == 0


def test_the_speed_at_right_angles(normalised):
    b = beta_of(normalised)
    value = normalised.equal_angles.cosine.subs({RHO: 0, COUNT: 32, b: 1})
    assert float(value) == pytest.approx(2 / (np.e + 31), rel=1e-12)


@pytest.mark.parametrize(
    ("n", "beta", "time"),
    [(32, 0.1, 5.19), (32, 1, 5.27), (32, 5, 9.54), (32, 9, 178.7), (128, 7, 17.35)],
)
def test_times_to_consensus_of_the_reduced_equation(normalised, n, beta, time):
    rate = normalised.equal_angles.cosine.subs({COUNT: n, beta_of(normalised): beta})
    f = sp.lambdify([RHO], 1 / rate)
    found = quad(f, 0, 0.999, limit=400)[0]
    assert found == pytest.approx(time, rel=2e-3)


def test_both_are_gradients_of_one_energy_in_two_metrics(normalised, unnormalised):
    """(1 / 2 beta) int int exp(beta <x, y>): in the metric of masses, and with the normaliser."""
    assert [c for c, _ in normalised.gradient.energy.terms] == [1 / (2 * beta_of(normalised))]
    assert normalised.gradient.energy.terms == unnormalised.gradient.energy.terms
    assert len(unnormalised.gradient.weight.terms[0][1]) == 0
    assert len(normalised.gradient.weight.terms[0][1]) == 2


@pytest.mark.parametrize("degree", [1, 2, 3, 6])
def test_harmonics_on_the_circle_grow_by_bessel_functions(normalised, unnormalised, degree):
    for beta in (0.5, 3.0):
        stated = degree**2 * iv(degree, beta) / beta
        found = growth_values.rate(unnormalised.growth, degree, 2, {beta_of(unnormalised): beta})
        assert found == pytest.approx(stated, rel=1e-11)
        found = growth_values.rate(normalised.growth, degree, 2, {beta_of(normalised): beta})
        assert found == pytest.approx(stated / iv(0, beta), rel=1e-11)


def test_noise_takes_its_share_of_every_harmonic():
    noisy, plain = derived("noisy_sphere_attention"), derived("sphere_attention")
    beta, kappa = noisy.model.params
    for degree, d in ((1, 2), (2, 3), (4, 5)):
        values = {beta: 1.5, kappa: 0.3}
        found = growth_values.rate(noisy.growth, degree, d, values)
        without = growth_values.rate(plain.growth, degree, d, values)
        assert found == pytest.approx(without - 0.3 * degree * (degree + d - 2), rel=1e-12)


@pytest.mark.parametrize(("beta", "time"), [(4, 10.7), (8, 197), (12, 6.9e3), (16, 2.8e5)])
def test_two_clusters_at_right_angles_merge_at_the_times_of_the_table(normalised, beta, time):
    rate = normalised.two_clusters.rate.subs({MASS: sp.Rational(1, 2), beta_of(normalised): beta})
    f = sp.lambdify([COSINE], 1 / rate)
    # the tables end where tokens are within 1e-3 or so: the last stretch is log(.) / 2 long
    found = quad(f, 0, 0.999, limit=400)[0]
    assert found == pytest.approx(time, rel=0.06, abs=2.5)


def test_tails_by_scheme_of_normalisation():
    post, pre = derived("sphere_attention").closing, derived("normalised_attention").closing
    assert (post.kind, post.exponent) == ("exponential", 2)
    assert (pre.kind, pre.exponent) == ("power", 2)
    peri = derived("normalised_attention_peri").closing
    assert (peri.kind, peri.exponent) == ("power", 2)
    root = derived("normalised_attention_root").closing
    assert (root.kind, root.exponent) == ("power", sp.Rational(4, 3))


def test_consensus_without_a_normaliser_is_reached_at_the_stated_rate(unnormalised):
    assert sp.simplify(unnormalised.closing.exponent - 2 * sp.exp(beta_of(unnormalised))) == 0


def test_the_time_of_merging_grows_like_the_exponential_of_the_height(normalised):
    large, exponent = normalised.two_clusters.exponent
    start = sp.Symbol("g_0", real=True)
    assert large == beta_of(normalised) and sp.expand(exponent - (1 - start)) == 0


def test_the_reduced_equation_is_that_of_particles(normalised):
    """32 tokens at equal angles in 32 dimensions, by SciPy on the definition's formula."""
    n, beta, cosine = 8, 2.0, 0.05
    root = np.linalg.cholesky((1 - cosine) * np.eye(n) + cosine)

    def velocity(_, flat):
        x = flat.reshape(n, n)
        weights = np.exp(beta * x @ x.T)
        v = weights @ x / weights.sum(1, keepdims=True)
        return (v - (v * x).sum(1, keepdims=True) * x).ravel()

    end = solve_ivp(velocity, (0, 2), root.ravel(), rtol=1e-10, atol=1e-12).y[:, -1].reshape(n, n)
    rate = normalised.equal_angles.cosine.subs({COUNT: n, beta_of(normalised): beta})
    f = sp.lambdify([RHO], rate)
    rho = solve_ivp(lambda _, y: [f(y[0])], (0, 2), [cosine], rtol=1e-11, atol=1e-12).y[0, -1]
    pairs = (end @ end.T)[~np.eye(n, dtype=bool)]
    assert np.max(np.abs(pairs - rho)) < 1e-8
