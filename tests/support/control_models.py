"""Hand-written control problems: the runtime is tested against these, not against the derivation.

First and second derivatives come from JAX; the control law is written down where it is known.  The
same arguments give the same object: the runtime traces and compiles anew for every other one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from derive.runtime.control.entry import ControlModel


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
            (a + a.T) / 2 if n in symmetric else a for n, a in zip(state._fields, tree, strict=True)
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


@cache
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


@cache
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


# sparse control


class Sparse(NamedTuple):
    goal: Any
    weight: Any
    M: Any


@cache
def sparse_scalar() -> ControlModel:
    """x' = u, E = |x - goal|^2 / 2, cost weight |u|_1, |u|_1 <= M."""
    return model(
        Sparse, {"goal": ("d",), "weight": (), "M": ()}, X, U, {"x": ("d",)}, {"u": ("d",)},
        lambda x, u, p: X(u.u),
        lambda x, u, p: jnp.sum((x.x - p.goal) ** 2) / 2 + p.weight * jnp.sum(jnp.abs(u.u)),
        sparse="l1",
        bounds={"u": ("l1", "M")},
    )  # fmt: skip


@cache
def sparse_relu(norm: str = "l1") -> ControlModel:
    """x' = W relu(x) + b, controls (W, b), the norm of all entries together at most M."""

    def size(u):
        if norm == "l1":
            return jnp.sum(jnp.abs(u.W)) + jnp.sum(jnp.abs(u.b))
        return jnp.sqrt(jnp.sum(u.W**2) + jnp.sum(u.b**2))

    return model(
        Sparse, {"goal": ("d",), "weight": (), "M": ()}, X, WB, {"x": ("d",)},
        {"W": ("d", "d"), "b": ("d",)},
        lambda x, u, p: X(u.W @ jnp.maximum(x.x, 0) + u.b),
        lambda x, u, p: jnp.sum((x.x - p.goal) ** 2) / 2 + p.weight * size(u),
        sparse="l1" if norm == "l1" else "l2norm",
        bounds={"W": (norm, "M"), "b": (norm, "M")},
    )  # fmt: skip


# softmax attention with the value matrix as control


class Attention(NamedTuple):
    alpha: Any
    beta: Any
    goal: Any
    V_ref: Any
    A: Any


class V(NamedTuple):
    V: Any


@cache
def attention(space: str = "sphere") -> ControlModel:
    """x_i' = V m_i, m_i the mean under softmax_j <A x_i, x_j>; tracking cost alpha / 2n.

    `space`: "flat"; "sphere" with x -> x / |x|, p -> |x| P_x p in H; "naive" with P_x = 1 - x x^T
    and nothing else, whose ambient second derivatives are wrong without multipliers.
    """

    def rate(x, u, p):
        size = jnp.linalg.norm(x.x, axis=1, keepdims=True)
        y = x.x / size if space == "sphere" else x.x
        m = jax.nn.softmax(y @ p.A.T @ y.T, axis=1) @ y
        f = m @ u.V.T
        if space != "flat":
            f = f - (y * f).sum(1, keepdims=True) * y
        return X(size * f if space == "sphere" else f)

    def running(x, u, p):
        y = x.x / jnp.linalg.norm(x.x, axis=1, keepdims=True) if space == "sphere" else x.x
        track = p.alpha / (2 * len(y)) * jnp.sum((y - p.goal) ** 2)
        return track + p.beta / 2 * jnp.sum((u.V - p.V_ref) ** 2)

    def law(x, q, p):
        def paired(v):
            return jnp.sum(q.x * rate(x, V(v), p).x)

        return V(p.V_ref - jax.grad(paired)(jnp.zeros_like(p.V_ref)) / p.beta)

    return model(
        Attention, {"alpha": (), "beta": (), "goal": ("n", "d"), "V_ref": ("d", "d"),
        "A": ("d", "d")}, X, V, {"x": ("n", "d")}, {"V": ("d", "d")}, rate, running, law=law,
        sphere=() if space == "flat" else ("x",),
    )  # fmt: skip


