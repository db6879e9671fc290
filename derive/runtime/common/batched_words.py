"""Array words of generated closures and token flows: contractions, inverses, gates, roots.

Every word takes arrays with leading batch axes that broadcast; named axes come last.  Imports jax
and numpy alone, and the words for functions of matrices.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common import small_matrices
from derive.runtime.common.batch_axes import padded
from derive.runtime.common.matrix_functions import factor as factor
from derive.runtime.common.matrix_functions import sandwich as sandwich
from derive.runtime.common.matrix_functions import spectral as spectral
from derive.runtime.common.rings import sqrt as sqrt

EXACT = jax.lax.Precision.HIGHEST
pi = np.pi
exp, log, tanh, sin, cos = jnp.exp, jnp.log, jnp.tanh, jnp.sin, jnp.cos
erf, arctan = jax.scipy.special.erf, jnp.arctan


def contract(subscripts: str, *operands: Any) -> jax.Array:
    """Einstein sum over the last axes; the axes before are batch axes and broadcast."""
    inputs, output = subscripts.split("->")
    sizes = [len(s) for s in inputs.split(",")]
    arrays = _alike(operands)
    lead = max(x.ndim - n for x, n in zip(arrays, sizes, strict=True))
    arrays = [padded(x, n, lead) for x, n in zip(arrays, sizes, strict=True)]
    words = ",".join("..." + s for s in inputs.split(","))
    if lead == 0:
        words = inputs
    return jnp.einsum(words + "->" + ("..." if lead else "") + output, *arrays, precision=EXACT)


def matvec(matrix: Any, x: Any) -> jax.Array:
    """matrix x, along the last axis of x."""
    return contract("ij,j->i", matrix, x)


def dot(x: Any, y: Any) -> jax.Array:
    """<x, y> along the last axes."""
    return contract("i,i->", x, y)


def outer(x: Any, y: Any) -> jax.Array:
    """x_i y_j."""
    return contract("i,j->ij", x, y)


def _alike(operands: Any) -> list[jax.Array]:
    """Arrays of one dtype: what is real is made complex only beside what is complex."""
    arrays = [jnp.asarray(x) for x in operands]
    strong = [a.dtype for a in arrays if not a.weak_type]
    dtype = np.result_type(*(strong or [arrays[0].dtype]))
    return [a.astype(dtype) for a in arrays]


def i_times(x: Any) -> jax.Array:
    """The imaginary unit times x."""
    x = jnp.asarray(x)
    return jax.lax.complex(-jnp.imag(x), jnp.real(x))


def real(x: Any) -> jax.Array:
    """The real part: sums of complex conjugates."""
    return jnp.real(x)


def total(*terms: Any) -> jax.Array:
    """Sum of arrays with equal last axes and batch axes that broadcast."""
    arrays = _alike(terms)
    rank = max(a.ndim for a in arrays)
    arrays = [a.reshape((1,) * (rank - a.ndim) + a.shape) for a in arrays]
    out = arrays[0]
    for a in arrays[1:]:
        out = out + a
    return out


def along(x: Any, like: Any, axis: int) -> jax.Array:
    """x, constant along a new axis (counted from the end) of the length that `like` ends with, or
    is."""
    x = jnp.asarray(x)
    out = jnp.expand_dims(x, axis)
    shape = list(out.shape)
    shape[axis] = like if isinstance(like, int) else jnp.shape(like)[-1]
    return jnp.broadcast_to(out, shape)


def lifted(x: Any, rank: int, like: Any) -> jax.Array:
    """A number of each law beside `like`, which has `rank` axes behind those of the laws."""
    x = jnp.asarray(x, jnp.result_type(like))
    x = x.reshape(x.shape + (1,) * rank)
    return padded(x, 0, max(x.ndim, jnp.ndim(like)))


def inverse(matrix: jax.Array) -> jax.Array:
    """(I + matrix)^-1."""
    return small_matrices.inverse(matrix + _eye_like(matrix))


def det_root(matrix: jax.Array) -> jax.Array:
    """det(I + matrix)^(-1/2), for a positive determinant."""
    _, value = small_matrices.slogdet(matrix + _eye_like(matrix))
    return jnp.exp(-value / 2)


def _eye_like(matrix: jax.Array) -> jax.Array:
    eye = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    return eye.reshape((1,) * (matrix.ndim - 2) + eye.shape)


def identity(like: Any) -> jax.Array:
    """Identity of the size of the last axis of `like`, or of the size `like`."""
    if isinstance(like, int):
        return jnp.eye(like, dtype=np.float32)  # beside any dtype it takes that one
    return jnp.eye(like.shape[-1], dtype=like.dtype)


def gate(exponent: jax.Array, weight: jax.Array) -> jax.Array:
    """weight exp(exponent), normalised along the last axis; stable for large exponents."""
    weight = jnp.broadcast_to(padded(weight, 0, exponent.ndim), exponent.shape)
    top = jnp.max(jnp.where(weight > 0, exponent, -jnp.inf), axis=-1, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    raised = weight * jnp.exp(jnp.where(weight > 0, exponent - top, 0))
    return raised / raised.sum(axis=-1, keepdims=True)


def mask(relation: str, theta: Any) -> jax.Array:
    """1 where the block of the key (last axis) stands in `relation` to that of the query."""
    count = jnp.shape(theta)[-1]
    key, query = np.arange(count)[None, :], np.arange(count)[:, None]
    table = {
        "upto": key <= query,
        "before": key < query,
        "from": key >= query,
        "after": key > query,
    }
    return jnp.asarray(table[relation], jnp.asarray(theta).dtype)


def lag(theta: Any) -> jax.Array:
    """Position of the block of the query less that of the key (last axis): the share of tokens
    before the middle of a block."""
    middle = jnp.cumsum(theta, axis=-1) - theta / 2
    return middle[..., :, None] - middle[..., None, :]


def smallest_eigenvalue(matrix: jax.Array, cov: jax.Array) -> jax.Array:
    """Smallest eigenvalue of I + F^T matrix F, F F^T = cov."""
    F = factor(cov)
    inner = contract("ji,jk,kl->il", F, matrix, F)
    inner = (inner + inner.mT) / 2
    return 1 + small_matrices.eigvalsh(inner)[..., 0]


def rate(gradient: jax.Array, cov: jax.Array) -> jax.Array:
    """gradient cov + its transpose."""
    half = contract("ij,jk->ik", gradient, cov)
    return half + half.mT


def maximum(*values: Any) -> Any:
    """Largest of numbers and arrays."""
    out = values[0]
    for value in values[1:]:
        out = jnp.maximum(out, value)
    return out


def minimum(*values: Any) -> Any:
    """Smallest of numbers and arrays."""
    out = values[0]
    for value in values[1:]:
        out = jnp.minimum(out, value)
    return out


def step(x: Any) -> jax.Array:
    """1 for x > 0, 0 for x < 0, a half at 0."""
    return jnp.heaviside(x, 0.5)


sign, absolute = jnp.sign, jnp.abs
