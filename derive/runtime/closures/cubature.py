"""Mean rates of a velocity over a Gaussian law, by cubature, with an estimate of the error.

Velocities are averaged over the law of the linear forms of x through which they depend on it.  A
smooth one by its value and its gradient.  One with kinks, jumps or poles by its values alone
(Stein: E grad Gamma S = E Gamma (x - m)^T; a gradient at nodes misses what sits between them), with
nodes that are split at the singular place and crowd towards it geometrically, so that the error
falls exponentially whatever the mean and the covariance.  Imports jax and numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.closures.cubature_nodes import (
    FAR,
    SHIFTS,
    SPLIT,
    Nodes,
    lattice,
    smooth_nodes,
    split_nodes,
)
from derive.runtime.common import small_matrices
from derive.runtime.common.batched_words import contract
from derive.runtime.common.fineness import fineness, finer, largest
from derive.runtime.common.matrix_functions import factor, spectral

CHUNK = 512  # nodes at once
TINY = 1e-6  # of the size that a rate could have: less is zero
SAFE = 4.0  # the estimate is the distance to finer rules times this

Forms = tuple[Any, int, int]  # a parameter, its own axes, the one over tokens
Quadratics = Sequence[Callable[..., Any]]


class Frame(NamedTuple):
    """x = mean + G z has the law of N(mean, cov) in every form of `rows`; z standard normal."""

    G: jax.Array  # (..., d, r)
    rows: jax.Array | None  # (..., forms, d); None: all of x


def cubature_rates(
    velocity: Callable[..., Any],
    mean: jax.Array,
    cov: jax.Array,
    params: Any,
    through: Sequence[Forms] | None = None,
    singular: Quadratics | None = None,
) -> tuple[jax.Array, jax.Array]:
    """E velocity and R = E grad velocity over x ~ N(mean, cov) (each block its own law).

    `through`: the parameters through whose products with x alone the velocity depends on x.
    `singular`: None for a smooth velocity; else quadratics q(x, mean, cov, params) >= 0 in x, the
    velocity being singular nowhere but near their zeros (none given: somewhere).  Then R is right
    on the range of cov, which is all that R cov sees.

    To dimension 3 of the forms product rules; above it a lattice with random shifts (fixed seed).
    `cubature_error` says how far they can be trusted.  nan where no mean exists: at a pole whose
    order is the dimension or more.
    """
    first, second, _, _ = _by_shift(velocity, mean, cov, params, through, singular)
    return first.mean(axis=0), second.mean(axis=0)


def cubature_error(
    velocity: Callable[..., Any],
    mean: jax.Array,
    cov: jax.Array,
    params: Any,
    axes: Sequence[int],
    through: Sequence[Forms] | None = None,
    singular: Quadratics | None = None,
) -> jax.Array:
    """Relative error of `cubature_rates`, and of the covariance's rate, for each law.

    Four times the distance to finer rules, or three standard errors over the random shifts.
    `axes`: of each of the two rates, how many axes belong to one law.  A rate that vanishes, as by
    symmetry, is compared with a millionth of what the size of the velocity would make it."""
    axes = (*axes, axes[-1])
    spread = jnp.sqrt(jnp.diagonal(cov, axis1=-2, axis2=-1).max(axis=-1))[..., None]
    safe = jnp.where(spread > 0, spread, 1)[..., None]

    def rates() -> tuple[list[jax.Array], int]:
        first, second, size, r = _by_shift(velocity, mean, cov, params, through, singular)
        half = contract("ij,jk->ik", second, cov)
        size = TINY * size.mean(axis=0)[..., None]
        floors[:] = [size, size[..., None] / safe, size[..., None] * safe]
        return [first, second, half + half.mT], r

    floors: list[jax.Array] = []

    plain, r = rates()
    if r > max(SPLIT):
        wrong = [3 * p.std(axis=0, ddof=1) / math.sqrt(SHIFTS) for p in plain]
        pairs = [(e, p.mean(axis=0)) for e, p in zip(wrong, plain, strict=True)]
        return largest(_raised(pairs, floors), axes)
    found: Any = jnp.zeros(())
    for level in (2, 3) if singular is not None and r < 3 else (2,):
        with finer(level):
            better, _ = rates()
        pairs = [(SAFE * (p - b)[0], b[0]) for p, b in zip(plain, better, strict=True)]
        found = jnp.maximum(found, largest(_raised(pairs, floors), axes))
    return found


def _raised(pairs: list[tuple[Any, Any]], floors: list[Any]) -> list[tuple[Any, Any]]:
    return [(e, jnp.maximum(jnp.abs(v), f)) for (e, v), f in zip(pairs, floors, strict=True)]


def _by_shift(
    velocity: Callable[..., Any],
    mean: jax.Array,
    cov: jax.Array,
    params: Any,
    through: Sequence[Forms] | None,
    singular: Quadratics | None,
) -> tuple[jax.Array, jax.Array, jax.Array, int]:
    """Both rates and the velocity's size by shift, (shifts, ...); how many forms of x it sees."""
    lead = jnp.broadcast_shapes(mean.shape[:-1], cov.shape[:-2])
    d = mean.shape[-1]
    mean = jnp.broadcast_to(mean, (*lead, d))
    slopes = [_second_order(q, mean, cov, params) for q in singular or ()]
    frame = _frame(mean, cov, through, [H for _, H in slopes])
    r = frame.G.shape[-1]
    if singular is None:
        nodes = smooth_nodes(r, fineness(), mean.dtype)
    elif r > max(SPLIT):
        nodes = lattice(r, fineness(), mean.dtype)
    else:
        nodes = split_nodes(r, lead, _centres(frame, slopes, r), mean.dtype)
    found: Any = _sums(velocity, frame, nodes, mean, cov, params, singular is None)
    if singular and r <= max(SPLIT):
        places = _centres(frame, slopes, r)
        for n in range(places.shape[-2]):
            bad = _diverges(velocity, frame, places[..., n, :], mean, cov, params)
            found = tuple(
                jnp.where(bad.reshape(bad.shape + (1,) * (f.ndim - 1 - bad.ndim)), jnp.nan, f)
                for f in found
            )
    return (*found, r)


