"""Blocked sums over keys against the dense formulas."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_models import Params, softmax

from derive.runtime.closures.entry import ClosureModel
from derive.runtime.closures.particle_system import particles
from derive.runtime.common import attention_sums as sums

SIZES = [(1, 1, 8), (7, 5, 16), (16, 16, 8), (21, 34, 8), (40, 3, 16)]  # queries, keys, block


def tokens(n: int, m: int, d: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n * m)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d))


@pytest.mark.parametrize(("n", "m", "block"), SIZES)
@pytest.mark.parametrize("masked", [False, True])
def test_sums_equal_the_dense_formulas(n: int, m: int, block: int, masked: bool) -> None:
    x, y = tokens(n, m)
    s = 3 * x @ y.T
    allowed = np.tril(np.ones((n, m), bool)) if masked else np.ones((n, m), bool)
    mask = sums.causal if masked else None
    score = lambda a, b: 3 * sums.inner(a, b)  # noqa: E731
    value = lambda b: jnp.concatenate([b, b**2], axis=1)  # noqa: E731
    v = np.concatenate([y, y**2], axis=1)
    with jax.enable_x64(True):
        got = sums.weighted_average(x, y, score, value, mask, block)
        e = np.where(allowed, np.exp(s), 0)
        assert np.allclose(got, e @ v / e.sum(1, keepdims=True), rtol=1e-12, atol=1e-12)
        got = sums.log_average(x, y, score, mask, block)
        assert np.allclose(got, np.log(e.mean(1)), rtol=1e-12, atol=1e-12)
        got = sums.weighted_sum(x, y, lambda a, b: jnp.tanh(score(a, b)), value, mask, block)
        assert np.allclose(got, np.where(allowed, np.tanh(s), 0) @ v / m, atol=1e-12)
        positive = lambda a, b: jax.nn.sigmoid(score(a, b))  # noqa: E731
        got = sums.row_normalised(x, y, positive, value, mask, block)
        w = np.where(allowed, 1 / (1 + np.exp(-s)), 0)
        assert np.allclose(got, w @ v / w.sum(1, keepdims=True), rtol=1e-12, atol=1e-12)


def test_large_scores_do_not_overflow() -> None:
    x, y = tokens(10, 30)
    far = lambda a, b: 1e4 * sums.inner(a, b)  # noqa: E731
    with jax.enable_x64(True):
        got = sums.weighted_average(x, y, far, block=8)
    assert np.allclose(got, y[np.argmax(x @ y.T, axis=1)])


def test_a_query_without_keys_is_nan_and_harms_no_other() -> None:
    x, _ = tokens(12, 12)
    later = lambda i, j: j > i  # noqa: E731
    with jax.enable_x64(True):
        got = np.asarray(sums.weighted_average(x, x, sums.inner, mask=later, block=4))
    assert np.all(np.isnan(got[-1])) and np.all(np.isfinite(got[:-1]))


@pytest.mark.parametrize(("n", "m", "block"), SIZES)
def test_sinkhorn_equals_the_dense_iterations(n: int, m: int, block: int) -> None:
    x, y = tokens(n, m)
    kernel = np.exp(x @ y.T)
    f, g = np.ones(n), np.ones(m)
    for _ in range(2000):
        g = 1 / (kernel.T @ f / n)
        f = 1 / (kernel @ g / m)
    kappa = f[:, None] * kernel * g
    assert np.allclose(kappa.mean(0), 1, atol=1e-12)
    with jax.enable_x64(True):
        got = sums.sinkhorn_average(x, y, sums.inner, block=block, iterations=5000)
    assert np.allclose(got, kappa @ y / m, atol=1e-11)


def test_memory_is_linear_in_the_tokens() -> None:
    def temporary(n: int) -> int:
        x = jax.ShapeDtypeStruct((n, 16), jnp.float32)
        run = jax.jit(lambda x: sums.weighted_average(x, x, sums.inner))
        return run.lower(x).compile().memory_analysis().temp_size_in_bytes

    # dense logits of 65 536 tokens: 17 GB
    assert temporary(65_536) < 20e6 + 16 * 65_536 * 16


def with_particles(velocity) -> ClosureModel:  # type: ignore[no-untyped-def]
    return ClosureModel(
        params=Params,
        param_shapes=softmax.param_shapes,
        exact=True,
        velocity=softmax.velocity,
        mean_rate=softmax.mean_rate,
        jacobian=softmax.jacobian,
        particle_velocity=velocity,
    )


def attend(x: jax.Array, y: jax.Array, p: Params) -> jax.Array:
    score = lambda a, b: sums.inner(sums.inner(a, p.Q), sums.inner(b, p.K))  # noqa: E731
    return sums.weighted_average(x, y, score, lambda b: sums.inner(b, p.V), block=16)


def test_particles_are_of_order_four_and_equal_the_dense_system() -> None:
    rng = np.random.default_rng(0)
    p = Params(*rng.normal(size=(2, 2, 3)) / 2, rng.normal(size=(3, 3)) / 2)
    x0 = rng.normal(size=(2, 37, 3))

    def dense(x: np.ndarray) -> np.ndarray:
        e = np.exp((x @ p.Q.T) @ (x @ p.K.T).T)
        return e @ (x @ p.V.T) / e.sum(1, keepdims=True)

    def rk4(x: np.ndarray, steps: int) -> np.ndarray:
        h = 1.0 / steps
        for _ in range(steps):
            a = dense(x)
            b = dense(x + h / 2 * a)
            c = dense(x + h / 2 * b)
            x = x + h / 6 * (a + 2 * b + 2 * c + dense(x + h * c))
        return x

    model = with_particles(attend)
    out = particles(model, x0, p, t1=1.0, steps=8, saves=3)
    assert out.x.shape == (2, 3, 37, 3) and np.allclose(out.times, [0, 0.5, 1])
    assert np.array_equal(out.x[:, 0], x0)
    assert np.allclose(out.x[:, -1], np.stack([rk4(x, 8) for x in x0]), atol=1e-12)
    exact = rk4(x0[0], 256)
    errors = [
        np.abs(particles(model, x0[0], p, t1=1.0, steps=s).x[-1] - exact).max() for s in (4, 8)
    ]
    assert 10 < errors[0] / errors[1] < 25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x0": np.ones(3)}, r"x0 must have shape \(..., N, d\)"),
        ({"x0": np.ones((4, 2))}, "Q must have shape .* d is 3 here and 2 in x0"),
        ({"steps": 0}, "steps must be a positive integer"),
        ({"t1": 0.0}, "t1 = 0"),
        ({"saves": 9}, "saves must be a number from 2 to steps"),
        ({"spec": softmax}, "defines no particle system"),
    ],
)
def test_bad_input_of_particles_is_named(changes: dict, message: str) -> None:
    given = {"spec": with_particles(attend), "x0": np.ones((4, 3)), "t1": 1.0, "steps": 4}
    given |= changes
    spec, x0 = given.pop("spec"), given.pop("x0")
    with pytest.raises(ValueError, match=message):
        particles(spec, x0, Params(np.eye(3), np.eye(3), np.eye(3)), **given)


def test_no_silent_promotion() -> None:
    x, y = tokens(21, 34)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        for dtype in (jnp.float32, jnp.float64):
            with jax.enable_x64(dtype == jnp.float64):
                a, b = jnp.asarray(x, dtype), jnp.asarray(y, dtype)
                every = jax.jit(
                    lambda a, b: (
                        sums.weighted_average(a, b, sums.inner, mask=sums.causal, block=8),
                        sums.weighted_sum(a, b, sums.inner, mask=sums.causal, block=8),
                        sums.row_normalised(a, b, lambda a, b: jnp.exp(sums.inner(a, b)), block=8),
                        sums.sinkhorn_average(a, b, sums.inner, block=8),
                    )
                )
                for got in every(a, b):
                    assert got.dtype == dtype and bool(jnp.isfinite(got).all())
