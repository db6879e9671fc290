"""The boundary value problem of an extremal, and what one of its solutions costs and misses."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.control import between_nodes
from derive.runtime.control import boundary_value as bvp
from derive.runtime.control.coordinates import Flat, tangent


class Theta(NamedTuple):
    """What a boundary value problem depends on: parameters, first and last state, control guess.

    `ease`: the share of the control that ignores bounds and norms, in an eased problem.
    """

    params: Any
    z0: Any
    zT: Any
    v: Any
    ease: Any = None


OVER_PROBLEMS = Theta(None, 0, None, None)  # the axes of a batch of problems, for jax.vmap


@lru_cache(maxsize=64)
def problem(flat: Flat, eased: bool = False) -> bvp.Problem:
    """The first-order system of `flat`, the control eliminated; `eased`: only partly bounded."""
    n = flat.n

    @jax.jit  # traced once, however often the scheme calls it
    def field(y: Any, theta: Theta) -> Any:
        z, q = y[:n], y[n:]
        v = flat.law(z, q, theta.v, theta.params)
        if eased:
            v = v + theta.ease * (flat.free_law(z, q, theta.v, theta.params) - v)
        return jnp.concatenate(
            [flat.rate(z, v, theta.params), flat.costate_rate(z, q, v, theta.params)]
        )

    def end(y: Any, theta: Theta) -> Any:
        z, q = y[:n], y[n:]
        if not flat.spec.fixed_end:
            return q - flat.terminal_rate(z, theta.params)
        # On a sphere the radial part of z is conserved: there, x . p = 0 takes its place.
        gap = tangent(flat, theta.zT, z - theta.zT)
        if flat.free:
            gap = jnp.where(np.array(flat.free), q - flat.terminal_rate(z, theta.params), gap)
        return gap + q - tangent(flat, theta.zT, q) if flat.sphere else gap

    return bvp.Problem(field, lambda theta: theta.z0, end, n, flat.spec.fixed_end, flat.free)


def controls(flat: Flat, theta: Theta, y: Any) -> Any:
    """The minimiser of H at each of y (k, 2n): (k, m)."""
    n = flat.n
    return jax.vmap(lambda w: flat.law(w[:n], w[n:], theta.v, theta.params))(y)


def cost_of(flat: Flat, theta: Theta, nodes: Any, y: Any) -> Any:
    n, params = flat.n, theta.params
    rho = 0.0 if flat.spec.discount is None else flat.spec.discount(params)

    def running(t: Any, w: Any, theta: Theta) -> Any:
        v = flat.law(w[:n], w[n:], theta.v, theta.params)
        return jnp.exp(-rho * t) * flat.running(w[:n], v, theta.params)

    total = between_nodes.integral(running, problem(flat), y, nodes, theta)
    return total + jnp.exp(-rho * nodes[-1]) * flat.terminal(y[-1, :n], params)


def report(flat: Flat, theta: Theta, nodes: Any, y: Any) -> tuple[Any, Any, Any]:
    """The cost, (hamiltonian, stationarity, boundary) residuals, and the relative drift of H."""
    n, params, system = flat.n, theta.params, problem(flat)
    v = controls(flat, theta, y)
    H = jax.vmap(flat.hamiltonian, (0, 0, 0, None))(y[:, :n], y[:, n:], v, params)
    if flat.bent:
        slope = jax.vmap(lambda w, v: v - flat.law(w[:n], w[n:], theta.v, params))(y, v)
    else:
        slope = jax.vmap(flat.stationarity, (0, 0, 0, None))(y[:, :n], y[:, n:], v, params)
    first = y[0, :n] - theta.z0
    if flat.free:
        first = jnp.where(np.array(flat.free), y[0, n:], first)
    ends = jnp.concatenate([first, system.end(y[-1], theta)])
    if flat.spec.discount is not None:  # H - rho int p.x' dt is conserved in place of H
        H = H - _discounted(flat, theta, nodes, y)
    drift = jnp.max(jnp.abs(H - H[0]))
    # what an error of size one in 1 + |y| makes of H, since dH = z'.dq - q'.dz
    g = jnp.abs(jax.vmap(system.field, (0, None))(y, theta))
    size = jnp.max(jnp.sum(g[:, n:] * (1 + jnp.abs(y[:, :n])), 1))
    size = 1 + size + jnp.max(jnp.sum(g[:, :n] * (1 + jnp.abs(y[:, n:])), 1))
    slopes = jnp.max(jnp.abs(slope), initial=0.0)
    largest = (drift, slopes, jnp.max(jnp.abs(ends)))
    return cost_of(flat, theta, nodes, y), largest, drift / size


def _discounted(flat: Flat, theta: Theta, nodes: Any, y: Any) -> Any:
    """rho times the integral of p . x' up to each node (N + 1,)."""
    n, h = flat.n, jnp.diff(nodes)
    Y, g = bvp.stages(problem(flat), y, h, theta)
    assert flat.spec.discount is not None
    work = jnp.sum(Y[..., n:] * g[..., :n], -1)
    parts = h * jnp.tensordot(bvp.WEIGHTS, work, 1) * flat.spec.discount(theta.params)
    return jnp.concatenate([jnp.zeros(1, y.dtype), jnp.cumsum(parts)])
