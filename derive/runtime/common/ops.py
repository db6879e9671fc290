"""Array words of generated kernels, on two representations.

A kernel is written once, with operators, methods and the words below.  It runs on JAX arrays of
shape (..., m, m), and on `Tiles`: m x m matrices whose entries are arrays over paths, so that
small matrices become straight-line code that vectorises over paths.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

pi = math.pi


class Tiles:
    """A small array of arrays: `entries` is a NumPy object array, each entry over paths.

    Supports what generated kernels use: operators, `@`, `.mT`, `.sum`, and indexing by `...`,
    `:` and `None`.
    """

    __slots__ = ("entries",)

    def __init__(self, entries: np.ndarray) -> None:
        self.entries = entries

    @classmethod
    def of(cls, shape: tuple[int, ...], entry: Callable[..., Any]) -> Tiles:
        """Tiles of a shape, `entry(*index)` each."""
        out = np.empty(shape, dtype=object)
        for index in np.ndindex(*shape):
            out[index] = entry(*index)
        return cls(out)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entries.shape

    @property
    def dtype(self) -> np.dtype:
        return self.entries.dtype

    @property
    def mT(self) -> Tiles:
        return Tiles(self.entries.swapaxes(-1, -2))

    def __getitem__(self, index: Any) -> Tiles:
        return Tiles(_boxed(self.entries[index]))

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tiles:
        return Tiles(_boxed(self.entries.sum(axis=axis, keepdims=keepdims)))

    def __matmul__(self, other: Tiles) -> Tiles:
        left, right = self.entries, other.entries
        inner = range(left.shape[1])

        def entry(i: int, j: int) -> Any:
            return functools.reduce(_add, (_mul(left[i, k], right[k, j]) for k in inner))

        return staged(Tiles.of((left.shape[0], right.shape[1]), entry))

    def __pow__(self, power: int) -> Tiles:
        return Tiles.of(self.shape, lambda *i: self.entries[i] ** power)

    def __neg__(self) -> Tiles:
        return Tiles(_boxed(-self.entries))


def staged(tiles: Tiles) -> Tiles:
    """Keep the compiler from computing these entries again in every consumer.

    XLA on CPU fuses straight-line code into its consumers and repeats it there; a barrier stops
    that.  One a row: fewer and longer loops than one an entry.
    """
    entries = tiles.entries
    out = entries.copy()
    for i, row in enumerate(entries):
        places = [j for j, entry in enumerate(row) if not isinstance(entry, float)]
        if places:
            kept = jax.lax.optimization_barrier(jnp.stack([row[j] for j in places]))
            for k, j in enumerate(places):
                out[i, j] = kept[k]
    return Tiles(out)


def staged_entries(tiles: Tiles) -> Tiles:
    """The same with one barrier an entry, for entries that depend on each other."""
    entries = tiles.entries
    return Tiles.of(
        tiles.shape,
        lambda *i: (
            entries[i]
            if isinstance(entries[i], float)
            else jax.lax.optimization_barrier(entries[i])
        ),
    )


def _boxed(value: Any) -> np.ndarray:
    """NumPy unwraps object arrays of rank zero; wrap them again."""
    if isinstance(value, np.ndarray):
        return value
    box = np.empty((), dtype=object)
    box[()] = value
    return box


def _binary(name: str, op: Callable[[Any, Any], Any]) -> None:
    def forward(self: Tiles, other: Any) -> Tiles:
        return _zip(op, self.entries, other.entries if isinstance(other, Tiles) else other)

    def backward(self: Tiles, other: Any) -> Tiles:
        return _zip(lambda x, y: op(y, x), self.entries, other)

    setattr(Tiles, f"__{name}__", forward)
    setattr(Tiles, f"__r{name}__", backward)


def _zip(op: Callable[[Any, Any], Any], left: np.ndarray, right: Any) -> Tiles:
    if not isinstance(right, np.ndarray) or right.dtype != object:
        # one number, or one array over paths, for every entry
        return Tiles.of(left.shape, lambda *i: op(left[i], right))
    a, b = np.broadcast_arrays(left, right)
    return Tiles.of(a.shape, lambda *i: op(a[i], b[i]))


def _zero(x: Any) -> bool:
    return isinstance(x, float) and x == 0.0


def _add(x: Any, y: Any) -> Any:
    return y if _zero(x) else x if _zero(y) else x + y


def _mul(x: Any, y: Any) -> Any:
    """Product in which the number 0 (an entry known to be zero) costs nothing."""
    return 0.0 if _zero(x) or _zero(y) else x * y


for _name, _op in (
    ("add", _add),
    ("sub", operator.sub),
    ("mul", _mul),
    ("truediv", operator.truediv),
):
    _binary(_name, _op)


def _elementwise(
    rule: Callable[[Any], Any], plain: Callable[[float], float] | None = None
) -> Callable[[Any], Any]:
    def apply(x: Any) -> Any:
        if isinstance(x, Tiles):
            return Tiles.of(x.shape, lambda *i: rule(x.entries[i]))
        if plain is not None and isinstance(x, (int, float)):
            return plain(x)
        return rule(x)

    return apply


exp = _elementwise(jnp.exp, math.exp)
log = _elementwise(jnp.log, math.log)
sqrt = _elementwise(jnp.sqrt, math.sqrt)
tanh = _elementwise(jnp.tanh, math.tanh)
sin = _elementwise(jnp.sin, math.sin)
cos = _elementwise(jnp.cos, math.cos)
arctan = _elementwise(jnp.arctan, math.atan)
erf = _elementwise(jax.scipy.special.erf, math.erf)
sigmoid = _elementwise(jax.nn.sigmoid)
relu = _elementwise(jax.nn.relu)


gelu = _elementwise(lambda x: jax.nn.gelu(x, approximate=False))
silu = _elementwise(jax.nn.silu)
# rounding may carry a correlation past one
arcsin = _elementwise(lambda x: jnp.arcsin(jnp.clip(x, -1, 1)))


def gaussian_mean(function: Callable[[Any], Any]) -> Any:
    """E f(g) for one standard normal g, to rounding: panels with an edge at zero."""
    return jnp.sum(_MEAN_WEIGHTS * function(jnp.asarray(_MEAN_NODES)))


def _mean_rule() -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(64)
    panels = ((-14, -5), (-5, 0), (0, 5), (5, 14))
    nodes = np.concatenate([(a + b) / 2 + (b - a) / 2 * x for a, b in panels])
    weights = np.concatenate([(b - a) / 2 * w for a, b in panels])
    return nodes, weights * np.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)


_MEAN_NODES, _MEAN_WEIGHTS = _mean_rule()


def of_correlation(
    V: Any, degree: int, shape: Callable[[Any], Any], slope: Callable[[Any], Any]
) -> Any:
    """(V_aa V_bb)^(degree / 2) shape(correlation), (..., m, m); r = 0 for a token of size zero.

    `slope` is the derivative of `shape`, finite at r = 1, where that of its parts is not.  A token
    with itself has r = 1 whatever V is, which is said here so that its derivatives vanish.
    """
    root = sqrt(relu(diagonal(V)))
    size = root[..., :, None] * root[..., None, :]
    safe = _elementwise(lambda s: jnp.where(s > 0, s, 1))(size)

    # rounding may carry r past one, where it is one, with the slope there
    @jax.custom_jvp
    def value(r: Any) -> Any:
        return shape(jnp.clip(r, -1, 1))

    value.defjvp(lambda r, dr: (value(r[0]), slope(jnp.clip(r[0], -1, 1)) * dr[0]))

    def itself(s: Any) -> Any:
        return shape(jnp.where(s > 0, jnp.ones_like(s), 0))

    bent = _off_diagonal(value, itself, V / safe, size)
    return size * bent if degree == 1 else bent


def _off_diagonal(rule: Callable[[Any], Any], own: Callable[[Any], Any], x: Any, size: Any) -> Any:
    """rule(x) off the diagonal, own(size) on it, where `rule` is not differentiated."""
    if isinstance(x, Tiles):
        return Tiles.of(
            x.shape,
            lambda i, j: (
                own(jax.lax.stop_gradient(size.entries[i, j])) if i == j else rule(x.entries[i, j])
            ),
        )
    same = jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=bool), x.shape)
    fixed = own(jax.lax.stop_gradient(size))
    return jnp.where(same, fixed, rule(jnp.where(same, 0, x)))


def softmax(x: Any) -> Any:
    """Softmax along the last axis, stable for large arguments."""
    if not isinstance(x, Tiles):
        return jax.nn.softmax(x, axis=-1)
    rows = []
    for row in x.entries.reshape(-1, x.shape[-1]):
        top = functools.reduce(jnp.maximum, row)
        weights = [jnp.exp(e - top) for e in row]
        scale = 1 / functools.reduce(operator.add, weights)
        rows.append([w * scale for w in weights])
    return Tiles.of(
        x.shape, lambda *i: rows[int(np.ravel_multi_index(i[:-1], x.shape[:-1]))][i[-1]]
    )


def diagonal(x: Any) -> Any:
    """Diagonal of the last two axes."""
    if isinstance(x, Tiles):
        return Tiles(np.diagonal(x.entries, axis1=-2, axis2=-1).copy())
    return jnp.diagonal(x, axis1=-2, axis2=-1)


def matvec(M: Any, x: Any) -> Any:
    """M x: (..., k, m) times (..., m)."""
    if isinstance(M, Tiles):
        rows = [functools.reduce(_add, map(_mul, row, x.entries)) for row in M.entries]
        return Tiles.of((len(rows),), lambda i: rows[i])
    return jnp.matvec(M, x)


def permuted(x: Any, order: tuple[int, ...]) -> Any:
    """The last axes of an array in another order."""
    if isinstance(x, Tiles):
        return Tiles(x.entries.transpose(order))
    kept = x.ndim - len(order)
    return jnp.transpose(x, (*range(kept), *(kept + k for k in order)))


def rows_scaled(V: Any, rule: Callable[[Any], Any]) -> Any:
    """V_ab r(V_aa) r(V_bb): what scaling each row of X by a function of its size does to X X^T."""
    factor = rule(diagonal(V))
    return factor[..., :, None] * V * factor[..., None, :]


def eye(size: int, dtype: Any) -> Any:
    """Identity of a kernel's own representation (`dtype` of one of its arrays)."""
    if np.dtype(dtype).kind == "O":
        return Tiles.of((size, size), lambda i, j: 1.0 if i == j else 0.0)
    return jnp.eye(size, dtype=dtype)


