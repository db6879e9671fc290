"""The Hamiltonian matrix at a static optimum, its Riccati solution, and the verdict.

With A = f_x, B = f_u, S = H_ux, R = H_uu, At = A - B R^-1 S, Qt = H_xx - S^T R^-1 S and discount
rho, small differences from a static point obey y' = M y,
    M = [[At, -B R^-1 B^T], [-Qt, rho - At^T]].
On a sphere the second derivatives are those of H - sum_i (eta_i |x_i|^2 / 2 + zeta_i x_i . p_i)
with the multipliers of the constraints, restricted to the tangent space of |x_i| = 1,
x_i . p_i = 0, where the pairing of states and costates is again the dot product.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.control.coordinates import Flat
from derive.runtime.control.static_problem import StaticPoint


class Linearised(NamedTuple):
    """Matrices on tangent coordinates (k,); `basis` (2n, 2k) maps them to (dz, dq).

    `law` (m, 2k): dv / d(x, p) where bounds or norms of the control make it differ from
    -R^-1 (S, B^T), as at a control that sits on its bound; else None.
    """

    A: np.ndarray
    B: np.ndarray
    Q: np.ndarray
    S: np.ndarray
    R: np.ndarray
    rho: float
    basis: np.ndarray
    law: np.ndarray | None = None

    @property
    def reduced(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """At, B R^-1 B^T, Qt: the control eliminated."""
        if self.law is not None:
            k = len(self.A)
            G = -self.B @ self.law[:, k:]
            Q = self.Q + self.S.T @ self.law[:, :k]
            return self.A + self.B @ self.law[:, :k], (G + G.T) / 2, (Q + Q.T) / 2
        solved = np.linalg.solve(self.R, np.concatenate([self.S, self.B.T], 1))
        k = len(self.A)
        G = self.B @ solved[:, k:]
        Q = self.Q - self.S.T @ solved[:, :k]
        return self.A - self.B @ solved[:, :k], (G + G.T) / 2, (Q + Q.T) / 2

    @property
    def matrix(self) -> np.ndarray:
        At, G, Qt = self.reduced
        return np.block([[At, -G], [-Qt, self.rho * np.eye(len(At)) - At.T]])


@lru_cache(maxsize=32)
def _second_derivatives(flat: Flat) -> Any:
    """The blocks of the problem's own second derivatives, column by column."""
    spec = flat.spec

    def find(z: Any, q: Any, v: Any, params: Any) -> tuple[Any, ...]:
        x, p, u = flat.point(z), flat.costate(q), flat.control(v)
        in_x, in_u = jnp.eye(flat.n), jnp.eye(flat.m)

        def over(basis: Any, unpack: Any, block: Any, pack: Any) -> Any:
            return jax.vmap(lambda e: pack(block(unpack(e))))(basis).T

        pack_x, pack_u = flat.pack_x, flat.pack_u
        Hxx = over(in_x, flat.point, lambda d: spec.h_xx(x, p, u, params, d), pack_x)
        Hux = over(in_x, flat.point, lambda d: spec.h_ux(x, p, u, params, d), pack_u)
        Hxu = over(in_u, flat.control, lambda d: spec.h_xu(x, p, u, params, d), pack_x)
        Huu = over(in_u, flat.control, lambda d: spec.h_uu(x, p, u, params, d), pack_u)
        A = over(in_x, flat.point, lambda d: spec.h_px(x, u, params, d), pack_x)
        B = over(in_u, flat.control, lambda d: spec.h_pu(x, u, params, d), pack_x)
        rho = jnp.asarray(0.0 if spec.discount is None else spec.discount(params), z.dtype)
        H_x = rho * q - flat.costate_rate(z, q, v, params)
        end = jax.jacfwd(flat.terminal_rate)(z, params)
        gap = flat.terminal_rate(z, params) - q
        return Hxx, Hux, Hxu, Huu, A, B, rho, H_x, flat.rate(z, v, params), end, gap

    return jax.jit(find)


