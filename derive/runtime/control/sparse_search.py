"""Searches for the first phase of a sparse problem: a barrier method for the shares that are zero,
Newton's method on the others; damped Newton for directions."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.control.coordinates import Flat
from derive.runtime.control.sparse_discrete import Data, rest_cost, slope_of


class Simplex(NamedTuple):
    """K simplices of size V in a row, and the stopping time behind them."""

    K: int
    V: int

    def sums(self) -> np.ndarray:
        A = np.zeros((self.K, self.K * self.V + 1))
        for k in range(self.K):
            A[k, k * self.V : (k + 1) * self.V] = 1
        return A


def _newton_step(H: np.ndarray, g: np.ndarray, A: np.ndarray) -> tuple[np.ndarray, float]:
    """A descent step with A step = 0, and the shift that made H convex there."""
    gram = A.T @ A * max(1.0, float(np.abs(np.diag(H)).mean()))
    shift, base = 0.0, 1e-8 * max(1.0, float(np.abs(np.diag(H)).mean()))
    for _ in range(40):
        try:
            np.linalg.cholesky(H + gram + shift * np.eye(len(g)))
            break
        except np.linalg.LinAlgError:
            shift = max(base, 5 * shift)
    rows = len(A)
    kkt = np.block([[H + shift * np.eye(len(g)), A.T], [A, np.zeros((rows, rows))]])
    return np.linalg.solve(kkt, np.concatenate([-g, np.zeros(rows)]))[: len(g)], shift


def barrier(functions: Any, data: Data, shape: Simplex) -> np.ndarray:
    plain, gradient, hessian, _ = functions
    T = float(data.T)
    A = shape.sums()
    x = np.concatenate([np.full(shape.K * shape.V, 1 / shape.V), [0.3 * T]])
    top = np.concatenate([np.full(len(x) - 1, np.inf), [T]])

    def value(x: np.ndarray, mu: float) -> float:
        if np.any(x <= 0) or x[-1] >= T:
            return np.inf
        return float(plain(x, data)) - mu * (np.log(x).sum() + np.log(T - x[-1]))

    mu = 0.1 * max(abs(float(plain(x, data))), 1e-3) / shape.K
    while mu > 1e-11:
        for _ in range(12):
            _, g = (np.asarray(a) for a in gradient(x, data))
            H = np.array(hessian(x, data))
            g = g - mu / x
            H[np.diag_indices(len(x))] += mu / x**2
            g[-1] += mu / (T - x[-1])
            H[-1, -1] += mu / (T - x[-1]) ** 2
            step, shift = _newton_step(H, g, A)
            fall = -float(g @ step)
            with np.errstate(divide="ignore", invalid="ignore"):
                room = np.min(np.where(step < 0, -x / step, np.inf))
                room = min(room, np.min(np.where(step > 0, (top - x) / step, np.inf)))
            share, before = min(1.0, 0.98 * room), value(x, mu)
            while share > 1e-8 and not value(x + share * step, mu) < before - 1e-4 * share * fall:
                share /= 2
            if share <= 1e-8:
                break
            x = x + share * step
            if fall < max(1e-2 * mu, 1e-13) and shift == 0:
                break
        mu *= 0.15
    return x


def polish(
    functions: Any, data: Data, shape: Simplex, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, bool, float]:
    """Newton with the zero shares held: unknowns, active (K, V), residual, whether determined, and
    the least second derivative in the shares that are free (relative to the largest)."""
    _, gradient, hessian, _ = functions
    active = np.concatenate([x[:-1] > 1e-3, [True]])
    x = np.where(active, x, 0.0)
    determined, residual = True, np.inf
    sums = shape.sums()
    x[:-1] = (x[:-1].reshape(shape.K, -1) / (sums[:, :-1] @ x[:-1])[:, None]).ravel()
    for _ in range(60):
        g, H = np.asarray(gradient(x, data)[1]), np.asarray(hessian(x, data))
        free = np.flatnonzero(active)
        A = sums[:, free]
        multiplier = A @ g[free] / A.sum(1)
        slack = g - sums.T @ multiplier
        kkt = np.block([[H[np.ix_(free, free)], A.T], [A, np.zeros((shape.K, shape.K))]])
        step = np.linalg.lstsq(kkt, np.concatenate([-g[free], np.zeros(shape.K)]), rcond=1e-11)
        move = step[0][: len(free)]
        determined = step[2] == len(kkt)
        residual = float(np.max(np.abs(slack[free])))
        with np.errstate(divide="ignore", invalid="ignore"):
            limit = np.where(move < 0, -x[free] / move, np.inf)
        limit[-1] = np.inf
        share = min(1.0, float(np.min(limit)))
        x = x.copy()
        x[free] += share * move
        if share < 1:  # a share has reached zero
            gone = free[int(np.argmin(limit))]
            active[gone], x[gone] = False, 0.0
            continue
        if np.max(np.abs(move)) < 1e-10:
            wrong = np.where(active, 0.0, slack)
            enter = int(np.argmin(wrong))
            if wrong[enter] > -1e-9:
                residual = max(residual, float(-wrong[enter]))
                break
            active[enter] = True
    free = np.flatnonzero(active)
    bend = _least_bend(np.asarray(hessian(x, data))[np.ix_(free, free)], sums[:, free])
    return x, active[:-1].reshape(shape.K, shape.V), residual, bool(determined), bend


def _least_bend(H: np.ndarray, A: np.ndarray) -> float:
    """The least eigenvalue of H along A d = 0, over the largest."""
    _, sizes, right = np.linalg.svd(A, full_matrices=True) if len(A) else (0, [], np.eye(len(H)))
    null = right[int(np.sum(np.asarray(sizes) > 1e-10)) :]
    values = np.linalg.eigvalsh(null @ (H + H.T) @ null.T / 2)
    return float(values[0] / max(np.abs(values).max(), 1e-300)) if len(values) else 0.0


def direction(
    functions: Any, data: Data, flat: Flat, K: int, guess: tuple[np.ndarray, float] | None
) -> tuple[np.ndarray, float, float]:
    """The l2 norm: damped Newton over directions and T*; as `polish`, all being free."""
    plain, gradient, hessian, _ = functions
    z0 = jnp.asarray(data.z0)
    slope = jax.grad(lambda z: rest_cost(flat, z, data.params))(z0)
    first = -np.asarray(slope_of(flat, z0, slope, data.params))
    until = 0.3 * float(data.T)
    if guess is not None:
        first, until = guess
    w = np.tile(first / np.linalg.norm(first), K)
    x = np.concatenate([w, [until]])
    nothing = np.zeros((0, len(x)))
    g = np.asarray(gradient(x, data)[1])
    for _ in range(200):
        step, _ = _newton_step(np.asarray(hessian(x, data)), g, nothing)
        before, share = float(plain(x, data)), 1.0
        while share > 1e-10 and not (
            0 < x[-1] + share * step[-1] < data.T
            and float(plain(x + share * step, data)) <= before + 1e-4 * share * float(g @ step)
        ):
            share /= 2
        if share <= 1e-10:
            break
        x = x + share * step
        g = np.asarray(gradient(x, data)[1])
        if np.max(np.abs(step)) < 1e-11:
            break
    return x, float(np.max(np.abs(g))), _least_bend(np.asarray(hessian(x, data)), nothing)


def shares_of(guess: tuple[np.ndarray, float], shape: Simplex) -> np.ndarray:
    """The unknowns of one control that acts alone, up to a time."""
    unit, until = guess
    parts = np.concatenate([np.maximum(unit, 0), np.maximum(-unit, 0)])
    return np.concatenate([np.tile(parts / parts.sum(), shape.K), [until]])
