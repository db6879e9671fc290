"""Array words of generated control kernels that other kernels do not need, and batching.

Functions of a control module are written for one state; `over_batches` lets them take arrays
with any leading axes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp

from derive.runtime.common import small_matrices

abs = jnp.abs
sign = jnp.sign
maximum = jnp.maximum
minimum = jnp.minimum
tril = jnp.tril
triu = jnp.triu


def heaviside(x: jax.Array) -> jax.Array:
    """1 where x > 0, else 0."""
    return (x > 0).astype(x.dtype)


def linear_solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """matrix^-1 right, for a matrix or a vector on the right."""
    return small_matrices.solve(matrix, right)


def inverse(matrix: jax.Array) -> jax.Array:
    """Inverse of a square matrix."""
    return small_matrices.inverse(matrix)


def inv_sqrt_det(matrix: jax.Array) -> jax.Array:
    """det^(-1/2) of a square matrix; nan where the determinant is not positive."""
    sign, size = small_matrices.slogdet(matrix)
    return jnp.where(sign > 0, jnp.exp(-size / 2), jnp.nan)


def l1_norm(*arrays: jax.Array) -> jax.Array:
    """The sum of absolute values of all entries together."""
    return functools.reduce(jnp.add, [jnp.sum(jnp.abs(a)) for a in arrays])


def linf_norm(*arrays: jax.Array) -> jax.Array:
    """The largest absolute value of all entries together."""
    return functools.reduce(jnp.maximum, [jnp.max(jnp.abs(a)) for a in arrays])


def l2_norm(*arrays: jax.Array) -> jax.Array:
    """The Euclidean norm of all entries together; its gradient at zero is zero."""
    total = sum(jnp.sum(a * a) for a in arrays)
    safe = jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, jnp.sqrt(safe), 0.0)


def l2_norm_of(*arrays: jax.Array) -> jax.Array:
    """The same, rounded off at a size far below any number in use.

    So that |q| times the direction of q, which is q, has the derivative of q at zero as well.
    """
    total = jnp.asarray(sum(jnp.sum(a * a) for a in arrays))
    return jnp.sqrt(total + 1e2 * jnp.finfo(total.dtype).tiny)


def l1_vertex(*arguments: Any) -> jax.Array:
    """The subgradient of `linf_norm` at the array number `position` (the last argument).

    Ties share: each of k largest entries gets 1 / k.
    """
    *arrays, position = arguments
    top = linf_norm(*arrays)
    ties = sum(jnp.sum(jnp.abs(a) == top) for a in arrays)
    own = arrays[position]
    return jnp.sign(own) * (jnp.abs(own) == top) / ties


def l2_direction(*arguments: Any) -> jax.Array:
    """The array number `position` over the Euclidean norm of all; zero where that is zero."""
    *arrays, position = arguments
    return arrays[position] / l2_norm_of(*arrays)


def solved_control(
    stationarity: Callable[..., Any],
    h_uu: Callable[..., Any],
    x: Any,
    p: Any,
    params: Any,
    start: Any,
    *,
    steps: int = 1,
) -> Any:
    """One step of Newton's method on H_u = 0: exact where H is quadratic in the control."""
    flat, whole = jax.flatten_util.ravel_pytree(start)

    def change(u: jax.Array, at: tuple[Any, Any, Any]) -> jax.Array:
        x, p, params = at

        def column(e: jax.Array) -> jax.Array:
            return _flat(h_uu(x, p, whole(u), params, whole(e)))

        matrix = jax.vmap(column, out_axes=1)(jnp.eye(u.size, dtype=u.dtype))
        slope = _flat(stationarity(x, p, whole(u), params))
        return small_matrices.solve(matrix, slope)

    return whole(flat - change(flat, (x, p, params)))


