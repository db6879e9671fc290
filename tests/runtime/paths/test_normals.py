"""The sampler's own normals: the right law, to the accuracy of the dtype, one stream a key."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry2x32_p
from scipy.special import ndtri
from scipy.stats import kstest

from derive.runtime.paths import normals as own


def _drawn(dtype: str, paths: int = 4000, count: int = 101, axis: int = 1) -> np.ndarray:
    """(count, paths)"""
    with jax.enable_x64(dtype == "float64"):
        keys = jax.random.split(jax.random.key(12, impl="threefry2x32"), paths)
        z = np.asarray(own.normals(keys, count, np.dtype(dtype), axis))
    assert z.dtype == dtype
    return z if axis else z.T


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_they_are_normal_and_uncorrelated(dtype: str) -> None:
    """404,000 numbers; false alarms below 1e-4 for the law and each of the moments, 5
    standard errors for the largest of 5050 correlations (below 3e-3) and for their mean square."""
    z = _drawn(dtype).astype(float)
    assert kstest(z.ravel(), "norm").pvalue > 1e-4
    n = z.size
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs(np.mean(z**power) - mean) < 4 * np.sqrt(variance / n)
    products = z @ z.T / z.shape[1]
    off = products[np.tril_indices(len(z), -1)]
    assert np.max(np.abs(off)) < 5 / np.sqrt(z.shape[1])
    assert abs(np.mean(off**2) * z.shape[1] - 1) < 0.1  # 5 standard errors


def test_the_hash_written_out_has_the_bits_of_the_one_of_jax() -> None:
    rng = np.random.default_rng(3)
    words = [jnp.asarray(rng.integers(0, 2**32, 1000, dtype=np.uint32)) for _ in range(3)]
    found = own.threefry(*words)
    expected = threefry2x32_p.bind(*words, jnp.zeros_like(words[0]))
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_single_precision_is_accurate_over_the_whole_range() -> None:
    """Against scipy at all kinds of words, the largest and smallest included; 3e-6 in absolute
    value at the centre and relative in the tails."""
    rng = np.random.default_rng(0)
    cells = np.concatenate([
        np.arange(1000), 2**23 - 1 - np.arange(1000), 2**22 + np.arange(-1000, 1000),
        rng.integers(0, 2**23, 100_000),
    ])  # fmt: skip
    with jax.enable_x64(False):
        found = np.asarray(own._single(jnp.asarray((cells << 9).astype(np.uint32))))
    exact = ndtri((cells + 0.5) / 2**23)
    np.testing.assert_allclose(found, exact, rtol=3e-6, atol=3e-7)
    np.testing.assert_array_equal(found[:1000], -found[1000:2000])


def test_double_precision_is_accurate_over_the_whole_range() -> None:
    rng = np.random.default_rng(0)
    high, low = rng.integers(0, 2**32, (2, 100_000), dtype=np.uint64)
    high[:3], low[:3] = [0, 2**31, 2**32 - 1], [0, 0, 2**32 - 1]
    with jax.enable_x64(True):
        found = np.asarray(own._double(*(jnp.asarray(w.astype(np.uint32)) for w in (high, low))))
    cells = (high << np.uint64(20)) | (low >> np.uint64(12))
    exact = ndtri((np.minimum(cells, 2**52 - 1 - cells) + 0.5) / 2**52)  # the lower tail is exact
    np.testing.assert_allclose(np.abs(found), -exact, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_key_has_its_numbers_whoever_is_beside_it(dtype: str) -> None:
    z = _drawn(dtype, 40, 7)
    np.testing.assert_array_equal(_drawn(dtype, 40, 7, axis=0), z)
    with jax.enable_x64(dtype == "float64"):
        keys = jax.random.split(jax.random.key(12, impl="threefry2x32"), 40)
        alone = np.asarray(own.normals(keys[13:14], 7, np.dtype(dtype), 1))
    np.testing.assert_array_equal(alone[:, 0], z[:, 13])
    assert len(np.unique(z)) == z.size