@lru_cache(maxsize=32)
def _law_slope(flat: Flat) -> Any:
    def find(z: Any, q: Any, v: Any, params: Any) -> Any:
        return jnp.concatenate(jax.jacfwd(flat.law, (0, 1))(z, q, v, params), 1)

    return jax.jit(find)


def law_slope(flat: Flat, z: Any, q: Any, v: Any, params: Any) -> np.ndarray:
    """dv / d(z, q) (m, 2n) of the minimiser of H."""
    return np.asarray(_law_slope(flat)(z, q, v, params))


def bends(flat: Flat, at: StaticPoint, params: Any) -> bool:
    """Whether the slope of the law jumps at a static point: a bound or dead zone just touched."""
    rng = np.random.default_rng(0)
    here = law_slope(flat, at.z, at.q, at.v, params)
    for _ in range(6):
        dz, dq = 1e-6 * rng.standard_normal((2, flat.n))
        there = law_slope(flat, at.z + dz, at.q + dq, at.v, params)
        if np.max(np.abs(there - here)) > 1e-3 * (1 + np.max(np.abs(here))):
            return True
    return False


class Ends(NamedTuple):
    """The end condition at a static point: gap phi_z - q and phi_zz, on tangent coordinates."""

    gap: np.ndarray
    curvature: np.ndarray


def linearise(
    flat: Flat, at: StaticPoint, params: Any, *, whole: bool = False
) -> tuple[Linearised, Ends]:
    """Second derivatives at a static point, on the tangent space.

    Constant controls stand still, unless `whole` asks for all directions.
    """
    found = _second_derivatives(flat)(at.z, at.q, at.v, params)
    Hxx, Hux, Hxu, Huu, A, B, rho, H_x, f, end, gap = (np.array(a) for a in found)
    worst = float(np.max(np.abs(Hxu.T - Hux), initial=0.0))
    if worst > 1e-8 * (1 + float(np.max(np.abs(Hux), initial=0.0))):
        raise ValueError(f"h_xu is not the transpose of h_ux: they differ by {worst:.3g}")
    T, turn = _tangent_space(flat, at)
    gradient = H_x - float(rho) * at.q
    for rows in flat.sphere:
        for i in range(rows.count):
            span = slice(rows.first + i * rows.size, rows.first + (i + 1) * rows.size)
            x = at.z[span]
            Hxx[span, span] -= np.eye(rows.size) * (x @ gradient[span])
            A[span, span] -= np.eye(rows.size) * (x @ f[span])
            end[span, span] -= np.eye(rows.size) * (x @ (gap + at.q)[span])
    if flat.free and not whole:
        T = T[:, ~np.any(T[np.array(flat.free)] != 0, axis=0)]
    n, k = T.shape
    basis = np.block([[T, np.zeros((n, k))], [turn @ T, T]])
    full = np.block([[Hxx, A.T], [A, np.zeros((n, n))]])
    second = basis.T @ full @ basis
    mixed = np.concatenate([Hux, B.T], 1) @ basis
    lin = Linearised(
        second[k:, :k],
        mixed[:, k:].T,
        (second[:k, :k] + second[:k, :k].T) / 2,
        mixed[:, :k],
        (Huu + Huu.T) / 2,
        float(rho),
        basis,
        law_slope(flat, at.z, at.q, at.v, params) @ basis if flat.bent else None,
    )
    return lin, Ends(T.T @ gap, T.T @ end @ T)


