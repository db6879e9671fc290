"""Quadratures of generated Gaussian closures, and the estimates of their errors.

One-dimensional: `gaussian_mean` (function of a normal variable), `fourier_mean` (Fourier integral).
Over the law of the queries: `cubature_rates`.  Every rule converges exponentially or has random
shifts, so each one's error is the distance to the same rule made finer (`quadrature_error`), or the
spread of its shifts (`cubature_error`).  Imports jax and numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.closure_ops import _padded, contract, factor

NODES, REACH, SIDE = 241, 9.0, 48
LEVELS = 33  # scales 1, 2, 4, ... of the argument of a function
TENSOR = {1: 64, 2: 28, 3: 16}  # Gauss-Hermite nodes a direction
SHIFTS, LATTICE = 8, 256  # above: a lattice, this often shifted at random, and mirrored

_finer: ContextVar[int] = ContextVar("finer", default=1)


@contextmanager
def finer(factor_: int = 2) -> Iterator[None]:
    """Rules that are traced inside have this many times the nodes."""
    token = _finer.set(factor_)
    try:
        yield
    finally:
        _finer.reset(token)


def quadrature_error(
    function: Callable[..., Any], axes: Sequence[int], *arguments: Any
) -> jax.Array:
    """Relative error of the quadratures in function(*arguments), the largest of its outputs.

    The distance to the same rules with twice the nodes, per law; `axes`: of each output, how many
    axes belong to one law.
    """
    plain = jax.tree.leaves(function(*arguments))
    with finer():
        better = jax.tree.leaves(function(*arguments))
    return _largest([(p - b, b) for p, b in zip(plain, better, strict=True)], axes)


def _largest(pairs: list[tuple[Any, Any]], axes: Sequence[int]) -> jax.Array:
    """max over pairs of |error| / |value|, both the largest over the last axes."""
    out: Any = None
    for (wrong, right), count in zip(pairs, axes, strict=True):
        last = tuple(range(-count, 0))
        size = jnp.max(jnp.abs(right), axis=last)
        one = jnp.max(jnp.abs(wrong), axis=last) / jnp.where(size > 0, size, 1)
        out = one if out is None else jnp.maximum(out, one)
    return out


def gaussian_mean(
    function: Callable[[jax.Array], jax.Array], mean: Any, var: Any, kinks: Any = ()
) -> jax.Array:
    """E function(s), s ~ N(mean, var), entry by entry.

    Trapezoidal rule over the standard normal: for a function with its nearest singularity at
    distance a from the real axis the error is exp(-2 pi a / (h sqrt(var))), h = 0.075.
    """
    nodes = NODES * _finer.get()
    z = np.linspace(-REACH, REACH, nodes)
    w = np.exp(-(z**2) / 2)
    dtype = jnp.result_type(mean, var)
    mean, var = jnp.asarray(mean)[..., None], jnp.asarray(var)[..., None]
    rank = max(mean.ndim, var.ndim)
    mean, var = _padded(mean, 0, rank), _padded(var, 0, rank)
    shape = (1,) * (rank - 1) + (nodes,)
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
    side = SIDE * _finer.get()
    z, w = (jnp.asarray(a, dtype) for a in np.polynomial.legendre.leggauss(side))
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
            at = ((a + b) / 2)[..., None] + half * z.reshape((1,) * mean.ndim + (side,))
            density = jnp.exp(-at * at / 2) / np.sqrt(2 * np.pi)
            values = function(mean[..., None] + spread[..., None] * at)
            weight = w.reshape((1,) * mean.ndim + (side,))
            out = out + (half * weight * density * values).sum(axis=-1)
    return jnp.where(spread > 0, out, function(mean))


@lru_cache(maxsize=64)
def _frequencies(
    derivative: Callable[[jax.Array], jax.Array],
    order: int,
    reach: float,
    support: float,
    count: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes u and weights (real and imaginary part) for each scale, (LEVELS, count).

    weight = phi(u) du / pi / (iu)^order, phi the transform of `derivative`: a trapezoidal sum of
    spacing 2 pi / (2.5 reach), so that what is folded back lies beyond 1.5 reach.
    """
    half = int(np.ceil(support * 2.5 * reach / (2 * np.pi)))
    s = np.linspace(-support, support, 2 * half + 1)
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        values = np.asarray(derivative(jnp.asarray(s))) * (support / half)
    even, odd = (values + values[::-1]) / 2, (values - values[::-1]) / 2
    nodes, weights = [], []
    for level in range(LEVELS):
        scale = 1 / (1 + 2.0**level)
        h = np.arcsinh(reach / scale) / count
        t = h * (np.arange(count) + 0.5)
        u = scale * np.sinh(t)
        phase = np.outer(u, s)
        transform = np.cos(phase) @ even - 1j * (np.sin(phase) @ odd)
        nodes.append(u)
        weights.append(transform * (scale * np.cosh(t) * h / np.pi) / (1j * u) ** order)
    w = np.array(weights)
    return np.array(nodes), w.real.copy(), w.imag.copy()


