"""Tokens under noise: the law of `path` beside laws that are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import derive


@pytest.fixture(scope="module")
def kernel():
    return derive.load("noisy_sphere_attention")


@pytest.fixture(scope="module", autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("d", [2, 4])
def test_a_token_on_its_own_is_a_brownian_motion_of_the_sphere(kernel, d):
    # E <x(t), x(0)> = exp(-kappa (d - 1) t): the first harmonic; false alarm below 1e-5
    kappa, t1, paths = 0.3, 1.0, 20_000
    params = kernel.Params(beta=1.0, kappa=kappa)
    x0 = jnp.eye(d)[:1]
    keys = jax.random.split(jax.random.key(1), paths)
    ends = jax.jit(jax.vmap(lambda k: kernel.path(k, x0, params, t1=t1, steps=40)[-1, 0, 0]))(keys)
    ends = np.asarray(ends)
    wanted = np.exp(-kappa * (d - 1) * t1)
    assert abs(ends.mean() - wanted) < 4.5 * ends.std() / np.sqrt(paths) + 1e-3


def test_modes_of_many_tokens_decay_above_the_threshold_and_grow_below(kernel):
    params = kernel.Params(beta=1.0, kappa=0.0)
    threshold = float(kernel.noise_threshold(params, 2))
    tokens, size = 4000, 0.2
    even = 2 * np.pi * np.arange(tokens) / tokens
    angle = even - size * np.sin(even)
    x0 = jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)

    def mode(share):
        at = params._replace(kappa=share * threshold)
        way = kernel.path(jax.random.key(3), x0, at, t1=1.0, steps=20)
        return float(jnp.linalg.norm(way[-1].mean(axis=0)))

    start = float(jnp.linalg.norm(x0.mean(axis=0)))
    # the mean of 4000 tokens is off by .016; growth and decay here move it by .03 and more
    assert mode(0.3) > start + 0.02
    assert mode(2.0) < start - 0.02


def test_without_noise_the_path_is_the_flow_of_its_velocity(kernel):
    x0 = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    still = kernel.path(jax.random.key(0), x0, kernel.Params(beta=2.0, kappa=0.0), t1=1.0, steps=50)
    other = derive.load("sphere_attention")
    found = other.flow(x0, other.Params(beta=2.0), t1=1.0, steps=50)
    np.testing.assert_allclose(still, found, atol=1e-14)


def test_the_law_converges_with_the_step(kernel):
    # by each half step E <x, x0> is multiplied by the mean cosine of a shaken and projected token
    kappa, t1, paths = 1.0, 0.5, 50_000
    wanted = np.exp(-kappa * 2 * t1)
    errors = [_mean_cosine(kappa * t1 / steps) ** (2 * steps) - wanted for steps in (4, 8, 16, 32)]
    ratios = np.array(errors[1:]) / np.array(errors[:-1])
    assert abs(errors[-1]) < 0.01 * wanted
    assert np.all((ratios > 0.4) & (ratios < 0.65)), ratios
    # and that is what the paths do; one standard error is 2e-3, false alarm below 1e-5
    params = kernel.Params(beta=1.0, kappa=kappa)
    keys = jax.random.split(jax.random.key(5), paths)
    way = jax.vmap(lambda k: kernel.path(k, jnp.eye(3)[:1], params, t1=t1, steps=4)[-1, 0, 0])
    ends = np.asarray(jax.jit(way)(keys))
    assert abs(ends.mean() - wanted - errors[0]) < 4.5 * ends.std() / np.sqrt(paths)


def _mean_cosine(variance):
    """Of a unit vector of R^3 moved along a great circle by two normals of that variance."""
    z, share = np.polynomial.laguerre.laggauss(60)  # half the square of two normals
    return float(np.cos(np.sqrt(2 * variance * z)) @ share)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """A flow whose noise is not the same in all directions."""
    at = tmp_path_factory.mktemp("uneven") / "uneven_noise.py"
    at.write_text(UNEVEN)
    return derive.compile(at)


UNEVEN = '''"""Self-attention on the sphere, noise of any covariance."""

from derive.notation import average, dims, exp, matrices, noise, sphere, token_flow

d = dims("d: token dimension")
N = matrices(N=(d, d))


@token_flow(state="x[d]", on=sphere)
def uneven_noise(x, y):
    return average(y, exp(x @ y)) + noise(N)
'''


def test_noise_that_differs_by_direction_is_stratonovichs(uneven):
    # d theta = <e(theta), N o dB> on the circle: half the sum of squares of two fields is the
    # generator, by Fourier; a token on its own has no velocity
    N = np.diag([1.0, 0.2])
    start, t1, paths = 0.6, 0.5, 50_000
    x0 = np.array([[np.cos(start), np.sin(start)]])
    keys = jax.random.split(jax.random.key(7), paths)
    params = uneven.Params(N=N)
    way = jax.vmap(lambda k: uneven.path(k, x0, params, t1=t1, steps=20)[-1, 0])
    ends = np.asarray(jax.jit(way)(keys))
    wanted = _on_the_circle(N, start, t1)
    assert np.all(abs(ends.mean(axis=0) - wanted) < 4.5 * ends.std(axis=0) / np.sqrt(paths) + 1e-3)


def _on_the_circle(N, start, t1):
    """Means of cosine and sine of the angle at t1, by Fourier modes on 64 points."""
    size = 64
    angle = 2 * np.pi * np.arange(size) / size
    modes = np.fft.fftfreq(size, 1 / size)
    modes[size // 2] = 0
    slope = np.fft.ifft(1j * modes[:, None] * np.fft.fft(np.eye(size), axis=0), axis=0).real
    fields = [(-np.sin(angle) * a + np.cos(angle) * b)[:, None] * slope for a, b in N.T]
    generator = sum(V @ V for V in fields) / 2
    ahead = np.asarray(jax.scipy.linalg.expm(t1 * generator))
    at = np.exp(1j * modes * start) / size
    return [(np.fft.fft(ahead @ f) @ at).real for f in (np.cos(angle), np.sin(angle))]


def test_a_path_has_a_derivative_by_the_noise(kernel):
    # all eigenvalues of the noise are equal
    def end(kappa):
        params = kernel.Params(beta=1.0, kappa=kappa)
        return kernel.path(jax.random.key(0), jnp.eye(3), params, t1=1.0, steps=4)[-1].sum()

    wanted = (end(0.1 + 1e-5) - end(0.1 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(end)(0.1), wanted, rtol=1e-6)
