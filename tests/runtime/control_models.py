"""Hand-written control problems: the runtime is tested against these, not against the derivation.

First and second derivatives come from JAX; the control law is written down where it is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from derive.runtime.optimal_control import ControlModel


def model(
    params: type,
    param_shapes: dict,
    state: type,
    control: type,
    state_shapes: dict,
    control_shapes: dict,
    rate: Callable,
    running: Callable,
    terminal: Callable | None = None,
    law: Callable | None = None,
    symmetric: tuple[str, ...] = (),
    discount: Callable | None = None,
    **more: Any,
) -> ControlModel:
    """A `ControlModel` from dynamics and costs alone."""
    costate = NamedTuple("Costate", [(n, Any) for n in state._fields])  # type: ignore[misc]

    def symmetrised(tree: Any) -> Any:
        parts = [
            (a + a.T) / 2 if n in symmetric else a
            for n, a in zip(state._fields, tree, strict=True)
        ]
        return state(*parts)

    def H(x, p, u, par):
        f = rate(x, u, par)
        return running(x, u, par) + sum(jnp.sum(a * b) for a, b in zip(p, f, strict=True))

    def H_x(x, p, u, par):
        return symmetrised(jax.grad(H)(x, p, u, par))

    def H_u(x, p, u, par):
        return jax.grad(H, 2)(x, p, u, par)

    def costate_rate(x, p, u, par):
        rho = 0.0 if discount is None else discount(par)
        return costate(*(rho * b - a for a, b in zip(H_x(x, p, u, par), p, strict=True)))

    def along(f, at, d):
        return jax.jvp(f, (at,), (d,))[1]

    return ControlModel(
        params=params,
        param_shapes=param_shapes,
        state=state,
        control=control,
        costate=costate,
        state_shapes=state_shapes,
        control_shapes=control_shapes,
        running_cost=running,
        hamiltonian=H,
        state_rate=rate,
        costate_rate=costate_rate,
        stationarity=H_u,
        terminal_cost=terminal,
        terminal_rate=None
        if terminal is None
        else lambda x, par: symmetrised(jax.grad(terminal)(x, par)),
        control_law=law,
        h_xx=lambda x, p, u, par, d: along(lambda s: H_x(s, p, u, par), x, d),
        h_xu=lambda x, p, u, par, d: along(lambda s: H_x(x, p, s, par), u, d),
        h_ux=lambda x, p, u, par, d: along(lambda s: H_u(s, p, u, par), x, d),
        h_uu=lambda x, p, u, par, d: along(lambda s: H_u(x, p, s, par), u, d),
        h_px=lambda x, u, par, d: along(lambda s: rate(s, u, par), x, d),
        h_pu=lambda x, u, par, d: along(lambda s: rate(x, s, par), u, d),
        symmetric=symmetric,
        discount=discount,
        **more,
    )


class X(NamedTuple):
    x: Any


class U(NamedTuple):
    u: Any


# linear dynamics, quadratic cost


class Linear(NamedTuple):
    G: Any
    B: Any
    goal: Any
    Q: Any
    R: Any
    F: Any
    end: Any


def linear(**more: Any) -> ControlModel:
    shapes = {
        "G": ("d", "d"), "B": ("d", "k"), "goal": ("d",), "Q": ("d", "d"), "R": ("k", "k"),
        "F": ("d", "d"), "end": ("d",),
    }  # fmt: skip
    return model(
        Linear, shapes, X, U, {"x": ("d",)}, {"u": ("k",)},
        lambda x, u, p: X(p.G @ x.x + p.B @ u.u),
        lambda x, u, p: ((x.x - p.goal) @ p.Q @ (x.x - p.goal) + u.u @ p.R @ u.u) / 2,
        terminal=lambda x, p: (x.x - p.end) @ p.F @ (x.x - p.end) / 2,
        law=lambda x, q, p: U(-jnp.linalg.solve(p.R, p.B.T @ q.x)),
        **more,
    )  # fmt: skip


# neural ODE, shared controls over N samples


class Net(NamedTuple):
    alpha: Any
    beta: Any
    goal: Any
    W_ref: Any


class WB(NamedTuple):
    W: Any
    b: Any


def neural(law: bool = True) -> ControlModel:
    """x_i' = W tanh x_i + b, cost alpha / 2N |x - goal|^2 + beta / 2 (|W - W_ref|^2 + |b|^2)."""

    def control_law(x, q, p):
        return WB(p.W_ref - q.x.T @ jnp.tanh(x.x) / p.beta, -q.x.sum(0) / p.beta)

    def running(x, u, p):
        track = p.alpha / (2 * x.x.shape[0]) * jnp.sum((x.x - p.goal) ** 2)
        return track + p.beta / 2 * (jnp.sum((u.W - p.W_ref) ** 2) + jnp.sum(u.b**2))

    return model(
        Net, {"alpha": (), "beta": (), "goal": ("N", "d"), "W_ref": ("d", "d")}, X, WB,
        {"x": ("N", "d")}, {"W": ("d", "d"), "b": ("d",)},
        lambda x, u, p: X(jnp.tanh(x.x) @ u.W.T + u.b),
        running,
        law=control_law if law else None,
    )  # fmt: skip