def _diverges(
    velocity: Callable[..., Any], frame: Frame, place: jax.Array, mean: Any, cov: Any, params: Any
) -> jax.Array:
    """Does the velocity grow like distance^-p, p the dimension or more, so that no mean exists?"""
    r = place.shape[-1]
    away = jnp.asarray(np.cos(1.0 + np.arange(r)), mean.dtype).reshape(
        (1,) * (place.ndim - 1) + (r,)
    )

    def size(distance: float) -> jax.Array:
        x = mean + contract("ij,j->i", frame.G, place + distance * away)
        return jnp.abs(velocity(x, mean, cov, params)).max(axis=-1)

    near, far = size(1e-6), size(1e-4)
    order = jnp.log(near / jnp.where(far > 0, far, 1)) / math.log(1e2)
    seen = jnp.diagonal(contract("ji,jk->ik", frame.G, frame.G), axis1=-2, axis2=-1)
    rank = jnp.sum(seen > 1e-12 * seen.max(axis=-1, keepdims=True), axis=-1)
    inside = jnp.all(jnp.abs(place) < FAR[r], axis=-1)
    return jax.lax.stop_gradient(inside & (order > 0.1) & (order > rank - 0.05))


def _second_order(
    q: Callable[..., Any], mean: jax.Array, cov: jax.Array, params: Any
) -> tuple[jax.Array, jax.Array]:
    """Gradient and Hessian in x, at the mean, of a quadratic of each law."""

    def slope(x: jax.Array) -> jax.Array:
        return jax.grad(lambda at: q(at, mean, cov, params).sum())(x)

    at, push = jax.linearize(slope, mean)
    d = mean.shape[-1]
    columns = [push(jnp.broadcast_to(np.eye(d, dtype=mean.dtype)[j], mean.shape)) for j in range(d)]
    return at, jnp.stack(columns, axis=-1)