# Gaussian covariance, the value matrix or the attention matrix as control


class Gaussian(NamedTuple):
    alpha: Any
    beta: Any
    goal: Any
    ref: Any
    other: Any


class S(NamedTuple):
    S: Any


class A(NamedTuple):
    A: Any


class MS(NamedTuple):
    m: Any
    S: Any


@cache
def gaussian(control: str = "V") -> ControlModel:
    """S' = V S A S + (V S A S)^T, cost alpha / 2 |S - goal|^2 + beta / 2 |control - ref|^2.

    `other` is the matrix that is not controlled: A if `control` is "V", and V if it is "A".
    """
    kind = V if control == "V" else A

    def rate(x, u, p):
        one, two = (u[0], p.other) if control == "V" else (p.other, u[0])
        Y = one @ x.S @ two @ x.S
        return S(Y + Y.T)

    def running(x, u, p):
        return p.alpha / 2 * jnp.sum((x.S - p.goal) ** 2) + p.beta / 2 * jnp.sum(
            (u[0] - p.ref) ** 2
        )

    def law(x, q, p):
        if control == "V":
            return V(p.ref - 2 / p.beta * q.S @ x.S @ p.other.T @ x.S)
        return A(p.ref - 2 / p.beta * x.S @ p.other.T @ q.S @ x.S)

    square = ("d", "d")
    return model(
        Gaussian, {"alpha": (), "beta": (), "goal": square, "ref": square, "other": square},
        S, kind, {"S": square}, {control: square}, rate, running, law=law, symmetric=("S",),
    )  # fmt: skip


class MeanGaussian(NamedTuple):
    alpha: Any
    beta: Any
    m_goal: Any
    S_goal: Any
    A: Any


@cache
def mean_gaussian() -> ControlModel:
    """Mean and covariance together: m' = V (1 + S A) m, S' as in `gaussian`; control V."""

    def rate(x, u, p):
        Y = u.V @ x.S @ p.A @ x.S
        return MS(u.V @ (x.m + x.S @ p.A @ x.m), Y + Y.T)

    def running(x, u, p):
        track = jnp.sum((x.m - p.m_goal) ** 2) + jnp.sum((x.S - p.S_goal) ** 2)
        return p.alpha / 2 * track + p.beta / 2 * jnp.sum(u.V**2)

    square = ("d", "d")
    return model(
        MeanGaussian,
        {"alpha": (), "beta": (), "m_goal": ("d",), "S_goal": square, "A": square},
        MS, V, {"m": ("d",), "S": square}, {"V": square}, rate, running, symmetric=("S",),
    )  # fmt: skip


# a neural ODE steered by its bias alone


class Bias(NamedTuple):
    alpha: Any
    beta: Any
    goal: Any
    W: Any


@cache
def bias_only() -> ControlModel:
    """x' = W tanh x + u, cost alpha / 2 |x - goal|^2 + beta / 2 |u|^2."""
    return model(
        Bias, {"alpha": (), "beta": (), "goal": ("d",), "W": ("d", "d")}, X, U, {"x": ("d",)},
        {"u": ("d",)},
        lambda x, u, p: X(p.W @ jnp.tanh(x.x) + u.u),
        lambda x, u, p: (p.alpha * jnp.sum((x.x - p.goal) ** 2) + p.beta * jnp.sum(u.u**2)) / 2,
        law=lambda x, q, p: U(-q.x / p.beta),
    )  # fmt: skip


class Well(NamedTuple):
    beta: Any
    tilt: Any


@cache
def double_well() -> tuple[Any, ControlModel]:
    """x' = u in a tilted double well, the control priced."""

    def running(x, u, p):
        return jnp.sum((x.x**2 - 1) ** 2) / 4 + p.beta / 2 * jnp.sum(u.u**2) + p.tilt * x.x[0]

    return Well, model(
        Well, {"beta": (), "tilt": ()}, X, U, {"x": ("d",)}, {"u": ("d",)},
        lambda x, u, p: X(u.u), running, law=lambda x, q, p: U(-q.x / p.beta),
    )  # fmt: skip
