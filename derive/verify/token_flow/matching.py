"""L5 of flows that are steered: a plan of `match`, replayed by the definition's text.

Input: a derivation and its module.  Output: a rung.  The text sees the plan's parameters and the
laws' tokens alone; it runs by Runge-Kutta steps in NumPy, and knows no splits, pulls or gates.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import jax
import numpy as np

from derive.draws import generator
from derive.methods.common.record import rounded
from derive.methods.token_flow.instances import FlowInstance, instance, tangent
from derive.methods.token_flow.result import TokenFlow
from derive.runtime.flows.match.distances import w2
from derive.verify.common.rung import Rung

TOLERANCE, STEPS = 1e-4, 160  # of the plan; of the text's scheme, a piece
REACHED = 1e-3  # W_2 of what the text moves


def matching(result: TokenFlow, module: ModuleType) -> Rung:
    """Two laws that share a point, one of unequal masses, sent to two points by one plan."""
    rng = generator(97, 3)
    laws = [_unit(rng.standard_normal((n, 3)) + 0.5 * rng.standard_normal(3)) for n in (7, 5)]
    laws[1][0] = laws[0][0]
    masses = [np.full(7, 1 / 7), rng.uniform(0.5, 1.5, 5)]
    targets = list(_unit(rng.standard_normal((2, 3))))
    with jax.enable_x64(True):
        plan = module.match(laws, targets, input_masses=masses, tolerance=TOLERANCE)
    figures = {
        "pieces": len(plan.pieces),
        "kernel": float(plan.findings["W_2 to each target"].max()),
    }
    states = list(plan.states())
    there, apart = [], 0.0
    for k, (x, mass) in enumerate(zip(laws, masses, strict=True)):
        share = mass / mass.sum()
        way = _by_text(result, plan, x, share)
        there.append(w2(way[-1], share, targets[k][None], np.ones(1)))
        gaps = [np.abs(s.own(k) - y).max() for s, y in zip(states, way, strict=True)]
        apart = max(apart, float(max(gaps)))
    figures |= {"text": max(there), "tokens": apart}
    return Rung(
        "L5 match",
        "the text under the parameters of a plan of `match` takes each law to its target",
        bool(max(*there, apart) < REACHED and figures["kernel"] < TOLERANCE),
        {k: rounded(v) if isinstance(v, float) else v for k, v in figures.items()},
        f"W_2 above {REACHED:g} at the end, tokens off by more at the end of any piece",
    )


def _by_text(result: TokenFlow, plan: Any, x: np.ndarray, mass: np.ndarray) -> list[np.ndarray]:
    """Tokens (n, 3) of one law, moved by the text, at the end of each piece."""
    width = {"w": 1} if any(d.name == "w" for d in result.model.dims) else {}
    one = instance(result.model, 1, len(x), 3, given=width)
    one, way = replace(one, x=x, mass=mass), []
    for piece in plan.pieces:
        known = piece.params._asdict()
        arrays = {n: np.asarray(known.get(n, a), float) for n, a in one.arrays.items()}
        numbers = {n: float(known.get(n, v)) for n, v in one.params.items()}
        one = _moved(replace(one, arrays=arrays, params=numbers), piece.duration / STEPS)
        way.append(one.x)
    return way


def _moved(one: FlowInstance, h: float) -> FlowInstance:
    at = lambda y: replace(one, x=_unit(y))  # noqa: E731
    for _ in range(STEPS):
        first = tangent(one)
        second = tangent(at(one.x + h / 2 * first))
        third = tangent(at(one.x + h / 2 * second))
        last = tangent(at(one.x + h * third))
        one = at(one.x + h / 6 * (first + 2 * second + 2 * third + last))
    return one


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