def _frame(
    mean: jax.Array, cov: jax.Array, through: Sequence[Forms] | None, bends: list[jax.Array]
) -> Frame:
    """Directions of z along the principal axes of the singular place, as few as there are forms."""
    root = factor(cov)
    d = root.shape[-1]
    forms = []
    for array, axes, token in through or ():
        last = jnp.moveaxis(jnp.asarray(array), token - axes, -1)
        forms.append(last.reshape(*last.shape[: last.ndim - axes], -1, d))
    count = sum(f.shape[-2] for f in forms) if through is not None else d
    r = min(count, d)
    if r == d and not bends:
        return Frame(root, None)
    gram = jnp.eye(d, dtype=root.dtype).reshape((1,) * (root.ndim - 2) + (d, d))
    rows = None
    if r < d:
        shape = jnp.broadcast_shapes(*(f.shape[:-2] for f in forms), root.shape[:-2])
        rows = jnp.concatenate(
            [jnp.broadcast_to(f, (*shape, *f.shape[-2:])) for f in forms], axis=-2
        )
        gram = contract("ji,jk->ik", rows, rows)
    seen = contract("ij,jk,kl->il", root, gram, root)
    whole = 1e-8 * _scaled(seen)  # what is not singular still is seen
    for H in bends:
        whole = whole + _scaled(contract("ij,jk,kl->il", root, H, root))
    whole = jax.lax.stop_gradient(whole)
    turn = small_matrices.eigh((whole + whole.mT) / 2)[1][..., d - r :]
    if r < d:
        turn = _followed(turn, seen)
    return Frame(contract("ij,jk->ik", root, turn), rows)


def _scaled(matrix: jax.Array) -> jax.Array:
    size = jnp.trace(matrix, axis1=-2, axis2=-1)[..., None, None]
    return matrix / jnp.where(size > 0, size, 1)


def _followed(turn: jax.Array, seen: jax.Array) -> jax.Array:
    """`turn`, whose columns span the range of `seen`, as a function of it to the second order."""
    fixed = jax.lax.stop_gradient(seen)
    values, vectors = small_matrices.eigh((fixed + fixed.mT) / 2)
    good = values > 1e-13 * values[..., -1:]
    share = jnp.where(good, 1 / jnp.where(good, values, 1), 0)
    weights = contract("ij,j,kj,kl->il", vectors, share, vectors, turn)
    out = turn + contract("ij,jk->ik", seen - fixed, weights)
    for _ in range(2):  # orthonormal again: Newton and Schulz
        out = out * 1.5 - contract("ij,kj,kl->il", out, out, out) / 2
    return out


def _centres(frame: Frame, slopes: list[tuple[jax.Array, jax.Array]], r: int) -> jax.Array:
    """Where the velocity is singular, z (..., places, r): the minima of the quadratics."""
    if r > 1 and len(slopes) > 1:
        slopes = [(sum(g for g, _ in slopes), sum(H for _, H in slopes))]  # type: ignore[list-item]
    G = frame.G
    out = []
    for g, H in slopes:
        bend = contract("ji,jk,kl->il", G, H, G)
        size = jnp.trace(bend, axis1=-2, axis2=-1)[..., None, None]
        known = size > 0
        one = np.eye(r, dtype=G.dtype).reshape((1,) * (bend.ndim - 2) + (r, r))
        safe = jnp.where(known, bend / jnp.where(known, size, 1), one) + 1e-14 * one
        pull = contract("ji,j->i", G, g)[..., None]
        pull = jnp.where(known, pull / jnp.where(known, size, 1), 0)
        out.append(jnp.clip(-small_matrices.solve(safe, pull)[..., 0], -FAR[r], FAR[r]))
    if not out:
        return jnp.zeros((*G.shape[:-2], 0, r), G.dtype)
    return jnp.sort(jnp.stack(out, axis=-2), axis=-2)


