"""Particle systems against their closures: errors by number of tokens, and two estimators.

Tokens are drawn from the initial law, moved by the generated `particles`, and their mean and
covariance compared with the generated `solve` at the end time.  causal_linear_closure is not here:
its first token sees itself alone, x' = <Qx, Kx> Vx, and may run off to infinity in finite time.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

D = 3
STRENGTH = 0.5  # top singular value of S^1/2 A S^1/2 at the start
T1, STEPS = 1.0, 3  # Runge-Kutta's error is below 1e-3 of the sampling error of 6400 tokens
MODELS = (
    "softmax_closure",
    "multihead_softmax_closure",
    "masked_softmax_closure",
    "l2_closure",
    "sigmoid_closure",
    "linear_closure",
    "sinkhorn_closure",
)
POSITIONAL = ("masked_softmax_closure",)


class Problem(NamedTuple):
    """One law N(mean, cov) under one attention; A = K^T Q (the sum over heads, where there are)."""

    module: ModuleType
    params: Any
    mean: np.ndarray
    cov: np.ndarray
    A: np.ndarray


def problem(model: str) -> Problem:
    """A fixed law and fixed parameters, d = 3, of strength `STRENGTH`."""
    rng = np.random.default_rng(7)
    G = rng.normal(size=(D, D)) / np.sqrt(D)
    mean, cov = 0.4 * rng.normal(size=D), G @ G.T + 0.2 * np.eye(D)
    heads = 2 if model.startswith("multihead") else 1
    Q, K = rng.normal(size=(2, heads, 2, D))
    V = 0.6 * np.linalg.qr(rng.normal(size=(D, D)))[0]
    A = np.einsum("hki,hkj->ij", K, Q)
    scale = np.sqrt(STRENGTH / strength(cov, A))
    Q, K, A = scale * Q, scale * K, scale**2 * A
    module = import_module(f"derive.generated.{model}")
    given: dict[str, Any] = {"Q": Q[0], "K": K[0], "V": V}
    if heads > 1:
        given = {"Q": Q, "K": K, "V": rng.normal(size=(2, 2, D)) / 2}
        given["W"] = rng.normal(size=(2, 2, D)) / 2
    if model == "sinkhorn_closure":
        given["eps"] = 1.0
    if model == "sigmoid_closure":
        given["bias"] = -0.5
    if model in POSITIONAL:
        given["theta"] = np.ones(1)
    return Problem(module, module.Params(**given), mean, cov, A)


def strength(cov: np.ndarray, A: np.ndarray) -> float:
    """Top singular value of S^1/2 A S^1/2; scores of softmax have this size."""
    values, vectors = np.linalg.eigh(cov)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return float(np.linalg.svd(root @ A @ root, compute_uv=False)[0])


def closed(task: Problem, model: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the closure at `T1`."""
    positional = model in POSITIONAL
    mean, cov = (task.mean[None], task.cov[None]) if positional else (task.mean, task.cov)
    out = task.module.solve(mean, cov, task.params, t1=T1)
    return (out.mean[-1, 0], out.cov[-1, 0]) if positional else (out.mean[-1], out.cov[-1])


def replicas(count: int, budget: int = 102_400) -> int:
    """How many systems: enough that the rms is known to some 15 %, cheap at few tokens."""
    return int(np.clip(budget // count, 8, 256))


def errors(model: str, count: int, systems: int, seed: int = 0) -> np.ndarray:
    """Relative errors of mean and covariance of `systems` systems of `count` tokens, (R, 2).

    float32: its rounding is far below the sampling error.
    """
    task = problem(model)
    mean, cov = closed(task, model)
    rng = np.random.default_rng((seed, count))
    root = np.linalg.cholesky(task.cov)
    x0 = task.mean + rng.standard_normal((systems, count, D)) @ root.T
    out = task.module.particles(x0, task.params, t1=T1, steps=STEPS, dtype="float32")
    x = out.x[:, -1].astype(float)
    found = x.mean(axis=1)
    gap = x - found[:, None]
    second = np.einsum("rni,rnj->rij", gap, gap) / (count - 1)
    return np.stack(
        [
            np.linalg.norm(found - mean, axis=1) / np.sqrt(np.trace(cov)),
            np.linalg.norm(second - cov, axis=(1, 2)) / np.linalg.norm(cov),
        ],
        axis=1,
    )


class Slope(NamedTuple):
    value: np.ndarray
    error: np.ndarray


def rms(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square over replicas, and the standard error of its logarithm: (R, k) to (k,)."""
    square = found**2
    mean = square.mean(axis=0)
    return np.sqrt(mean), square.std(axis=0, ddof=1) / (2 * mean * np.sqrt(len(found)))


def slope(table: dict[int, np.ndarray]) -> Slope:
    """Slope of log rms error against log N and its standard error; equal weights."""
    x = np.log(list(table))
    x = x - x.mean()
    logs, error = (np.stack(z) for z in zip(*map(_log_rms, table.values()), strict=True))
    weight = x / (x @ x)
    return Slope(weight @ logs, np.sqrt(weight**2 @ error**2))


def _log_rms(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size, error = rms(found)
    return np.log(size), error


# Estimators of one softmax step, weight exp(<Ax, y>) -------------------------------------------


def plain_rate(x: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Covariance rate C + C^T, C the covariance of velocity and token, among the tokens themselves.

    V = I; x (N, d).  Self-normalised weights: reliable while many keys share the weight.
    """
    velocity = np.empty_like(x)
    for block in np.array_split(np.arange(len(x)), max(1, len(x) // 512)):
        scores = x[block] @ A.T @ x.T
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        velocity[block] = weights @ x / weights.sum(axis=1, keepdims=True)
    return _symmetric(velocity, x)


def tilted_rate(
    x: np.ndarray, A: np.ndarray, rng: np.random.Generator, keys: int = 64, widen: float = 1.2
) -> np.ndarray:
    """The same with `keys` fresh keys for each query, drawn where the weight puts its mass.

    y ~ N(m + S A x, widen S) with m, S of the tokens, weighted by weight times density ratio.
    """
    m, S = x.mean(axis=0), np.cov(x.T)
    root, inverse = np.linalg.cholesky(S), np.linalg.inv(S)
    velocity = np.empty_like(x)
    for block in np.array_split(np.arange(len(x)), max(1, len(x) // 1024)):
        z = rng.standard_normal((len(block), keys, x.shape[1]))
        shift = m + x[block] @ A.T @ S
        y = shift[:, None] + np.sqrt(widen) * z @ root.T
        gap = y - m
        law = -0.5 * np.einsum("nki,ij,nkj->nk", gap, inverse, gap)
        scores = np.einsum("ni,nki->nk", x[block] @ A.T, y) + law + 0.5 * (z**2).sum(axis=-1)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        velocity[block] = np.einsum("nk,nki->ni", weights, y) / weights.sum(axis=1)[:, None]
    return _symmetric(velocity, x)


def effective_share(x: np.ndarray, A: np.ndarray) -> np.ndarray:
    """(sum w)^2 / (N sum w^2) of the softmax weights, by query (N,)."""
    out = np.empty(len(x))
    for block in np.array_split(np.arange(len(x)), max(1, len(x) // 512)):
        scores = x[block] @ A.T @ x.T
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[block] = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1) / len(x)
    return out


def _symmetric(velocity: np.ndarray, x: np.ndarray) -> np.ndarray:
    C = velocity.T @ (x - x.mean(axis=0)) / len(x)
    return C + C.T
