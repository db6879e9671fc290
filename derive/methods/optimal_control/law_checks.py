"""The check of a control law: H at the law against H at other admissible controls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import sympy as sp

from derive.draws import generator
from derive.methods.optimal_control.instances import _SEED, Point, evaluate, graph_value, relative
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.scalars import number


def law_residual(result: OptimalControl, at: Point) -> float:
    """The worst over small and large costates: weak and strong pulls on the control."""
    loud = {leaf.data: 20 * at.arrays[leaf.data] for leaf in result.p}
    return max(_law_at(result, at), _law_at(result, replace(at, arrays={**at.arrays, **loud})))


def _law_at(result: OptimalControl, at: Point) -> float:
    """By how much H(law) exceeds the least H found; |H_u| where nothing bounds the control."""
    if result.law.expressions is None:
        return 0.0
    if not result.u:
        return 0.0
    best = dict(zip((u.data for u in result.u), evaluate(result, "control_law", at), strict=True))
    if any(np.shape(best[u.data]) != at.arrays[u.data].shape for u in result.u):
        return float("inf")
    if not result.bounds and not result.prices:
        return max(
            relative(a, np.zeros_like(a), 1 + float(np.abs(b).max(initial=0.0)))
            for a, b in zip(
                evaluate(result, "stationarity", at, best),
                evaluate(result, "stationarity", at),
                strict=True,
            )
        )
    lowest = graph_value(result, result.equations["hamiltonian"][0], at, best)
    if not np.isfinite(lowest) or _outside(result, best, at) > 1e-12:
        return float("inf")
    worst = 0.0
    rng = generator(_SEED, 7)
    for k in range(200):
        other = {
            u.data: best[u.data] + 10.0 ** (-(k % 4)) * rng.standard_normal(best[u.data].shape)
            if k % 2
            else at.arrays[u.data] * 10.0 ** (k % 3 - 1) * rng.choice([-1, 0, 1])
            for u in result.u
        }
        other = admissible(result, other, at)
        there = graph_value(result, result.equations["hamiltonian"][0], at, other)
        worst = max(worst, float(lowest - there) / (1 + abs(float(lowest))))
    return worst


def admissible(
    result: OptimalControl, u: dict[str, np.ndarray], at: Point
) -> dict[str, np.ndarray]:
    out = dict(u)
    for bound in result.bounds:
        names = [a.data for a in bound.arrays]
        low, high = (number(sp.sympify(b), at.numbers) for b in (bound.low, bound.high))
        if bound.kind == "box":
            for name in names:
                out[name] = np.clip(out[name], low, high)
            continue
        flat = np.concatenate([np.ravel(out[name]) for name in names])
        size = np.abs(flat).sum() if bound.kind == "l1" else np.linalg.norm(flat)
        if size > high:
            for name in names:
                out[name] = out[name] * high / size
    return out


def _outside(result: OptimalControl, u: dict[str, np.ndarray], at: Point) -> float:
    kept = admissible(result, u, at)
    return max(float(np.max(np.abs(kept[n] - u[n]), initial=0.0)) for n in u)
