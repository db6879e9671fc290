"""The generated kernel is the published theorem: values, transformations, noise, cost.

The z-test's seed is fixed; its false-alarm rate is that of a fresh seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shaped_attention_theorem as theorem

from derive.generated import shaped_attention as model
from derive.runtime.common.factor import psd_factor
from derive.runtime.common.precision import precision
from derive.runtime.paths.blocks import Block, gaussian_blocks, total

GAMMA, TAU = 0.7, 0.6


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    with (
        precision("float64"),
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
    ):
        yield


def _covariances(m: int, count: int = 4) -> np.ndarray:
    G = np.random.default_rng(m).standard_normal((count, m, m + 2))
    return G @ np.swapaxes(G, -1, -2) / m


def _params() -> Any:
    return model.Params(jnp.asarray(GAMMA), jnp.asarray(TAU))


def _close(found: Any, expected: np.ndarray, size: float = 1e-300) -> None:
    """`size`: of the terms, where they cancel."""
    scale = max(float(np.max(np.abs(expected))), size)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize(
    "m",
    [1, pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(5, marks=pytest.mark.slow), 12],
)
@pytest.mark.parametrize("name", ["drift", "diffusion"])
def test_coefficients_are_the_published_ones(name: str, m: int) -> None:
    """One token, few and a dozen; two and five, between them, are slow."""
    V = _covariances(m)
    function, published = getattr(model, name), getattr(theorem, name)
    expected = published(V, GAMMA, TAU)
    size = (GAMMA / TAU) ** 2 * float(np.max(np.abs(V))) ** 3  # one token has no drift at all
    many, one = (
        lambda V, p: (function(V, p), jax.vmap(function, in_axes=(0, None))(V, p)),
        lambda V: function(V, model.Params(GAMMA, TAU)),
    )
    whole, mapped = jax.jit(many)(jnp.asarray(V), _params())
    _close(whole, expected, size)
    _close(mapped, expected, size)
    if m == 3:  # as it is without jit: the same words, an operation at a time
        _close(function(jnp.asarray(V), _params()), expected, size)
        _close(one(jnp.asarray(V[0])), expected[0], size)


@pytest.mark.parametrize("m", [1, 3, 6])
def test_gradient_is_that_of_the_published_drift(m: int) -> None:
    """The drift is a cubic: a central difference with step h errs by h^2 times its third order,
    which one Richardson step removes exactly."""
    rng = np.random.default_rng(70 + m)
    V, D, C = _covariances(m)[0], *rng.standard_normal((2, m, m))
    D = D + D.T

    def slope(h: float) -> float:
        above, below = (theorem.drift(V + s * D, GAMMA, TAU) for s in (h, -h))
        return float(np.sum(C * (above - below)) / (2 * h))

    expected = (4 * slope(0.5) - slope(1.0)) / 3
    grad = jax.jit(jax.grad(lambda V: jnp.sum(jnp.asarray(C) * model.drift(V, _params()))))
    bound = 1e-11 * float(np.sum(np.abs(C)) * np.max(np.abs(V)) ** 2) / TAU**2 + 1e-13
    assert abs(float(np.sum(np.asarray(grad(jnp.asarray(V))) * D)) - expected) < bound


def test_no_attention_is_the_limit_tau_inf() -> None:
    V = _covariances(3)
    params = model.Params(jnp.asarray(GAMMA), jnp.asarray(np.inf))
    np.testing.assert_array_equal(model.drift(jnp.asarray(V), params), 0)
    _close(model.diffusion(jnp.asarray(V), params), theorem.diffusion(V, GAMMA, np.inf))


def test_kernels_follow_the_dtype() -> None:
    V = jnp.asarray(_covariances(3), jnp.float32)
    params = model.Params(jnp.float32(GAMMA), jnp.float32(TAU))

    def dtype(function: Any, *given: Any) -> Any:
        return jax.eval_shape(function, *given).dtype

    assert dtype(model.drift, V, params) == jnp.float32
    assert dtype(model.diffusion, V, params) == jnp.float32
    assert dtype(model.noise, jax.random.key(0), V[0], params) == jnp.float32
    assert dtype(lambda V: model.drift(V, model.Params(GAMMA, TAU)), V) == jnp.float32


def _jacobian(V: np.ndarray) -> np.ndarray:
    """d noise / d normals (m, m, number of normals): the noise is linear in them."""
    m = V.shape[-1]
    laws = {name: Block(kind) for name, kind in model._SPEC.noise_fields.items()}

    @jax.jit
    def slope(V: jax.Array) -> jax.Array:
        L, _ = psd_factor(V)

        def noise(z: jax.Array) -> jax.Array:
            fields = gaussian_blocks(laws, z, m, {}, tiles=False)
            return model.noise_from(L, V, fields, _params())

        return jax.jacobian(noise)(jnp.zeros(total(laws, m)))

    return np.asarray(slope(jnp.asarray(V)))


@pytest.mark.parametrize(
    "m", [1, pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(5, marks=pytest.mark.slow)]
)
def test_covariance_of_the_noise_is_the_diffusion(m: int) -> None:
    for V in _covariances(m, 2):
        J = _jacobian(V)
        _close(np.einsum("abz,cdz->abcd", J, J), theorem.diffusion(V, GAMMA, TAU))


def test_noise_of_singular_covariance_keeps_equal_tokens_equal() -> None:
    V = np.array([[1.0, 1.0, 0.3], [1.0, 1.0, 0.3], [0.3, 0.3, 0.8]])
    J = _jacobian(V)
    _close(np.einsum("abz,cdz->abcd", J, J), theorem.diffusion(V, GAMMA, TAU))
    N = np.asarray(model.noise(jax.random.key(3), jnp.asarray(V), _params()))
    np.testing.assert_allclose(N[0], N[1], atol=1e-13)


def test_noise_is_batched_over_leading_axes() -> None:
    V = jnp.asarray(_covariances(3))
    drawn = np.asarray(model.noise(jax.random.key(5), V, _params()))
    assert drawn.shape == V.shape
    assert len(np.unique(drawn[:, 0, 0])) == len(V)


def test_sampled_noise_has_mean_zero_and_the_covariance() -> None:
    """6 + 21 z-tests at 4.5 standard errors, 2^15 draws: false alarm below 2e-4."""
    V = _covariances(3)[0]
    keys = jax.random.split(jax.random.key(4), 2**15)
    draws = np.asarray(jax.jit(jax.vmap(lambda k: model.noise(k, jnp.asarray(V), _params())))(keys))
    np.testing.assert_allclose(draws, np.swapaxes(draws, -1, -2), atol=1e-12)
    rows, columns = np.tril_indices(3)
    first, second = np.triu_indices(6)
    low = draws[:, rows, columns]
    Sigma = theorem.diffusion(V, GAMMA, TAU)
    exact = Sigma[rows[first], columns[first], rows[second], columns[second]]
    values = np.column_stack([low, low[:, first] * low[:, second]])
    target = np.concatenate([np.zeros(6), exact])
    z = (values.mean(axis=0) - target) / (values.std(axis=0, ddof=1) / np.sqrt(len(values)))
    assert np.all(np.abs(z) < 4.5), z


def _largest(jaxpr: Any) -> int:
    """Entries of the largest array that a program makes, inner programs included."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [int(np.prod(v.aval.shape)) for v in equation.outvars if hasattr(v.aval, "shape")]
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    sizes.append(_largest(inner))
    return max(sizes)


def _noise(V: jax.Array) -> jax.Array:
    return model.noise(jax.random.key(0), V, _params())


def _drift(V: jax.Array) -> jax.Array:
    return model.drift(V, _params())


@pytest.mark.parametrize("function", [_drift, _noise])
def test_no_intermediate_is_larger_than_the_matrices(function: Any) -> None:
    """At most 2 m^2 entries (the normals of the noise are m^2 + m (m + 1)/2)."""
    m = 7
    V = jnp.asarray(_covariances(m)[0])
    assert _largest(jax.make_jaxpr(function)(V).jaxpr) <= 2 * m**2
    # the measure sees what it should
    full = jax.make_jaxpr(lambda V: model.diffusion(V, _params()).sum())(V)
    assert _largest(full.jaxpr) >= m**4


@pytest.mark.parametrize(("function", "power"), [(_drift, 2.3), (_noise, 3.3)])
def test_operations_grow_no_faster_than_stated(function: Any, power: float) -> None:
    def flops(m: int) -> float:
        cost = jax.jit(function).lower(jnp.eye(m)).cost_analysis()
        cost = cost[0] if isinstance(cost, list) else cost
        return float(cost["flops"])

    assert flops(64) / flops(32) <= 2**power
