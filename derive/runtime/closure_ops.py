"""Array words of generated Gaussian closures: contractions, inverses, gates, averages.

Every word takes arrays with leading batch axes that broadcast; named axes come last.  Imports jax
and numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

EXACT = jax.lax.Precision.HIGHEST
pi = np.pi
exp, log, tanh, sin, cos, sqrt = jnp.exp, jnp.log, jnp.tanh, jnp.sin, jnp.cos, jnp.sqrt
erf = jax.scipy.special.erf


def contract(subscripts: str, *operands: Any) -> jax.Array:
    """Einstein sum over the last axes; the axes before are batch axes and broadcast."""
    inputs, output = subscripts.split("->")
    sizes = [len(s) for s in inputs.split(",")]
    arrays = _alike(operands)
    lead = max(x.ndim - n for x, n in zip(arrays, sizes, strict=True))
    arrays = [_padded(x, n, lead) for x, n in zip(arrays, sizes, strict=True)]
    words = ",".join("..." + s for s in inputs.split(","))
    if lead == 0:
        words = inputs
    return jnp.einsum(words + "->" + ("..." if lead else "") + output, *arrays, precision=EXACT)


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


def _padded(x: jax.Array, core: int, lead: int) -> jax.Array:
    missing = lead - (x.ndim - core)
    return x if not missing else x.reshape((1,) * missing + x.shape)


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
    """x, constant along a new axis (counted from the end) of the length that `like` ends with."""
    x = jnp.asarray(x)
    out = jnp.expand_dims(x, axis)
    shape = list(out.shape)
    shape[axis] = jnp.shape(like)[-1]
    return jnp.broadcast_to(out, shape)


def inverse(matrix: jax.Array) -> jax.Array:
    """(I + matrix)^-1."""
    return jnp.linalg.inv(matrix + _eye_like(matrix))


def det_root(matrix: jax.Array) -> jax.Array:
    """det(I + matrix)^(-1/2), for a positive determinant."""
    _, value = jnp.linalg.slogdet(matrix + _eye_like(matrix))
    return jnp.exp(-value / 2)


def _eye_like(matrix: jax.Array) -> jax.Array:
    eye = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    return eye.reshape((1,) * (matrix.ndim - 2) + eye.shape)


def identity(like: jax.Array) -> jax.Array:
    """Identity of the size of the last axis of `like`."""
    return jnp.eye(like.shape[-1], dtype=like.dtype)


def gate(exponent: jax.Array, weight: jax.Array) -> jax.Array:
    """weight exp(exponent), normalised along the last axis; stable for large exponents."""
    weight = jnp.broadcast_to(_padded(weight, 0, exponent.ndim), exponent.shape)
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


def factor(cov: jax.Array) -> jax.Array:
    """F with F F^T = cov, for a positive semi-definite matrix that may be singular."""
    values, vectors = jnp.linalg.eigh((cov + cov.mT) / 2)
    return vectors * jnp.sqrt(jnp.maximum(values, 0))[..., None, :]


def spectral(matrix: jax.Array, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """function(matrix) on the spectrum of a positive semi-definite matrix."""
    values, vectors = jnp.linalg.eigh((matrix + matrix.mT) / 2)
    scaled = vectors * function(jnp.maximum(values, 0))[..., None, :]
    return contract("ij,kj->ik", scaled, vectors)


def smallest_eigenvalue(matrix: jax.Array, cov: jax.Array) -> jax.Array:
    """Smallest eigenvalue of I + F^T matrix F, F F^T = cov."""
    F = factor(cov)
    inner = contract("ji,jk,kl->il", F, matrix, F)
    inner = (inner + inner.mT) / 2
    return 1 + jnp.linalg.eigvalsh(inner)[..., 0]


def rate(gradient: jax.Array, cov: jax.Array) -> jax.Array:
    """gradient cov + its transpose."""
    half = contract("ij,jk->ik", gradient, cov)
    return half + half.mT


NODES, REACH, SIDE = 241, 9.0, 48


def gaussian_mean(
    function: Callable[[jax.Array], jax.Array], mean: Any, var: Any, kinks: Any = ()
) -> jax.Array:
    """E function(s), s ~ N(mean, var), entry by entry.

    Trapezoidal rule over the standard normal: for a function with its nearest singularity at
    distance a from the real axis the error is exp(-2 pi a / (h sqrt(var))), h = 0.075.
    """
    z = np.linspace(-REACH, REACH, NODES)
    w = np.exp(-(z**2) / 2)
    dtype = jnp.result_type(mean, var)
    mean, var = jnp.asarray(mean)[..., None], jnp.asarray(var)[..., None]
    rank = max(mean.ndim, var.ndim)
    mean, var = _padded(mean, 0, rank), _padded(var, 0, rank)
    shape = (1,) * (rank - 1) + (NODES,)
    # the square root at a variance of zero has no derivative; none is needed there
    safe = jnp.where(var > 0, var, 1)
    spread = jnp.where(var > 0, jnp.sqrt(safe), 0)
    if len(kinks):
        return _piecewise_mean(function, mean[..., 0], spread[..., 0], kinks)
    at = mean + spread * jnp.asarray(z, dtype).reshape(shape)
    return (function(at) * jnp.asarray(w / w.sum(), dtype).reshape(shape)).sum(axis=-1)


def _piecewise_mean(
    function: Callable[[jax.Array], jax.Array], mean: jax.Array, spread: jax.Array, kinks: Any
) -> jax.Array:
    """The same for a function with kinks: Gauss-Legendre between them."""
    dtype = mean.dtype
    z, w = (jnp.asarray(a, dtype) for a in np.polynomial.legendre.leggauss(SIDE))
    safe = jnp.where(spread > 0, spread, 1)
    ends = [jnp.full(mean.shape, -REACH, dtype)]
    for kink in sorted(kinks):
        place = jnp.where(spread > 0, (kink - mean) / safe, REACH)
        ends.append(jnp.clip(place, -REACH, REACH))
    ends.append(jnp.full(mean.shape, REACH, dtype))
    out = jnp.zeros(mean.shape, dtype)
    for low, high in zip(ends[:-1], ends[1:], strict=True):
        # two halves, so that the bulk of the normal stays resolved
        middle = (low + high) / 2
        for a, b in ((low, middle), (middle, high)):
            half = ((b - a) / 2)[..., None]
            at = ((a + b) / 2)[..., None] + half * z.reshape((1,) * mean.ndim + (SIDE,))
            density = jnp.exp(-at * at / 2) / np.sqrt(2 * np.pi)
            values = function(mean[..., None] + spread[..., None] * at)
            weight = w.reshape((1,) * mean.ndim + (SIDE,))
            out = out + (half * weight * density * values).sum(axis=-1)
    return jnp.where(spread > 0, out, function(mean))


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


WAVES = 121


def fourier_mean(
    wave: Callable[[Any], tuple[Any, ...]],
    powers: list[tuple[Any, ...]],
    taylor: list[float],
    derivative: Callable[[jax.Array], jax.Array],
    size: Any,
    reach: float,
    support: float,
) -> tuple[jax.Array, ...]:
    """Averages of f(s) * polynomials from those of e^{ius}: Taylor part plus Fourier integral.

    `wave(u)`: the averages with e^{ius} for f, complex.  `powers[j]`: with s^j for f.  `taylor[j]`:
    f^(j)(0)/j!.  `derivative`: f^(k), k = len(powers), integrable with light tails.  `size`: E s^2,
    the scale on which e^{ius} changes.  f^(k) is below rounding outside [-support, support], its
    transform beyond the frequency reach.

    The transform of f^(k) is a trapezoidal sum; u = sinh(t) / (1 + sqrt(size)), so that the nearest
    singularity of the average, at distance about 1/sqrt(size), stays at distance pi/2 in t.
    """
    k = len(powers)
    dtype = jnp.result_type(size, float)
    # spacing 2 pi / (2.5 reach): what is folded back lies beyond 1.5 reach
    count = 2 * int(np.ceil(support * 2.5 * reach / (2 * np.pi))) + 1
    s = jnp.asarray(np.linspace(-support, support, count), dtype)
    values = derivative(s) * (2 * support / (count - 1))
    scale = 1 / (1 + jnp.sqrt(size))
    top = jnp.arcsinh(reach / scale)
    h = top / WAVES
    t = h * (jnp.arange(WAVES, dtype=dtype) + 0.5)
    u = scale * jnp.sinh(t)
    step = scale * jnp.cosh(t) * h
    phase = u[:, None] * s[None, :]
    transform = jax.lax.complex(jnp.cos(phase) @ values, -(jnp.sin(phase) @ values))
    iu = jax.lax.complex(jnp.zeros_like(u), u)
    share = step / pi
    weight = jax.lax.complex(jnp.real(transform) * share, jnp.imag(transform) * share) / iu**k

    def one(carry: Any, node: Any) -> tuple[Any, None]:
        at, frequency, share = node
        found = wave(at)
        rest = list(found)
        for j in range(k):
            power = frequency**j / float(np.prod(np.arange(1, j + 1)))
            rest = [
                r - jax.lax.complex(jnp.real(power) * p, jnp.imag(power) * p)
                for r, p in zip(rest, powers[j], strict=True)
            ]
        return tuple(c + jnp.real(share * r) for c, r in zip(carry, rest, strict=True)), None

    start = jax.eval_shape(wave, u[0])
    carry = tuple(jnp.zeros(a.shape, dtype) for a in start)
    out, _ = jax.lax.scan(one, carry, (u, iu, weight))
    for j in range(k):
        out = tuple(o + taylor[j] * p for o, p in zip(out, powers[j], strict=True))
    return out


@lru_cache(maxsize=8)
def _standard_points(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights for N(0, I_d): tensor Gauss-Hermite to d = 3, else a seeded lattice."""
    if d <= 3:
        count = {1: 64, 2: 28, 3: 16}[d]
        z, w = np.polynomial.hermite_e.hermegauss(count)
        w = w / w.sum()
        grid = np.stack(np.meshgrid(*[z] * d, indexing="ij"), -1).reshape(-1, d)
        weight = np.prod(np.stack(np.meshgrid(*[w] * d, indexing="ij"), -1), -1).reshape(-1)
        keep = weight > 1e-22
        return grid[keep], weight[keep] / weight[keep].sum()
    from statistics import NormalDist

    # rank-one lattice with the generalised golden ratio, shifted, antithetic
    count = 2048
    root = 2.0
    for _ in range(60):
        root = (1 + root) ** (1 / (d + 1))
    alpha = root ** -np.arange(1.0, d + 1)
    shift = np.random.default_rng(20250131).uniform(size=d)
    points = np.mod(np.arange(1, count + 1)[:, None] * alpha + shift, 1.0)
    normal = NormalDist()
    half = np.vectorize(normal.inv_cdf)(np.clip(points, 1e-12, 1 - 1e-12))
    both = np.concatenate([half, -half])
    return both, np.full(len(both), 1 / len(both))


