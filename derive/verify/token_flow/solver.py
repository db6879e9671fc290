"""L5 of token flows: what the solvers integrate, and what was derived of the way.

Input: a derivation and its module.  Output: rungs.  `solve` and `flow` are compared with
Runge-Kutta steps of the definition's text in NumPy; reduced systems with tokens.
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import jax
import numpy as np

from derive.methods.common.record import rounded
from derive.methods.token_flow import instances
from derive.methods.token_flow.instances import FlowInstance
from derive.methods.token_flow.result import Absent, TokenFlow
from derive.verify.common.rung import Rung
from derive.verify.token_flow.gate import params_of

TIME, STEPS = 0.4, 64


def solver(result: TokenFlow, module: ModuleType) -> Rung:
    """L5: `solve` and `flow` against steps of the text; the energy never falls."""
    one = instances.instance(result.model, 91, 6, 3, equal=True)
    p = params_of(module, one)
    coarse, fine = (by_text(one, TIME, n) for n in (STEPS // 2, STEPS))
    figures = {"error of the reference": _gap(coarse, fine, one.x) / 15}
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = module.solve(one.x, p, t1=TIME, saves=5, rtol=1e-10)
        figures["solve"] = _gap(found.x[-1], fine, one.x)
        way = np.asarray(module.flow(one.x, p, t1=TIME, steps=2 * STEPS))
        figures["flow"] = _gap(way[-1], fine, one.x)
    figures["stated error"] = float(found.error[-1])
    limit = 1e-6 + 10 * figures["error of the reference"]
    passed = max(figures["solve"], figures["flow"]) < limit < 1e-3
    if result.model.sphere:
        figures["off the sphere"] = float(np.max(np.abs(np.linalg.norm(found.x, axis=-1) - 1)))
        passed = passed and figures["off the sphere"] < 1e-14
    claim = "; tokens stay on the sphere" if result.model.sphere else ""
    if found.energy is not None and result.gradient.positive:
        claim += "; the energy never falls"
        falls = float(np.max(np.maximum(-np.diff(found.energy), 0)))
        figures["fall of the energy"] = falls / max(float(np.max(np.abs(found.energy))), 1e-300)
        passed = passed and figures["fall of the energy"] < 1e-9
    return Rung(
        "L5 solver",
        f"`solve` and `flow` to t = {TIME} and {STEPS} Runge-Kutta steps of the text in NumPy "
        f"move the tokens alike{claim}",
        bool(passed),
        {k: rounded(v) for k, v in figures.items()},
        f"relative errors of the movement above {limit:.0e}",
    )


def by_text(one: FlowInstance, time: float, steps: int) -> np.ndarray:
    """Tokens at the end, by the classical scheme on the text's velocity."""
    x, h = one.x, time / steps

    def rate(at: np.ndarray) -> np.ndarray:
        if one.model.sphere:
            at = at / np.linalg.norm(at, axis=1, keepdims=True)
        return instances.tangent(one, at)

    for _ in range(steps):
        k = [rate(x)]
        for share in (0.5, 0.5, 1.0):
            k.append(rate(x + share * h * k[-1]))
        x = x + h / 6 * (k[0] + 2 * k[1] + 2 * k[2] + k[3])
        if one.model.sphere:
            x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x


def _gap(found: Any, wanted: np.ndarray, start: np.ndarray) -> float:
    """Largest distance, relative to the movement."""
    size = float(np.max(np.abs(wanted - start)))
    gap = float(np.max(np.abs(np.asarray(found) - wanted)))
    return gap / max(size, 1e-12) if np.isfinite(gap) else float("inf")


def reduced(result: TokenFlow, module: ModuleType) -> Rung:
    """L5: tokens at equal angles, and clusters of tokens, stay with their reduced systems."""
    figures: dict[str, float] = {}
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        if not isinstance(result.equal_angles, Absent):
            figures["equal angles"] = _angles(result, module)
        if hasattr(module, "solve_clusters") and not result.model.positional:
            figures["clusters"] = _clusters(result, module)
    return Rung(
        "L5 reductions",
        "tokens of `solve` at equal angles and in clusters against the reduced rates",
        max(figures.values(), default=0.0) < 1e-6,
        {k: rounded(v) for k, v in figures.items()},
        "errors of cosines above 1e-6",
        unreached="" if figures else "nothing is reduced",
    )


def _angles(result: TokenFlow, module: ModuleType) -> float:
    """The reduced rates in Runge-Kutta steps against all pairs of `solve`'s tokens."""
    n, cosine, radius = 5, 0.1, 1.0 if result.model.sphere else 1.2
    one = instances.simplex(instances.instance(result.model, 92, d=n), n, cosine, radius)
    p = params_of(module, one)
    x = module.solve(one.x, p, t1=TIME, rtol=1e-10).x[-1]
    rate = jax.jit(lambda y: _reduced_rate(result, module, y, n, p))
    y, h = np.array([cosine, radius]), TIME / STEPS
    for _ in range(STEPS):
        k = [np.asarray(rate(y))]
        for share in (0.5, 0.5, 1.0):
            k.append(np.asarray(rate(y + share * h * k[-1])))
        y = y + h / 6 * (k[0] + 2 * k[1] + 2 * k[2] + k[3])
    wanted = y[1] ** 2 * ((1 - y[0]) * np.eye(n) + y[0])
    return float(np.max(np.abs(x @ x.T - wanted)) / y[1] ** 2)


def _reduced_rate(result: TokenFlow, module: ModuleType, y: Any, n: int, p: Any) -> Any:
    import jax.numpy as jnp

    if result.model.sphere:
        return jnp.stack([module.equal_angle_rate(y[0], n, p), 0.0 * y[1]])
    return jnp.stack(module.equal_angle_rate(y[0], y[1], n, p))


def _clusters(result: TokenFlow, module: ModuleType) -> float:
    """Tokens 1, 2, 3 at three places against three clusters with masses."""
    one = instances.instance(result.model, 93, 3, 3)
    counts = np.array([1, 2, 3])
    p = params_of(module, one)
    x0 = np.repeat(one.x, counts, axis=0)
    x = module.solve(x0, p, t1=TIME, rtol=1e-10).x[-1][[0, 1, 3]]
    masses = counts / counts.sum()
    found = module.solve_clusters(one.x @ one.x.T, masses, p, t1=TIME, saves=2, rtol=1e-9)
    return float(np.max(np.abs(found.gram[-1] - x @ x.T)))
