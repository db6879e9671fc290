"""States, costates and controls as flat vectors, and back.

A symmetric matrix becomes its orthonormal vech (off-diagonal entries times sqrt 2), so that the
Frobenius pairing of state and costate is the dot product of their vectors.  A state on the sphere
keeps its ambient entries; `Flat.sphere` says where its rows are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common import small_matrices
from derive.runtime.control.specification import ControlModel, Shapes
from derive.runtime.control.words import minimising_control

SMALL = 6  # entries of a state up to which programs run for milliseconds, however compiled
Vector = Any  # a NumPy or a JAX array of one axis


class Rows(NamedTuple):
    """Rows of norm one inside the state vector: `count` rows of length `size` from `first` on."""

    first: int
    count: int  # type: ignore[assignment]
    size: int


class Flat(NamedTuple):
    """A problem on vectors: state z (n,), costate q (n,), control v (m,); params stay as they are.

    `point`, `costate`, `control` unpack a vector; `pack_x`, `pack_u` pack.  `rate` (n,) is f,
    `costate_rate` (n,), `stationarity` (m,) is H_u, `law(z, q, v0, params)` (m,) the minimiser of
    H, found from v0 where the problem has no closed form; `free_law` is the zero of H_u, which
    knows neither bounds nor norms in the cost.
    """

    spec: ControlModel
    n: int
    m: int
    sphere: tuple[Rows, ...]
    point: Callable[[Vector], Any]
    costate: Callable[[Vector], Any]
    control: Callable[[Vector], Any]
    pack_x: Callable[[Any], Vector]
    pack_u: Callable[[Any], Vector]
    rate: Callable[..., Vector]
    costate_rate: Callable[..., Vector]
    stationarity: Callable[..., Vector]
    law: Callable[..., Vector]
    free_law: Callable[..., Vector]
    running: Callable[..., Any]
    hamiltonian: Callable[..., Any]
    terminal: Callable[..., Any]
    terminal_rate: Callable[..., Vector]
    free: tuple[bool, ...] = ()  # entries of z with a free first value; () where there is none

    @property
    def bent(self) -> bool:
        """Whether bounds or norms make the law of the control piecewise smooth."""
        return bool(self.spec.bounds or self.spec.sparse)


class _Piece(NamedTuple):
    name: str
    shape: tuple[int, ...]
    symmetric: bool

    @property
    def size(self) -> int:
        d = self.shape[0] if self.symmetric else 0
        return d * (d + 1) // 2 if self.symmetric else int(np.prod(self.shape, dtype=int))


def _unpack(vector: Vector, pieces: tuple[_Piece, ...], kind: Callable[..., Any]) -> Any:
    parts, at = [], 0
    for piece in pieces:
        part = vector[at : at + piece.size]
        at += piece.size
        if piece.symmetric:
            d = piece.shape[0]
            rows, columns = np.triu_indices(d)
            where = np.zeros((d, d), dtype=int)
            where[rows, columns] = where[columns, rows] = np.arange(piece.size)
            scale = np.where(np.eye(d, dtype=bool), 1.0, np.sqrt(0.5))
            parts.append(part[where] * scale)
        else:
            parts.append(part.reshape(piece.shape))
    return kind(*parts)


def _pack(tree: Any, pieces: tuple[_Piece, ...]) -> Vector:
    parts = []
    for piece, value in zip(pieces, tree, strict=True):
        value = jnp.asarray(value)
        if piece.symmetric:
            rows, columns = np.triu_indices(piece.shape[0])
            scale = np.where(rows == columns, 1.0, np.sqrt(2.0))
            parts.append((value[rows, columns] + value[columns, rows]) / 2 * scale)
        else:
            parts.append(jnp.broadcast_to(value, piece.shape).reshape(-1))
    return jnp.concatenate(parts) if parts else jnp.zeros(0)


def flatten(spec: ControlModel, sizes: Mapping[str, int]) -> Flat:
    """`spec` on vectors, for these sizes of its dimensions; one object per spec and sizes."""
    return _flatten(spec, tuple(sorted(sizes.items())))


@lru_cache(maxsize=64)
def _flatten(spec: ControlModel, bound: tuple[tuple[str, int], ...]) -> Flat:
    xs = _pieces(spec.state, spec.state_shapes, dict(bound), spec.symmetric)
    us = _pieces(spec.control, spec.control_shapes, dict(bound), ())

    point = partial(_unpack, pieces=xs, kind=spec.state)
    costate = partial(_unpack, pieces=xs, kind=spec.costate)
    control = partial(_unpack, pieces=us, kind=spec.control)

    def rate(z: Vector, v: Vector, params: Any) -> Vector:
        return _pack(spec.state_rate(point(z), control(v), params), xs)

    def costate_rate(z: Vector, q: Vector, v: Vector, params: Any) -> Vector:
        return _pack(spec.costate_rate(point(z), costate(q), control(v), params), xs)

    def stationarity(z: Vector, q: Vector, v: Vector, params: Any) -> Vector:
        return _pack(spec.stationarity(point(z), costate(q), control(v), params), us)

    def law(z: Vector, q: Vector, v0: Vector, params: Any) -> Vector:
        if spec.implicit:
            functions = (spec.hamiltonian, spec.stationarity, spec.h_uu)
            found = minimising_control(*functions, point(z), costate(q), params, control(v0))
            return _pack(found, us)
        if spec.control_law is not None:
            return _pack(spec.control_law(point(z), costate(q), params), us)
        return free_law(z, q, v0, params)

    def free_law(z: Vector, q: Vector, v0: Vector, params: Any) -> Vector:
        return _implicit_law(stationarity, z, q, v0, params)

    def terminal(z: Vector, params: Any) -> Any:
        return 0.0 * z[0] if spec.terminal_cost is None else spec.terminal_cost(point(z), params)

    def terminal_rate(z: Vector, params: Any) -> Vector:
        if spec.terminal_rate is None:
            return jnp.zeros_like(z)
        return _pack(spec.terminal_rate(point(z), params), xs)

    return Flat(
        spec,
        sum(piece.size for piece in xs),
        sum(piece.size for piece in us),
        _sphere_rows(spec, xs),
        point,
        costate,
        control,
        lambda x: _pack(x, xs),
        lambda u: _pack(u, us),
        rate,
        costate_rate,
        stationarity,
        law,
        free_law,
        lambda z, v, params: spec.running_cost(point(z), control(v), params),
        lambda z, q, v, params: spec.hamiltonian(point(z), costate(q), control(v), params),
        terminal,
        terminal_rate,
        tuple(piece.name in spec.constant for piece in xs for _ in range(piece.size))
        if spec.constant
        else (),
    )


def _pieces(
    kind: Any, shapes: Shapes, sizes: Mapping[str, int], symmetric: tuple[str, ...]
) -> tuple[_Piece, ...]:
    return tuple(
        _Piece(name, tuple(_size(s, sizes, name) for s in shapes[name]), name in symmetric)
        for name in kind._fields
    )


def _sphere_rows(spec: ControlModel, pieces: tuple[_Piece, ...]) -> tuple[Rows, ...]:
    rows, at = [], 0
    for piece in pieces:
        if piece.name in spec.sphere:
            width = piece.shape[-1]
            rows.append(Rows(at, piece.size // width, width))
        at += piece.size
    return tuple(rows)


def _size(symbol: str | int, sizes: Mapping[str, int], name: str) -> int:
    if isinstance(symbol, int):
        return symbol
    if symbol not in sizes:
        raise ValueError(
            f"the size {symbol} of {name} follows from none of the arrays given; "
            "pass x_guess (or x0) with that size"
        )
    return sizes[symbol]


def _implicit_law(
    stationarity: Callable[..., Vector], z: Vector, q: Vector, v0: Vector, params: Any
) -> Vector:
    """The zero of H_u by damped Newton from v0; its derivative is the implicit one."""
    fixed = jax.tree.map(jax.lax.stop_gradient, (z, q, v0, params))

    def residual(v: Vector) -> Vector:
        return stationarity(fixed[0], fixed[1], v, fixed[3])

    def more(state: tuple[Any, ...]) -> Any:
        _, size, count, moved = state
        return (count < 40) & (moved > 1e-14) & (size > 0)

    def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
        v, size, count, _ = state
        change = small_matrices.solve(jax.jacfwd(residual)(v), residual(v))
        shares = 0.5 ** jnp.arange(12)
        sizes = jax.vmap(lambda s: jnp.linalg.norm(residual(v - s * change)))(shares)
        best = jnp.argmin(jnp.where(jnp.isfinite(sizes), sizes, jnp.inf))
        new = v - shares[best] * change
        moved = jnp.max(jnp.abs(new - v)) / (1 + jnp.max(jnp.abs(v)))
        better = sizes[best] < size
        return (
            jnp.where(better, new, v),
            jnp.minimum(sizes[best], size),
            count + 1,
            jnp.where(better, moved, 0.0),
        )

    start = (fixed[2], jnp.linalg.norm(residual(fixed[2])), 0, jnp.ones((), z.dtype))
    v = jax.lax.stop_gradient(jax.lax.while_loop(more, step, start)[0])
    curvature = jax.lax.stop_gradient(jax.jacfwd(residual)(v))
    return v - small_matrices.solve(curvature, stationarity(z, q, v, params))


def bind_sizes(
    shapes: Mapping[str, tuple[str, ...]],
    arrays: Mapping[str, Any],
    sizes: dict[str, tuple[Any, ...]],
) -> None:
    """Read the size of each dimension off arrays; `sizes[dim]` = (size, name of an array).

    Raises ValueError where an array has the wrong number of axes or two arrays disagree.
    """
    for name, shape in shapes.items():
        if name not in arrays:
            continue
        found = np.shape(arrays[name])
        text = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
        if len(found) != len(shape):
            raise ValueError(f"{name} must have shape {text}, got {found}")
        for symbol, size in zip(shape, found, strict=True):
            if isinstance(symbol, int):
                known: tuple[Any, ...] = (symbol, "its definition")
            else:
                known = sizes.setdefault(symbol, (size, name))
            if known[0] != size:
                raise ValueError(
                    f"{name} must have shape {text} with {symbol} = {known[0]} (from {known[1]}), "
                    f"got {found}"
                )


def on_sphere(flat: Flat, z: Vector) -> Vector:
    """z with its sphere rows scaled to norm one."""
    for rows in flat.sphere:
        part = z[rows.first : rows.first + rows.count * rows.size].reshape(rows.count, rows.size)
        part = part / jnp.linalg.norm(part, axis=1, keepdims=True)
        z = z.at[rows.first : rows.first + part.size].set(part.reshape(-1))
    return z


def tangent(flat: Flat, z: Vector, w: Vector) -> Vector:
    """w without its parts along the sphere rows of z."""
    for rows in flat.sphere:
        span = slice(rows.first, rows.first + rows.count * rows.size)
        x = z[span].reshape(rows.count, rows.size)
        y = w[span].reshape(rows.count, rows.size)
        y = y - (x * y).sum(1, keepdims=True) * x / (x * x).sum(1, keepdims=True)
        w = w.at[span].set(y.reshape(-1))
    return w


def radial(flat: Flat, z: Vector, w: Vector) -> Vector:
    """Products x_i . w_i of all sphere rows, one after another."""
    parts = [jnp.zeros(0, z.dtype)]
    for rows in flat.sphere:
        span = slice(rows.first, rows.first + rows.count * rows.size)
        shape = (rows.count, rows.size)
        parts.append((z[span].reshape(shape) * w[span].reshape(shape)).sum(1))
    return jnp.concatenate(parts)