def cubature_rates(
    velocity: Callable[..., Any], mean: jax.Array, cov: jax.Array, params: Any
) -> tuple[jax.Array, jax.Array]:
    """E velocity and E grad velocity over x ~ N(mean, cov) (each block its own law).

    Tensor Gauss-Hermite up to dimension 3; above, 4096 seeded lattice points (error about 1e-3).
    """
    d = mean.shape[-1]
    z, w = _standard_points(d)
    root = factor(cov)

    def one(carry: Any, node: Any) -> tuple[Any, None]:
        at, share = node
        x = mean + contract("ij,j->i", root, at)
        value, push = jax.linearize(lambda q: velocity(q, mean, cov, params), x)
        columns = [
            push(
                jnp.broadcast_to(
                    jnp.eye(d, dtype=x.dtype)[j].reshape((1,) * (x.ndim - 1) + (d,)), x.shape
                )
            )
            for j in range(d)
        ]
        slope = jnp.stack(columns, axis=-1)
        return (carry[0] + share * value, carry[1] + share * slope), None

    lead = jnp.broadcast_shapes(mean.shape[:-1], cov.shape[:-2])
    start = (jnp.zeros((*lead, d), mean.dtype), jnp.zeros((*lead, d, d), mean.dtype))
    mean = jnp.broadcast_to(mean, (*lead, d))
    out, _ = jax.lax.scan(one, start, (jnp.asarray(z, mean.dtype), jnp.asarray(w, mean.dtype)))
    return out
