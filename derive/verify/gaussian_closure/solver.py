"""Claims of a closure's module beyond its rates: what its solver integrates, and its verdict.

Input: a derivation and its module.  Output: rungs.  The solver is compared with Runge-Kutta steps
in NumPy of (m, S) itself, with rates by the independent evaluator where they have closed forms; the
verdict with second differences of the definition's text.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import numpy as np

from derive.methods.common.record import rounded
from derive.methods.gaussian_closure import checks, clouds, instances
from derive.methods.gaussian_closure.instances import ClosureInstance
from derive.methods.gaussian_closure.result import CLOSED, GaussianClosure, coupled, cov_rate
from derive.verify.common.rung import Rung
from derive.verify.gaussian_closure.gate import params_of

TIME, STEPS = 0.2, 16
SCALE = 0.25

Rates = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def solver(result: GaussianClosure, module: ModuleType) -> Rung:
    """L5: `solve`, every method, and `flow` against steps of the equations for (m, S) in NumPy."""

    one = instances.instance(result.model, 71, scale=2 * SCALE)
    p = params_of(module, one)
    mean0, cov0 = one.arrays["m"], one.arrays["S"]
    rates = _rates(result, module, one, p)
    coarse, fine = (_integrated(rates, mean0, cov0, n) for n in (STEPS // 2, STEPS))
    figures = {"error of the reference": _gap(coarse, fine, (mean0, cov0)) / 15}
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for method in ("explicit", "stiff"):
            out = module.solve(mean0, cov0, p, t1=TIME, rtol=1e-9, method=method)
            axis = -3 if result.model.positional else -2
            last = (np.take(out.mean, -1, axis), np.take(out.cov, -1, axis - 1))
            figures[method] = _gap(last, fine, (mean0, cov0))
        mean, cov = module.flow(mean0, cov0, p, t1=TIME, steps=2 * STEPS)
        figures["flow"] = _gap((np.asarray(mean[-1]), np.asarray(cov[-1])), fine, (mean0, cov0))
    limit = 1e-6 + 10 * figures["error of the reference"]
    return Rung(
        "L5 solver",
        f"`solve` and `flow` to t = {TIME} and {STEPS} Runge-Kutta steps of m' and S' in NumPy "
        "move the law alike",
        bool(max(figures[n] for n in ("explicit", "stiff", "flow")) < limit < 1e-3),
        {k: rounded(v) for k, v in figures.items()},
        f"relative errors of the movement above {limit:.0e}",
    )


def _rates(result: GaussianClosure, module: ModuleType, one: ClosureInstance, p: Any) -> Rates:
    if result.route == CLOSED:
        second = cov_rate(result)
        return lambda m, S: (
            instances.at(one, result.mean_rate, result.book, m=m, S=S),
            instances.at(one, second, result.book, m=m, S=S),
        )
    with jax.enable_x64(True):
        both = jax.jit(lambda m, S: (module.mean_rate(m, S, p), module.cov_rate(m, S, p)))

    def rates(m: np.ndarray, S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with jax.enable_x64(True):
            a, b = both(m, S)
        return np.asarray(a), np.asarray(b)

    return rates


def _integrated(
    rates: Rates, mean: np.ndarray, cov: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    h = TIME / steps
    m, S = mean, cov
    for _ in range(steps):
        k = [rates(m, S)]
        for share in (0.5, 0.5, 1.0):
            k.append(rates(m + share * h * k[-1][0], S + share * h * k[-1][1]))
        m, S = (
            y + h / 6 * (k[0][n] + 2 * k[1][n] + 2 * k[2][n] + k[3][n])
            for n, y in enumerate((m, S))
        )
    return m, S


def _gap(found: Any, wanted: Any, start: Any) -> float:
    """Largest distance of the movements, relative to the movement."""
    size = max(float(np.max(np.abs(w - s))) for w, s in zip(wanted, start, strict=True))
    gap = max(float(np.max(np.abs(f - w))) for f, w in zip(found, wanted, strict=True))
    return gap / max(size, 1e-12) if np.isfinite(gap) else float("inf")


def verdict(result: GaussianClosure, module: ModuleType) -> Rung:
    """L4: EXACT is true iff second differences of the text in x vanish, at several instances."""
    if coupled(result):  # its text needs the whole plan: the step "decide" checks it
        check = checks.second_difference(result)
        sizes = [check.residual if result.exact else 1e-6 / max(check.residual, 1e-300)]
    else:
        sizes = [_bend(result, seed) for seed in (81, 82, 83)]
    affine = max(sizes) < 1e-9
    return Rung(
        "L4 verdict",
        "EXACT says whether the velocity is affine in x: second differences of the text",
        bool(affine == bool(module.EXACT) and (affine or max(sizes) > 1e-8)),
        {"EXACT": bool(module.EXACT), "largest second difference": rounded(max(sizes))},
        "second differences of the velocity above 1e-9 of its size",
    )


def _bend(result: GaussianClosure, seed: int) -> float:
    model = result.model
    one = instances.instance(model, seed)
    keys = clouds.key_cloud(model, one.arrays, 48)
    x = one.arrays["x"]
    largest = 0.0
    for size in (0.5,) if result.exact else (0.5, 4.0, 16.0):
        step = size * np.cos(1.0 + np.arange(x.size)).reshape(x.shape)
        low, middle, high = (
            clouds.text_velocity(model, one, clouds.query_cloud(model, one, x + k * step), keys)
            for k in (-1, 0, 1)
        )
        scale = max(float(np.max(np.abs(low))), float(np.max(np.abs(high))), 1e-12)
        largest = max(largest, float(np.max(np.abs(low - 2 * middle + high))) / scale)
    return largest


__all__ = ["solver", "verdict"]
