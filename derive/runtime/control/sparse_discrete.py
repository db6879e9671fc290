"""The first phase of a sparse problem on K intervals: cost and derivatives in its unknowns.

The unknowns are the shares of the signed unit controls on each interval (l1 norm) or a direction
(l2 norm), and behind them the stopping time T*.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from derive.runtime.control.coordinates import Flat


def _control(flat: Flat, norm: str, w: Any, radius: Any) -> Any:
    """The control (m,) of one interval from its unknowns."""
    if norm == "l1":
        return radius * (w[: flat.m] - w[flat.m :])
    return radius * w / jnp.linalg.norm(w)


def rest_cost(flat: Flat, z: Any, params: Any) -> Any:
    """E(x): the running cost without control."""
    return flat.running(z, jnp.zeros(flat.m, z.dtype), params)


class Data(NamedTuple):
    z0: Any
    T: Any
    weight: Any
    radius: Any
    params: Any


def _trajectory(
    flat: Flat, norm: str, w: Any, tau: Any, kicks: Any, data: Data
) -> tuple[Any, Any, Any]:
    """States at the nodes (K + 1, n), the cost integral of E, and the controls (K, m)."""
    K = len(w)
    h = tau / K
    u = jax.vmap(lambda w: _control(flat, norm, w, data.radius))(w)

    def step(carry: tuple[Any, Any], now: tuple[Any, Any]) -> tuple[Any, Any]:
        z, total = carry
        v, kick = now
        z = z + kick

        def rate(z: Any) -> tuple[Any, Any]:
            return flat.rate(z, v, data.params), rest_cost(flat, z, data.params)

        k1, e1 = rate(z)
        k2, e2 = rate(z + h / 2 * k1)
        k3, e3 = rate(z + h / 2 * k2)
        k4, e4 = rate(z + h * k3)
        z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return (z, total + h / 6 * (e1 + 2 * e2 + 2 * e3 + e4)), z

    zero = jnp.zeros((), data.z0.dtype)
    (_, total), rest = jax.lax.scan(step, (data.z0, zero), (u, kicks[:-1]))
    first = data.z0 + kicks[0]
    return jnp.concatenate([first[None], rest.at[-1].add(kicks[-1])]), total, u


def _objective(flat: Flat, norm: str, K: int, unknown: Any, kicks: Any, data: Data) -> Any:
    w, tau = unknown[:-1].reshape(K, -1), unknown[-1]
    z, total, _ = _trajectory(flat, norm, w, tau, kicks, data)
    rest = (data.T - tau) * rest_cost(flat, z[-1], data.params)
    cost = total + data.weight * data.radius * tau + rest
    if norm == "l2":  # the length of w means nothing: it is held at one, at no cost
        cost = cost + jnp.sum((jnp.sum(w**2, 1) - 1) ** 2) / K
    return cost


@lru_cache(maxsize=32)
def functions_of(flat: Flat, norm: str, K: int) -> Any:
    def plain(unknown: Any, data: Data) -> Any:
        return _objective(flat, norm, K, unknown, jnp.zeros((K + 1, flat.n)), data)

    def describe(unknown: Any, data: Data) -> tuple[Any, ...]:
        w, tau = unknown[:-1].reshape(K, -1), unknown[-1]
        kicks = jnp.zeros((K + 1, flat.n))
        z, _, u = _trajectory(flat, norm, w, tau, kicks, data)
        p = jax.grad(lambda k: _objective(flat, norm, K, unknown, k, data))(kicks)
        slopes = jax.vmap(lambda z, p: slope_of(flat, z, p, data.params))(z, p)
        E = jax.vmap(lambda z: rest_cost(flat, z, data.params))(z)
        return z, p, u, slopes, E, plain(unknown, data)

    return (
        jax.jit(plain),
        jax.jit(jax.value_and_grad(plain)),
        jax.jit(jax.hessian(plain)),
        jax.jit(describe),
    )


def slope_of(flat: Flat, z: Any, p: Any, params: Any) -> Any:
    """F(x)^T p (m,): the derivative of p . f(x, u) in u."""
    zero = jnp.zeros(flat.m, z.dtype)
    return jax.grad(lambda v: p @ flat.rate(z, v, params))(zero)
