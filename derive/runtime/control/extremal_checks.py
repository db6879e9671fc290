"""What an extremal must pass before it is returned, by other routes than the solver's.

The equations integrated once more along it, the constancy of H, the second variation; and cheap
controls to compare its cost with.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.compiling import brief
from derive.runtime.control import between_nodes, second_variation, trials
from derive.runtime.control import boundary_value as bvp
from derive.runtime.control.coordinates import SMALL, Flat
from derive.runtime.control.extremal_system import OVER_PROBLEMS
from derive.runtime.control.inputs import number_of

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(3)
_PANELS = 8
# shares of an interval and weights of a composite Gauss rule: none of the solver's points
SHARES = ((np.arange(_PANELS)[:, None] + (1 + _POINTS) / 2) / _PANELS).ravel()
WEIGHTS = np.tile(_WEIGHTS / 2 / _PANELS, _PANELS)
SLACK = 100  # times the tolerance: what an answer within its tolerance may miss


@lru_cache(maxsize=64)
def _missed(problem: bvp.Problem, N: int) -> Any:
    """Per problem: the largest |y_b - y_a - int g(y) dt| / (1 + |y|) of an interval, per unit of
    time on long ones, and where it is."""

    def run(theta: Any, nodes: Any, y: Any) -> tuple[Any, Any]:
        h = jnp.diff(nodes)
        g = between_nodes.improved_rates(problem, y, h, theta, rounds=4)
        value = np.stack([np.polyval(c, SHARES) for c in between_nodes.INTEGRALS])  # (5, points)
        Y = y[:-1] + h[:, None] * jnp.tensordot(value.T, g, 1)
        rates = jax.vmap(jax.vmap(problem.field, (0, None)), (0, None))(Y, theta)
        off = y[1:] - y[:-1] - h[:, None] * jnp.tensordot(WEIGHTS, rates, 1)
        each = jnp.max(jnp.abs(off) / (1 + jnp.abs(y[1:])), 1)
        each = each / jnp.maximum(h, 1.0)
        return jnp.max(each), nodes[jnp.argmax(each)]

    return brief(jax.vmap(run, (OVER_PROBLEMS, 0, 0)), problem.n <= SMALL)


def check(
    flat: Flat,
    problem: bvp.Problem,
    theta: Any,
    nodes: np.ndarray,
    y: Any,
    drift: Any,
    tolerance: float,
) -> tuple[str, ...]:
    """Notes on extremals y (batch, N + 1, 2n).

    Raises ValueError where one misses its equations, where H is not constant, or where it is no
    minimum to second order.
    """
    N = nodes.shape[1] - 1
    missed, when = (np.asarray(a) for a in _missed(problem, N)(theta, nodes, y))
    k = int(np.argmax(np.where(np.isfinite(missed), missed, np.inf)))
    if not missed[k] <= SLACK * max(tolerance, 1e-10):
        raise ValueError(
            f"the solution{_which(k, y)} misses its equations by {missed[k]:.3g} near t = "
            f"{when[k]:.4g}, integrated by another rule: a kink of the dynamics or of a cost in "
            "the state is met there; make it smooth, sqrt(x**2 + eps) for |x| say"
        )
    k = int(np.argmax(np.where(np.isfinite(drift), drift, np.inf)))
    if not drift[k] <= SLACK * max(tolerance, 1e-10):
        raise ValueError(
            f"the Hamiltonian{_which(k, y)} drifts by {drift[k]:.3g} (relative) where it is "
            "conserved: the solution is not accurate, or costs and dynamics are not smooth along "
            "it; ask for a smaller tolerance, or look for kinks"
        )
    second = second_variation.tested(flat, problem, N)(theta, nodes, y)
    negative, constants, grazed = (np.asarray(a) for a in second)
    notes = []
    for k in range(len(negative)):
        if grazed[k]:
            notes.append(
                f"second-order condition not tested{_which(k, y)}: a kink in the state is met "
                "without crossing it"
            )
        elif negative[k] >= 0:
            raise ValueError(
                f"the extremal found{_which(k, y)} is no minimum: a change of the control on "
                f"[{negative[k]:.4g}, {nodes[k, -1]:.4g}] lowers the cost to second order (T is "
                "beyond a conjugate point); there may be a better extremal (pass near=turnpike(...)"
                " with x_guess), or the cost may be unbounded below: try a shorter T"
            )
        elif constants[k] < -1e-7:
            raise ValueError(
                f"the extremal found{_which(k, y)} is no minimum in the controls that are constant "
                f"in time: {', '.join(flat.spec.constant)}; try another first guess in x0"
            )
    return tuple(notes)


def _which(k: int, y: Any) -> str:
    return "" if len(y) == 1 else f" from x0[{k}]"


def compared(
    flat: Flat, z0: np.ndarray, zT: Any, cost: np.ndarray, controls: dict[str, Any], T: float,
    params: Any,
) -> tuple[str, ...]:  # fmt: skip
    """Notes on constant controls, by name, that cost less than extremals from z0 (batch, n)."""
    admitted = {name: _within(flat, np.asarray(v, float), params) for name, v in controls.items()}
    costs, last = trials.constant_controls(flat, z0, list(admitted.values()), T, params)
    if zT is not None:
        away = np.max(np.abs(last - zT), -1)
        costs = np.where(away <= 1e-8 * (1 + np.max(np.abs(zT))), costs, np.inf)
    out = []
    for k, row in enumerate(np.where(np.isfinite(costs), costs, np.inf)):
        best = int(np.argmin(row))
        if trials.cheaper(row[best], float(cost[k])):
            name, v = list(admitted.items())[best]
            shown = np.array2string(v, precision=4, threshold=8).replace("\n", "")
            which = "" if len(cost) == 1 else f" for x0[{k}]"
            out.append(
                f"a cheaper control was found{which}: {name}, {shown}, costs {row[best]:.8g}, this "
                f"extremal {float(cost[k]):.8g}: it is a local optimum at best"
            )
    return tuple(out)


def _within(flat: Flat, v: np.ndarray, params: Any) -> np.ndarray:
    """v led into the bounds: clipped to boxes, scaled into balls."""
    parts = {n: np.array(a) for n, a in flat.control(v)._asdict().items()}
    held = {}
    for name, (kind, *limits) in flat.spec.bounds.items():
        limits = [number_of(limit, params) for limit in limits]
        if kind == "box":
            parts[name] = np.clip(parts[name], *limits)
        else:
            held[name] = (kind, float(limits[-1]))
    if held:
        flat_parts = np.concatenate([np.ravel(parts[n]) for n in held])
        kind, radius = next(iter(held.values()))
        size = np.abs(flat_parts).sum() if kind == "l1" else np.linalg.norm(flat_parts)
        for name in held if size > radius else ():
            parts[name] = parts[name] * radius / size
    return np.asarray(flat.pack_u(flat.spec.control(**parts)))
