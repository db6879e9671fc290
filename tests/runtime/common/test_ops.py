"""Kernels and array words give the same values on `Tiles` and on JAX arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from derive.generated import shaped_attention as model
from derive.runtime.common import ops
from derive.runtime.common.factor import psd_factor, tiles_factor
from derive.runtime.common.ops import Tiles, permuted
from derive.runtime.common.precision import precision
from derive.runtime.paths.blocks import gaussian_blocks, total

M, PATHS = 3, 5
PARAMS = model.Params(0.7, 0.6)


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with precision("float64"):
        yield


def _matrices(seed: int, positive: bool = False) -> jax.Array:
    G = np.random.default_rng(seed).standard_normal((PATHS, M, M))
    return jnp.asarray(G @ np.swapaxes(G, -1, -2) / M if positive else G)


def _tiles(x: jax.Array) -> Tiles:
    """Leading axis of paths to an array of arrays over paths."""
    return Tiles.of(x.shape[1:], lambda *i: x[(slice(None), *i)])


def _array(x: Any) -> np.ndarray:
    if not isinstance(x, Tiles):
        return np.asarray(x)
    out = np.empty((PATHS, *x.shape))
    for index in np.ndindex(*x.shape):
        out[(slice(None), *index)] = np.asarray(x.entries[index])
    return out


def _same(f: Callable[..., Any], *arrays: jax.Array) -> None:
    """One word on both representations; the array side runs under vmap, where shapes are equal."""
    expected = jax.vmap(f)(*arrays)
    found = f(*(_tiles(a) for a in arrays))
    assert isinstance(found, Tiles)
    np.testing.assert_allclose(_array(found), expected, rtol=1e-13, atol=1e-14)


ONE: dict[str, Callable[[Any], Any]] = {
    "negative": lambda x: -x,
    "transpose": lambda x: x.mT,
    "column": lambda x: x[..., :, None],
    "row": lambda x: x[..., None, :],
    "entry row": lambda x: x[1],
    "sum": lambda x: x.sum(),
    "sum last": lambda x: x.sum(-1),
    "sum first": lambda x: x.sum(-2),
    "sum both": lambda x: x.sum((-2, -1)),
    "sum kept": lambda x: x.sum(-1, keepdims=True),
    "power": lambda x: x * x * x,
    "scaled": lambda x: 2 * x / 3 + 1 - x * 0.5,
    "from a number": lambda x: 1 - x,
    "under a number": lambda x: 1 / (3 + x * x),
    "diagonal": ops.diagonal,
    "softmax": ops.softmax,
    "softmax of large": lambda x: ops.softmax(1000 * x),
    "exp": ops.exp,
    "log": lambda x: ops.log(1 + x * x),
    "sqrt": lambda x: ops.sqrt(x * x),
    "tanh": ops.tanh,
    "sin": ops.sin,
    "cos": ops.cos,
    "erf": ops.erf,
    "sigmoid": ops.sigmoid,
    "relu": ops.relu,
    "identity": lambda x: x @ ops.eye(M, x.dtype) + ops.eye(M, x.dtype),
    "constant": lambda x: ops.full((M, M), 2.0, x.dtype) * x,
}

TWO: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "matmul": lambda x, y: x @ y,
    "broadcast": lambda x, y: x.sum(-1)[..., None] * y + x[..., 0, :][..., None, :],
    "scalar times matrix": lambda x, y: x.sum((-2, -1))[..., None, None] * y,
}


@pytest.mark.parametrize("name", ONE)
def test_word_of_one_array_is_the_same_on_tiles(name: str) -> None:
    _same(ONE[name], _matrices(1))


@pytest.mark.parametrize("name", TWO)
def test_word_of_two_arrays_is_the_same_on_tiles(name: str) -> None:
    _same(TWO[name], _matrices(1), _matrices(2))


@pytest.mark.parametrize(
    "name", ["exp", "log", "sqrt", "tanh", "sin", "cos", "erf", "sigmoid", "relu"]
)
def test_words_take_plain_numbers(name: str) -> None:
    word = getattr(ops, name)
    np.testing.assert_allclose(float(word(0.7)), word(jnp.asarray(0.7)), rtol=1e-15)


@pytest.mark.parametrize("name", ["drift", "mixing_rate", "mixing_effect", "volatility"])
def test_generated_function_is_the_same_on_tiles(name: str) -> None:
    _same(lambda V: getattr(model, name)(V, PARAMS), _matrices(3, positive=True))


def _normals(size: int, seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal((PATHS, size)))


def test_noise_is_the_same_on_tiles() -> None:
    V = _matrices(4, positive=True)
    laws = {name: model.runtime.Block(kind) for name, kind in model._SPEC.noise_fields.items()}
    z = _normals(total(laws, M), 5)
    expected = model.noise_from(
        psd_factor(V)[0], V, gaussian_blocks(laws, z, M, {}, tiles=False), PARAMS
    )
    found = model.noise_from(
        tiles_factor(_tiles(V))[0],
        _tiles(V),
        gaussian_blocks(laws, list(z.T), M, {}, tiles=True),
        PARAMS,
    )
    np.testing.assert_allclose(_array(found), expected, rtol=1e-12, atol=1e-13)


def test_step_is_the_same_on_tiles() -> None:
    V = _matrices(6, positive=True)
    laws = model._SPEC.step_blocks
    z = _normals(total(laws, M), 7)
    dims = model.Dims(n=50.0, n_k=1.0)
    expected = jax.vmap(
        lambda V, z: model.step_layer(
            psd_factor(V)[0],
            gaussian_blocks(laws, z, M, dims._asdict(), tiles=False),
            PARAMS,
            dims,
        )
    )(V, z)
    found = model.step_layer(
        tiles_factor(_tiles(V))[0],
        gaussian_blocks(laws, list(z.T), M, dims._asdict(), tiles=True),
        PARAMS,
        dims,
    )
    np.testing.assert_allclose(_array(found), expected, rtol=1e-12, atol=1e-13)


EQUAL = np.array([[1.0, 1.0, 0.3], [1.0, 1.0, 0.3], [0.3, 0.3, 0.8]])
CASES = {
    "regular": np.array([[1.3, 0.4, -0.2], [0.4, 0.8, 0.1], [-0.2, 0.1, 1.1]]),
    "two equal tokens": EQUAL,
    "rank one": np.outer([1.0, -2.0, 0.5], [1.0, -2.0, 0.5]),
    "a zero token": np.diag([1.0, 0.0, 2.0]),
    "zero": np.zeros((3, 3)),
    "large": 1e8 * EQUAL,
    "small": 1e-12 * EQUAL,
}


@pytest.mark.parametrize("name", CASES)
def test_factor_of_regular_and_singular_covariances(name: str) -> None:
    V = jnp.asarray(np.broadcast_to(CASES[name], (PATHS, M, M)))
    L, inside = psd_factor(V)
    T, also = tiles_factor(_tiles(V))
    size = np.max(np.abs(CASES[name]))
    for factor in (np.asarray(L), _array(T)):
        product = factor @ np.swapaxes(factor, -1, -2)
        np.testing.assert_allclose(product, V, rtol=0, atol=1e-14 * size)
        np.testing.assert_array_equal(factor, np.tril(factor))
    assert np.all(inside) and np.all(also)
    if name == "two equal tokens":
        np.testing.assert_array_equal(L[:, 0], L[:, 1])
        np.testing.assert_array_equal(_array(T)[:, 0], _array(T)[:, 1])


def test_factor_of_a_mixed_batch_mends_only_the_singular() -> None:
    regular = CASES["regular"]
    L, inside = psd_factor(jnp.asarray(np.stack([regular, EQUAL])))
    assert np.all(inside)
    np.testing.assert_allclose(L[0], np.linalg.cholesky(regular), rtol=1e-14, atol=1e-15)


def test_a_matrix_outside_the_cone_is_reported() -> None:
    V = jnp.asarray(np.stack([np.diag([1.0, -0.1, 1.0]), np.eye(3)]))
    np.testing.assert_array_equal(psd_factor(V)[1], [False, True])
    np.testing.assert_array_equal(tiles_factor(_tiles(V))[1], [False, True])


@pytest.mark.parametrize("name", CASES)
def test_gradient_of_the_drift_is_finite(name: str) -> None:
    slope = jax.jacobian(lambda V: model.drift(V, PARAMS))(jnp.asarray(CASES[name]))
    assert slope.shape == (M, M, M, M)
    assert np.all(np.isfinite(slope))


def test_tiles_are_permuted_like_arrays() -> None:
    """A cycle of three axes, which is not its own inverse."""
    x = np.arange(24.0).reshape(2, 3, 4)
    tiles = Tiles.of(x.shape, lambda *index: jnp.asarray(x[index]))
    for order in itertools.permutations(range(3)):
        found = permuted(tiles, order)
        assert found.shape == np.transpose(x, order).shape
        entries = np.vectorize(float)(found.entries)
        np.testing.assert_array_equal(entries, np.asarray(permuted(jnp.asarray(x), order)))
        np.testing.assert_array_equal(entries, np.transpose(x, order))
