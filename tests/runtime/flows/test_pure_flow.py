"""`flow` is a pure function of the tokens and the parameters: jit, vmap and grad go through it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flow_models import Beta, Matrices, sa, softmax, sphere

from derive.runtime.flows.entry import flow, solve

RNG = np.random.default_rng(12)
X = sphere(RNG, 5, 3)


@pytest.fixture(autouse=True)
def double():  # type: ignore[no-untyped-def]
    with jax.enable_x64(True):
        yield


def test_the_flow_has_order_four_on_the_sphere_and_stays_on_it() -> None:
    exact = solve(sa, X, Beta(3.0), t1=2.0, rtol=1e-13).x[-1]
    found = [flow(sa, X, Beta(3.0), t1=2.0, steps=steps) for steps in (20, 40, 80)]
    errors = [float(np.abs(f[-1] - exact).max()) for f in found]
    assert found[0].shape == (21, 5, 3)
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert 3.5 < np.log2(coarse / fine) < 4.7
    assert np.abs(np.linalg.norm(found[0], axis=-1) - 1).max() < 5e-16


def test_gradients_by_start_and_parameters_are_differences() -> None:
    moments = jnp.asarray(RNG.normal(size=(5, 3)))

    def total(x: jax.Array, beta: jax.Array) -> jax.Array:
        return (moments * flow(sa, x, Beta(beta), t1=1.0, steps=8)[-1]).sum()

    by_x, by_beta = jax.jit(jax.grad(total, (0, 1)))(jnp.asarray(X), jnp.asarray(2.0))
    move, h = jnp.asarray(RNG.normal(size=X.shape)), 1e-5
    along = (total(X + h * move, 2.0) - total(X - h * move, 2.0)) / (2 * h)
    assert abs((by_x * move).sum() - along) < 1e-8
    slope = (total(X, 2.0 + h) - total(X, 2.0 - h)) / (2 * h)
    assert abs(by_beta - slope) < 1e-8


def test_several_systems_by_vmap_are_the_single_ones_and_a_batch_is_refused() -> None:
    x = jnp.asarray(sphere(RNG, 3, 5, 3))
    found = jax.jit(jax.vmap(lambda x: flow(sa, x, Beta(1.0), t1=1.0, steps=4)))(x)
    for one, start in zip(found, x, strict=True):
        assert np.abs(one - flow(sa, start, Beta(1.0), t1=1.0, steps=4)).max() < 1e-14
    with pytest.raises(ValueError, match="not that of one system .* jax.vmap"):
        flow(sa, x, Beta(1.0), t1=1.0, steps=4)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        flow(sa, x[0], Beta(1.0), t1=1.0, steps=0)


def test_parameters_go_by_name_and_space_has_no_projection() -> None:
    x, V = RNG.normal(size=(4, 2)), np.array([[0.0, -1.0], [1.0, 0.0]])
    found = flow(softmax, x, {"V": V, "A": np.eye(2)}, t1=0.5, steps=50)
    exact = solve(softmax, x, Matrices(np.eye(2), V), t1=0.5, rtol=1e-12)
    assert np.abs(found[-1] - exact.x[-1]).max() < 1e-7