def _sums(
    velocity: Callable[..., Any],
    frame: Frame,
    nodes: Nodes,
    mean: jax.Array,
    cov: jax.Array,
    params: Any,
    smooth: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Means over the nodes of each shift: of the velocity, its gradient, its largest entry."""
    d, r = frame.G.shape[-2:]
    kind, lead = mean.dtype, mean.shape[:-1]
    count = len(nodes.shift)
    size = min(CHUNK if not smooth else CHUNK // 4, count)
    rows = -(-count // size)
    order = np.minimum(np.arange(rows * size), count - 1)  # filled up with the last node
    chunks = lambda a: a[order].reshape(rows, size, *a.shape[1:])  # noqa: E731
    weight = nodes.weight.reshape(count, *(nodes.weight.shape[1:] or (1,) * len(lead)))
    z = nodes.z.reshape(count, *(nodes.z.shape[1:-1] or (1,) * len(lead)), r)
    label = np.eye(nodes.shifts)[nodes.shift][order] * (np.arange(len(order)) < count)[:, None]
    own: Any = jnp.asarray(label.reshape(rows, size, nodes.shifts), kind)

    @jax.checkpoint
    def add(carry: Any, given: Any) -> tuple[Any, None]:
        at, share, mine = given
        away = contract("ij,j->i", frame.G, at)
        x = jnp.broadcast_to(mean, jnp.broadcast_shapes(mean.shape, away.shape)) + away
        pick = share[:, None] * mine.reshape(size, nodes.shifts, *(1,) * len(lead))
        if smooth:
            value, push = jax.linearize(lambda q: velocity(q, mean, cov, params), x)
            columns = [
                push(jnp.broadcast_to(jnp.asarray(np.eye(d)[j], kind), x.shape)) for j in range(d)
            ]
            slope = jnp.stack(columns, axis=-1)
        else:
            value = velocity(x, mean, cov, params)
            slope = value[..., :, None] * jnp.broadcast_to(at, (*x.shape[:-1], r))[..., None, :]
        first = (pick[..., None] * value[:, None]).sum(axis=0)
        second = (pick[..., None, None] * slope[:, None]).sum(axis=0)
        third = (pick * jnp.abs(value).max(axis=-1)[:, None]).sum(axis=0)
        return (carry[0] + first, carry[1] + second, carry[2] + third), None

    start = (
        jnp.zeros((nodes.shifts, *lead, d), kind),
        jnp.zeros((nodes.shifts, *lead, d, d if smooth else r), kind),
        jnp.zeros((nodes.shifts, *lead), kind),
    )
    out, _ = jax.lax.scan(add, start, (chunks(z), chunks(weight), own))
    if smooth:
        return out
    if nodes.shifts > 1:  # what is linear in z, exactly
        mine = jnp.asarray(np.eye(nodes.shifts)[nodes.shift], kind) * nodes.weight[:, None]
        gram = jnp.einsum("ns,ni,nj->sij", mine, nodes.z, nodes.z)
        inverse = small_matrices.inverse(gram).reshape(nodes.shifts, *(1,) * len(lead), r, r)
        out = out[0], contract("ij,jk->ik", out[1], inverse), out[2]
    return out[0], _gradient(out[1], frame), out[2]


def _gradient(half: jax.Array, frame: Frame) -> jax.Array:
    """R from R G = `half`, on the range of cov."""
    seen = frame.G if frame.rows is None else contract("ij,jk->ik", frame.rows, frame.G)
    gram = contract("ji,jk->ik", seen, seen)
    out = contract("ij,jk,lk->il", half, _pseudo_inverse(gram), seen)
    return out if frame.rows is None else contract("ij,jk->ik", out, frame.rows)


def _pseudo_inverse(matrix: jax.Array) -> jax.Array:
    size = jnp.trace(matrix, axis1=-2, axis2=-1)[..., None, None]
    size = jax.lax.stop_gradient(jnp.where(size > 0, size, 1))
    floor = 8 * matrix.shape[-1] * float(jnp.finfo(matrix.dtype).eps)

    def inverse(values: jax.Array) -> jax.Array:
        good = values > floor
        return jnp.where(good, 1 / jnp.where(good, values, 1), 0)

    return spectral(matrix / size, inverse) / size
