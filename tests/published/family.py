"""The published drifts and diffusions of the family, typed as functions of numbers."""

from __future__ import annotations

import numpy as np
import sympy as sp
from derivations import derivation

from derive.calculus.index.evaluate import evaluate
from derive.methods.covariance_sde.one_dimension import Scalar, scalars
from derive.methods.covariance_sde.result import CovarianceSDE

TOLERANCE = 1e-12


def derived(name: str) -> CovarianceSDE:
    return derivation(name)


def covariance(m: int, seed: int, unit: bool = False) -> np.ndarray:
    rng = np.random.default_rng([seed, m])
    root = rng.standard_normal((m, m + 2))
    if unit:
        root /= np.linalg.norm(root, axis=1, keepdims=True)
        return root @ root.T
    return root @ root.T / (m + 2)


def values(sde: CovarianceSDE, V: np.ndarray, **numbers: float) -> tuple[np.ndarray, np.ndarray]:
    """Drift and diffusion of a derivation at numbers."""
    known = {**numbers, "m": float(len(V))}
    symbols = {
        s.name: s for e in (sde.drift, sde.diffusion) for c, _ in e.terms for s in c.free_symbols
    }
    symbols |= {d.name: d for d in (*sde.model.dims, *sde.model.params)}
    table = {s: known[name] for name, s in symbols.items() if name in known}
    return evaluate(sde.drift, {"V": V}, table), evaluate(sde.diffusion, {"V": V}, table)


def linear_noise(V: np.ndarray) -> np.ndarray:
    return np.einsum("ac,bd->abcd", V, V) + np.einsum("ad,bc->abcd", V, V)


def attention_noise(V: np.ndarray, p: np.ndarray, tau_0: float) -> np.ndarray:
    """A with S_1^{an,ck} = p_an p_ck V^{ac} (centred V)^{nk}, rows centred by their own pattern."""
    centred = [np.diag(row) @ (np.eye(len(V)) - np.outer(np.ones(len(V)), row)) for row in p]
    inner = np.array([[V @ a @ V @ c.T @ V for c in centred] for a in centred])  # [a, c, b, d]
    block = np.einsum("ac,acbd->abcd", V, inner)
    block = block + block.transpose(1, 0, 2, 3)
    return (block + block.transpose(0, 1, 3, 2)) / tau_0**2


def attention_drift(V: np.ndarray, p: np.ndarray, gamma: float, tau_0: float) -> np.ndarray:
    """Row 1 of the table of variants; p = 1/m is Theorem 4.2 of arXiv 2306.17759."""
    m = len(V)
    v = np.diag(V)
    centred = [np.diag(row) @ (np.eye(m) - np.outer(np.ones(m), row)) for row in p]
    first = np.array([[np.trace(V @ a @ V @ b.T) for b in centred] for a in centred]) * V
    u = np.zeros((m, m))
    for a in range(m):
        mean = V @ p[a]
        second = p[a] * v[a] * (v - 2 * mean + 2 * p[a] @ mean - p[a] @ v)
        u[a] = V @ second
    return gamma**2 / tau_0**2 * (first + (u + u.T) / 2)


def nu(V: np.ndarray, c_plus: float, c_minus: float) -> np.ndarray:
    """nu(rho) sqrt(V_aa V_bb) of arXiv 2206.02768, with the sign that makes nu(-1) positive."""
    size = np.sqrt(np.outer(np.diag(V), np.diag(V)))
    rho = np.clip(V / size, -1, 1)
    shape = np.sqrt(1 - rho**2) - rho * np.arccos(rho)
    return (c_plus - c_minus) ** 2 / (2 * np.pi) * shape * size


def scalars_of(name: str) -> list[Scalar]:
    sde = derived(name)
    return scalars(sde.drift, sde.diffusion)


def at(expression: sp.Expr, numbers: dict[str, float]) -> float:
    return float(expression.subs({s: numbers[s.name] for s in expression.free_symbols}))


def agree(found: np.ndarray, typed: np.ndarray) -> None:
    assert np.max(np.abs(found - typed)) < TOLERANCE * max(np.max(np.abs(typed)), 1.0)