def _tangent_space(flat: Flat, at: StaticPoint) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal tangent basis (n, k), and the map dz -> radial part of dq (n, n)."""
    n = flat.n
    turn = np.zeros((n, n))
    normals = []
    for rows in flat.sphere:
        for i in range(rows.count):
            span = slice(rows.first + i * rows.size, rows.first + (i + 1) * rows.size)
            normal = np.zeros(n)
            normal[span] = at.z[span]
            normals.append(normal)
            turn[span, span] = -np.outer(at.z[span], at.q[span])
    if not normals:
        return np.eye(n), turn
    q, _ = np.linalg.qr(np.array(normals).T, mode="complete")
    return q[:, len(normals) :], turn


def stabilising(M: np.ndarray, rho: float) -> np.ndarray | None:
    """E with [I; E] spanning the stable subspace of M - rho / 2, by the matrix sign function."""
    k = len(M) // 2
    Z = M - rho / 2 * np.eye(2 * k)
    for _ in range(60):
        try:
            inverse = np.linalg.inv(Z)
        except np.linalg.LinAlgError:
            return None
        scale = np.sqrt(np.linalg.norm(inverse) / np.linalg.norm(Z))
        new = (scale * Z + inverse / scale) / 2
        if not np.all(np.isfinite(new)):
            return None
        done = np.linalg.norm(new - Z) < 1e-14 * np.linalg.norm(new)
        Z = new
        if done:
            break
    left, sizes, _ = np.linalg.svd(np.eye(2 * k) - Z)
    if np.sum(sizes > 1) != k:
        return None
    X = left[:, :k]
    if np.linalg.svd(X[:k], compute_uv=False)[-1] < 1e-9:
        return None
    E = np.linalg.solve(X[:k].T, X[k:].T).T
    return (E + E.T) / 2


def hautus(A: np.ndarray, C: np.ndarray, rho: float, small: float) -> list[complex]:
    """Eigenvalues of A with Re >= rho / 2 that C cannot see: [A - s; C] loses rank there."""
    out = []
    for s in np.linalg.eigvals(A):
        if s.real < rho / 2 - small:
            continue
        stack = np.concatenate([A - s * np.eye(len(A)), C.astype(complex)])
        if np.linalg.svd(stack, compute_uv=False)[-1] < small:
            out.append(complex(s))
    return out


def unseen(A: np.ndarray, C: np.ndarray, rho: float, small: float) -> np.ndarray:
    """Basis (k, r) of the unstable directions of A that C never sees."""
    k = len(A)
    blocks, power = [C], C
    for _ in range(k - 1):
        power = power @ A
        power = power / max(np.linalg.norm(power), 1e-300)
        blocks.append(power)
    _, sizes, right = np.linalg.svd(np.concatenate(blocks))
    sizes = np.concatenate([sizes, np.zeros(k - len(sizes))])
    null = right[sizes < small].T
    if not null.shape[1]:
        return null
    values, vectors = np.linalg.eig(null.T @ A @ null)
    bad = vectors[:, values.real >= rho / 2 - small]
    left, sizes, _ = np.linalg.svd(np.concatenate([bad.real, bad.imag], 1), full_matrices=False)
    return null @ left[:, sizes > 1e-9]


class Verdict(NamedTuple):
    verdict: str
    reasons: tuple[str, ...]
    rates: np.ndarray
    rate: float
    spectrum: np.ndarray
    riccati: np.ndarray | None


def judge(lin: Linearised, ends: Ends, *, fixed_end: bool, blind: bool) -> Verdict:
    """What the linearisation says, with reasons; `blind`: the running cost ignores the state."""
    At, G, Qt = lin.reduced
    M, rho, k = lin.matrix, lin.rho, len(lin.A)
    scale = max(1.0, float(np.linalg.norm(M, 2)))
    small = 1e-6 * scale
    spectrum = np.linalg.eigvals(M)
    spectrum = spectrum[np.lexsort((spectrum.imag, spectrum.real))]
    rates = np.sort(-spectrum.real[spectrum.real < rho / 2 - small])
    uncontrolled = hautus(At.T, G, rho, small)
    hidden = hautus(At, Qt, rho, small)
    reasons = [f"discount {rho:g}: eigenvalues pair up around {rho / 2:g}"] if rho else []

    def said(verdict: str, rate: float = np.nan, E: np.ndarray | None = None) -> Verdict:
        return Verdict(verdict, tuple(reasons), rates, rate, spectrum, E)

    if blind:
        reasons.append(
            "the running cost does not depend on the state: no static optimum is preferred, the "
            "end alone is; controls spread evenly over the horizon"
        )
        return said("none")
    if uncontrolled:
        reasons.append("not stabilisable: no control acts on " + _modes(uncontrolled))
    if hidden:
        reasons.append("not detectable: the running cost does not see " + _modes(hidden))
    on_axis = spectrum[np.abs(spectrum.real - rho / 2) <= small]
    if len(on_axis) or np.linalg.svd(M, compute_uv=False)[-1] < 1e-9 * scale:
        reasons.insert(0, _on_the_axis(on_axis, rho, small))
        return said("not_hyperbolic")
    E = stabilising(M, rho)
    rate = float(min(rates[0], np.min(spectrum.real[spectrum.real > rho / 2]))) if k else np.nan
    gap = f"spectral gap: rate {rate:.9g}"
    if uncontrolled:
        reasons.append(gap + ", but a gap is not enough")
        return said("none", E=E)
    if hidden and not fixed_end:
        if _unpaid(At, Qt, rho, ends, small):
            reasons.append(gap + ", but a gap is not enough: the terminal cost ignores them too")
            return said("none", E=E)
        reasons.append("the terminal cost sees every mode that the running cost does not")
    if E is None:
        reasons.append(gap + ", but the stable subspace is no graph over the state")
        return said("undetermined", rate)
    if rates[0] <= 0:
        reasons.append("stable only relative to the discount: distances from the optimum grow")
        return said("none", E=E)
    reasons.append(gap)
    if not hidden:
        reasons.append("stabilisable and detectable (Hautus)")
    least = float(np.linalg.eigvalsh(Qt)[0])
    if least < -small:
        reasons.append(
            f"the reduced state cost is indefinite (eigenvalue {least:.4g}): the statement is local"
        )
    if not fixed_end and float(np.max(np.abs(ends.gap), initial=0.0)) < 1e-9 * scale:
        reasons.append("the end condition holds at the static optimum: no exit layer")
        return said("entry_only", rate, E)
    reasons.append("layers at both ends")
    return said("exponential", rate, E)


def _on_the_axis(on_axis: np.ndarray, rho: float, small: float) -> str:
    zeros = int(np.sum(np.abs(on_axis) <= small))
    text = f"the Hamiltonian matrix has {len(on_axis)} eigenvalues on the axis Re = {rho / 2:g}"
    return text + (f", {zeros} of them zero" if zeros else "")


def _unpaid(At: np.ndarray, Qt: np.ndarray, rho: float, ends: Ends, small: float) -> bool:
    """Whether the terminal cost ignores a mode that the running cost does not see."""
    lost = unseen(At, Qt, rho, 1e-7)
    paid = ends.curvature @ lost
    depth = np.linalg.svd(paid, compute_uv=False) if lost.shape[1] else np.zeros(1)
    return bool(depth[min(lost.shape[1], len(depth)) - 1] <= small)


def _modes(values: list[complex]) -> str:
    values = [complex(round(s.real, 9) + 0.0, round(s.imag, 9)) for s in values]
    texts = sorted({shown(s) for s in values})
    return ("the mode" if len(texts) == 1 else "the modes") + " at eigenvalue " + ", ".join(texts)


def shown(s: complex) -> str:
    return f"{s.real:.4g}{s.imag:+.4g}i" if abs(s.imag) > 1e-9 else f"{s.real:.4g}"


def is_minimum(lin: Linearised) -> bool:
    """Second-order condition of the static problem: H is convex along A dx + B du = 0."""
    k = len(lin.A)
    if lin.law is not None:  # a control held by its bound does not move
        left, sizes, _ = np.linalg.svd(lin.law, full_matrices=False)
        moves = left[:, sizes > 1e-10 * max(1.0, sizes.max(initial=0.0))]
        lin = lin._replace(B=lin.B @ moves, S=moves.T @ lin.S, R=moves.T @ lin.R @ moves, law=None)
    _, sizes, right = np.linalg.svd(np.concatenate([lin.A, lin.B], 1))
    full = np.zeros(len(right))
    full[: len(sizes)] = sizes
    null = right[full <= 1e-10 * max(1.0, sizes.max(initial=0.0))].T
    H = np.block([[lin.Q, lin.S.T], [lin.S, lin.R]])
    assert len(H) == len(right) == k + lin.B.shape[1]
    if not null.shape[1]:
        return True
    return bool(np.linalg.eigvalsh(null.T @ H @ null)[0] > -1e-9 * max(1.0, np.abs(H).max()))