def minimising_control(
    hamiltonian: Callable[..., Any],
    stationarity: Callable[..., Any],
    h_uu: Callable[..., Any],
    x: Any,
    p: Any,
    params: Any,
    start: Any,
    *,
    steps: int = 80,
) -> Any:
    """The local minimum of H over the control that descent from `start` reaches.

    Newton's method on the absolute values of the eigenvalues of H_uu; every step lowers H.  Where H
    is not finite at `start`, as for a cost -log(u), it begins at another constant.  The derivative
    is that of one more, full Newton step: implicit.
    """
    first, whole = jax.flatten_util.ravel_pytree(start)
    fixed = jax.tree.map(jax.lax.stop_gradient, (x, p, params))
    first = jax.lax.stop_gradient(first)
    everything = _with_derivatives(hamiltonian, stationarity, h_uu, whole, *fixed)
    unit = jnp.eye(first.size, dtype=first.dtype)
    away = jnp.array([1.0, -1.0, 0.1, -0.1], first.dtype)

    def one(state: tuple[Any, ...]) -> tuple[Any, ...]:
        u, here, slope, bend, shift, trial, count, _ = state
        value, trial_slope, trial_bend = everything(trial)
        nearly = value <= here + 1e-13 * (1 + jnp.abs(here))
        better = (value < here) | (nearly & (jnp.linalg.norm(trial_slope) < jnp.linalg.norm(slope)))
        u, slope, bend = (
            jnp.where(better, a, b)
            for a, b in ((trial, u), (trial_slope, slope), (trial_bend, bend))
        )
        here = jnp.where(better, value, here)
        lower = jnp.where(shift > 1e-3, shift / 10, 0.0)
        shift = jnp.where(better, lower, jnp.maximum(10 * shift, 0.01))
        levels, axes = small_matrices.eigh((bend + bend.T) / 2)
        size = jnp.max(jnp.abs(levels)) + jnp.finfo(u.dtype).tiny
        below = jnp.maximum(jnp.abs(levels), 1e-8 * size) + shift * size
        step = axes @ ((axes.T @ slope) / below)  # downhill, whatever the signs of the levels
        nowhere = jnp.isinf(here)
        small = jnp.all(jnp.abs(step) <= 1e-9 * (1 + jnp.abs(u)))
        saddle = small & (levels[0] < -1e-8 * size)
        beside = away[count % 4]
        trial = jnp.where(saddle, u + beside * axes[:, 0], u - step)
        trial = jnp.where(nowhere, first + beside, trial)
        done = small & ~saddle & ~nowhere & ((shift == 0) | (shift > 1e8))
        return u, here, slope, bend, shift, trial, count + 1, ~done

    nil = jnp.zeros((), first.dtype)
    state = (first, nil + jnp.inf, 0 * first, unit, nil, first, jnp.zeros((), int), nil == 0)
    state = jax.lax.while_loop(lambda s: (s[6] < steps) & s[7], one, state)
    u, bend = (jax.lax.stop_gradient(a) for a in (state[0], state[3]))
    return whole(u - small_matrices.solve(bend, _flat(stationarity(x, p, whole(u), params))))


def _flat(tree: Any) -> jax.Array:
    return jax.flatten_util.ravel_pytree(tree)[0]


def _with_derivatives(
    hamiltonian: Callable[..., Any],
    stationarity: Callable[..., Any],
    h_uu: Callable[..., Any],
    whole: Callable[[jax.Array], Any],
    x: Any,
    p: Any,
    params: Any,
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
    """H, H_u and H_uu at once, in one place: compiling each copy of them takes seconds.

    Of a control as a vector, of which `whole` makes what the functions take; H is infinite where
    one of them is not finite.
    """

    def everything(u: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def column(e: jax.Array) -> jax.Array:
            return _flat(h_uu(x, p, whole(u), params, whole(e)))

        slope = _flat(stationarity(x, p, whole(u), params))
        bend = jax.vmap(column, out_axes=1)(jnp.eye(u.size, dtype=u.dtype))
        value = hamiltonian(x, p, whole(u), params)
        sound = jnp.isfinite(value) & jnp.all(jnp.isfinite(slope)) & jnp.all(jnp.isfinite(bend))
        return jnp.where(sound, value, jnp.inf), slope, bend

    return everything


def over_batches(**ranks: tuple[int, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function of tuples of arrays take common leading axes.

    `ranks`: for every argument, the ranks of its fields without batch axes.  The leading axes of
    all fields broadcast against each other.  `.single` is the function itself.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        names = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def batched(*args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(function).bind(*args, **kwargs)
            values = [_arrays(bound.arguments[name]) for name in names]
            return _spread(function, values, [ranks[name] for name in names])

        batched.single = function  # type: ignore[attr-defined]
        return batched

    return decorate


def _arrays(fields: Any) -> Any:
    made = [a if hasattr(a, "ndim") else jnp.asarray(a) for a in fields]
    return type(fields)(*made) if hasattr(fields, "_fields") else tuple(made)


def _spread(function: Callable[..., Any], values: list[Any], ranks: list[tuple[int, ...]]) -> Any:
    """Map over the first leading axis as long as there is one."""
    extra = [
        [a.ndim - rank for a, rank in zip(fields, own, strict=True)]
        for fields, own in zip(values, ranks, strict=True)
    ]
    lowest = min((e for row in extra for e in row), default=0)
    if lowest < 0:
        raise ValueError(
            "an array has fewer axes than its declaration: ranks "
            f"{[[a.ndim for a in fields] for fields in values]}, wanted at least {ranks}"
        )
    top = max((e for row in extra for e in row), default=0)
    if top == 0:
        return function(*values)
    # only the arrays with the most leading axes are mapped over: broadcasting aligns on the right
    sizes = {
        a.shape[0]
        for f, row in zip(values, extra, strict=True)
        for a, e in zip(f, row, strict=True)
        if e == top
    }
    if len(sizes - {1}) > 1:
        raise ValueError(f"leading axes do not broadcast: {sorted(sizes)}")
    size = max(sizes)

    def axis(a: Any, e: int) -> int | None:
        return 0 if e == top and (a.shape[0] == size) else None

    axes, inner = [], []
    for fields, row in zip(values, extra, strict=True):
        kind = type(fields)
        mapped = [axis(a, e) for a, e in zip(fields, row, strict=True)]
        kept = [
            a[0] if e == top and m is None else a
            for a, e, m in zip(fields, row, mapped, strict=True)
        ]
        named = hasattr(fields, "_fields")
        axes.append(kind(*mapped) if named else tuple(mapped))
        inner.append(kind(*kept) if named else tuple(kept))
    return jax.vmap(lambda *args: _spread(function, list(args), ranks), in_axes=tuple(axes))(*inner)