def fourier_mean(
    wave: Callable[[Any], tuple[Any, ...]],
    powers: list[tuple[Any, ...]],
    taylor: list[float],
    derivative: Callable[[jax.Array], jax.Array],
    size: Any,
    reach: float,
    support: float,
    count: int,
) -> tuple[jax.Array, ...]:
    """Averages of f(s) * polynomials from those of e^{ius}: Taylor part plus Fourier integral.

    `wave(u)`: the averages with e^{ius} for f, complex.  `powers[j]`: with s^j for f.  `taylor[j]`:
    f^(j)(0)/j!.  `derivative`: f^(k), k = len(powers), integrable with light tails.  `size`: E s^2,
    the scale on which e^{ius} changes.  f^(k) is below rounding outside [-support, support], its
    transform beyond the frequency reach.  `count`: nodes.

    u = sinh(t) / (1 + r), r about sqrt(size), midpoints in t: the nearest singularity of the
    average, at distance about 1 / r in u, stays at distance pi/2 in t.  r is a power of two, so the
    nodes and the transform are tables.
    """
    k = len(powers)
    dtype = jnp.result_type(size, float)
    tables = _frequencies(derivative, k, reach, support, count * _finer.get())
    level = jnp.round(jnp.log2(jnp.maximum(size, 1.0)) / 2).astype(jnp.int32)
    level = jnp.minimum(level, LEVELS - 1)
    u, real, imaginary = (jnp.moveaxis(jnp.asarray(table, dtype)[level], -1, 0) for table in tables)

    start = jax.eval_shape(wave, u[0])
    lead = u.ndim - 1
    cores = [a.ndim - lead for a in start]
    beside = lambda x, core: x.reshape(x.shape + (1,) * core)  # noqa: E731
    powers = [
        tuple(_padded(p, core, lead) for p, core in zip(pair, cores, strict=True))
        for pair in powers
    ]

    def one(carry: Any, node: Any) -> tuple[Any, None]:
        at, a, b = node
        out = []
        for position, (sum_, value) in enumerate(zip(carry, wave(at), strict=True)):
            core = cores[position]
            re, im = jnp.real(value), jnp.imag(value)
            for j in range(k):  # e^{ius} minus its Taylor part
                share = at**j / float(np.prod(np.arange(1, j + 1)))
                part = beside(share, core) * powers[j][position]
                re = re - (1, 0, -1, 0)[j % 4] * part
                im = im - (0, 1, 0, -1)[j % 4] * part
            out.append(sum_ + beside(a, core) * re - beside(b, core) * im)
        return tuple(out), None

    carry = tuple(jnp.zeros(a.shape, dtype) for a in start)
    out, _ = jax.lax.scan(one, carry, (u, real, imaginary))
    for j in range(k):
        out = tuple(o + taylor[j] * p for o, p in zip(out, powers[j], strict=True))
    return out