def at(parameter: Any, t: Any) -> Any:
    """A parameter at time t: a number, a function of t, or a table (2, knots): times, values."""
    if callable(parameter):
        return parameter(t)
    if getattr(parameter, "ndim", 0) == 2:
        return jnp.interp(t, parameter[0], parameter[1])
    return parameter


def constant(value: Any, like: Any) -> Any:
    """A given matrix, of the kind and rank of one of the kernel's arrays."""
    if isinstance(like, Tiles):
        return Tiles.of(value.shape, lambda i, j: value[i, j])
    rank = (1,) * (like.ndim - 2)
    return jnp.asarray(value, dtype=like.dtype).reshape(*rank, *value.shape)


def identity(like: Any) -> Any:
    """The identity (m, m), of the kind and rank of one of the kernel's arrays (..., m, m)."""
    if isinstance(like, Tiles):
        return eye(like.shape[-1], like.dtype)
    rank = (1,) * (like.ndim - 2)
    return jnp.eye(like.shape[-1], dtype=like.dtype).reshape(*rank, *like.shape[-2:])


def concatenate(heads: Any) -> Any:
    """Heads (..., H, m, k) side by side (..., m, H k)."""
    moved = jnp.moveaxis(heads, -3, -2)
    return moved.reshape(*moved.shape[:-2], -1)


def causal(size: int, like: Any) -> Any:
    """Row a is even over tokens 0, ..., a."""
    rows = np.tril(np.ones((size, size))) / np.arange(1, size + 1)[:, None]
    if isinstance(like, Tiles):
        return Tiles.of((size, size), lambda i, j: float(rows[i, j]))
    return constant(rows, like)


def full(shape: tuple[int, ...], value: Any, dtype: Any) -> Any:
    """Constant array of a kernel's own representation."""
    if np.dtype(dtype).kind == "O":
        return Tiles.of(shape, lambda *_: value)
    return jnp.full(shape, value, dtype=dtype)