@lru_cache(maxsize=16)
def _standard_points(d: int, finer_: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, weights and shift of each point for N(0, I_d): tensor Gauss-Hermite to d = 3; above
    a lattice, shifted at random SHIFTS times (fixed seed)."""
    if d <= 3:
        z, w = np.polynomial.hermite_e.hermegauss(TENSOR[d] * finer_)
        w = w / w.sum()
        grid = np.stack(np.meshgrid(*[z] * d, indexing="ij"), -1).reshape(-1, d)
        weight = np.prod(np.stack(np.meshgrid(*[w] * d, indexing="ij"), -1), -1).reshape(-1)
        keep = weight > 1e-22
        return grid[keep], weight[keep] / weight[keep].sum(), np.zeros(int(keep.sum()), int)
    from statistics import NormalDist

    # rank-one lattice with the generalised golden ratio, shifted, antithetic
    count = LATTICE * finer_
    root = 2.0
    for _ in range(60):
        root = (1 + root) ** (1 / (d + 1))
    alpha = root ** -np.arange(1.0, d + 1)
    shifts = np.random.default_rng(20250131).uniform(size=(SHIFTS, 1, d))
    points = np.mod(np.arange(1, count + 1)[:, None] * alpha + shifts, 1.0).reshape(-1, d)
    inverse = np.vectorize(NormalDist().inv_cdf)
    half = inverse(np.clip(points, 1e-12, 1 - 1e-12))
    label = np.repeat(np.arange(SHIFTS), count)
    both = np.concatenate([half, -half])
    return both, np.full(len(both), 1 / len(both)), np.concatenate([label, label])


Rows = tuple[Any, int, int]  # a parameter, its own axes, the one over tokens


def _directions(rows: Sequence[Rows] | None, root: jax.Array) -> jax.Array:
    """G (..., d, r): x = mean + G z, z standard normal, has the law of N(mean, root root^T) in
    every linear form of `rows`; r is the number of forms or d, whichever is smaller."""
    d = root.shape[-1]
    if rows is None:
        return root
    forms = []
    for array, axes, token in rows:
        last = jnp.moveaxis(jnp.asarray(array), token - axes, -1)
        forms.append(last.reshape(*last.shape[: last.ndim - axes], -1, d))
    count = sum(f.shape[-2] for f in forms)
    if count >= d:
        return root
    lead = jnp.broadcast_shapes(*(f.shape[:-2] for f in forms), root.shape[:-2])
    B = jnp.concatenate([jnp.broadcast_to(f, (*lead, *f.shape[-2:])) for f in forms], axis=-2)
    # the rest of z is orthogonal to every row of B root: nothing depends on it
    seen = contract("ij,jk->ki", B, root)
    return contract("ij,jk->ik", root, jnp.linalg.qr(seen)[0])


def _over_points(
    velocity: Callable[..., Any],
    mean: jax.Array,
    cov: jax.Array,
    params: Any,
    through: Sequence[Rows] | None,
) -> tuple[jax.Array, jax.Array, bool]:
    """E velocity and E grad velocity by shift, (shifts, ...), and whether they are random."""
    d = mean.shape[-1]
    G = _directions(through, factor(cov))
    r = G.shape[-1]
    z, w, label = _standard_points(r, _finer.get())
    shifts = int(label.max()) + 1

    def one(carry: Any, node: Any) -> tuple[Any, None]:
        at, share, own = node
        x = mean + contract("ij,j->i", G, at)
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
        value, slope = share * value, share * slope
        if shifts == 1:
            return (carry[0] + value[None], carry[1] + slope[None]), None
        here = jnp.arange(shifts) == own
        pick = lambda v: here.reshape((-1,) + (1,) * v.ndim) * v[None]  # noqa: E731
        return (carry[0] + pick(value), carry[1] + pick(slope)), None

    lead = jnp.broadcast_shapes(mean.shape[:-1], cov.shape[:-2])
    kind = mean.dtype
    start = (jnp.zeros((shifts, *lead, d), kind), jnp.zeros((shifts, *lead, d, d), kind))
    mean = jnp.broadcast_to(mean, (*lead, d))
    nodes = (jnp.asarray(z, kind), jnp.asarray(w, kind), jnp.asarray(label, jnp.int32))
    out, _ = jax.lax.scan(one, start, nodes)
    return (*out, shifts > 1)


def cubature_rates(
    velocity: Callable[..., Any],
    mean: jax.Array,
    cov: jax.Array,
    params: Any,
    through: Sequence[Rows] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """E velocity and E grad velocity over x ~ N(mean, cov) (each block its own law).

    `through`: the parameters through whose products with x alone the velocity depends on x; the
    cubature is over the law of these products.  Tensor Gauss-Hermite up to dimension 3, above it a
    lattice with random shifts (fixed seed); `cubature_error` says how far they can be trusted.
    """
    first, second, _ = _over_points(velocity, mean, cov, params, through)
    return first.sum(axis=0), second.sum(axis=0)


def cubature_error(
    velocity: Callable[..., Any],
    mean: jax.Array,
    cov: jax.Array,
    params: Any,
    axes: Sequence[int],
    through: Sequence[Rows] | None = None,
) -> jax.Array:
    """Relative error of `cubature_rates` for each law: its distance to a rule with twice the nodes
    a direction, or three standard errors over the random shifts.  `axes`: of each of the two rates,
    how many axes belong to one law."""
    *plain, random = _over_points(velocity, mean, cov, params, through)
    if random:
        spread = [3 * p.std(axis=0, ddof=1) * np.sqrt(SHIFTS) for p in plain]
        pairs = [(e, p.sum(axis=0)) for e, p in zip(spread, plain, strict=True)]
        return _largest(pairs, axes)
    with finer():
        *better, _ = _over_points(velocity, mean, cov, params, through)
    pairs = [((p - b)[0], b[0]) for p, b in zip(plain, better, strict=True)]
    return _largest(pairs, axes)
