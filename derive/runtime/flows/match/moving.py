"""Laws moved by one piece of parameters: the emitted velocity with masses, by the flow's solver.

A law is one system, its masses are parameters of its own, so that all laws move in one program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from derive.runtime.common.adaptive import RUNNING, Control
from derive.runtime.common.devices import chosen
from derive.runtime.common.lane_blocks import Task, launch, to_target
from derive.runtime.common.precision import precision
from derive.runtime.flows.match.laws import Laws
from derive.runtime.flows.solver import advancing, starting
from derive.runtime.flows.specification import FlowModel

STEPS = 20_000  # of one piece


class TooLong(Exception):
    """A piece that the solver does not end: too stiff for so many steps."""


@functools.lru_cache(maxsize=16)
def with_masses(spec: FlowModel) -> FlowModel:
    """The flow whose attention weighs all tokens by their masses; these are a parameter, `masses`."""
    inner, names = spec.uniform_velocity, spec.params._fields
    assert inner is not None

    class Weighted:
        _fields = (*names, "masses")

        def __init__(self, **given: Any) -> None:
            self.masses = given.pop("masses")
            self.inner = spec.params(**given)

    def velocity(x: Any, params: Weighted) -> Any:
        return inner(x, params.masses, params.inner)

    return FlowModel(
        params=Weighted,
        param_shapes={**spec.param_shapes, "masses": ("n",)},
        sphere=True,
        velocity=velocity,
        ordered=True,  # tokens that meet stay two: a piece may be run backwards
    )


def advance(spec: FlowModel, laws: Laws, params: Any, t: float, rtol: float = 1e-12) -> Laws:
    """All laws after a time t under `params`.  Raises TooLong."""
    weighted = with_masses(spec)
    with precision("float64"):
        task = Task(
            starting(weighted),
            advancing(weighted),
            ({"masses": np.ascontiguousarray(laws.masses.T)}, _arrays(params)),
            np.full(len(laws.x), 1e-3 * rtol),
            Control(rtol, STEPS, float(t)),
            len(laws.x),
            chosen(None),
        )
        flight = launch(task, (np.ascontiguousarray(np.moveaxis(laws.x, 0, -1)),), 0.0)
        to_target(task, flight, float(t), lambda share: None)
    if np.any(flight.status != RUNNING):
        raise TooLong(f"a piece of length {t:.3g} takes more than {STEPS} steps")
    x = np.moveaxis(flight.state[0], -1, 0)
    return laws.at(x / np.linalg.norm(x, axis=-1, keepdims=True))


def _arrays(params: Any) -> dict[str, np.ndarray]:
    return {n: np.asarray(v, float) for n, v in zip(params._fields, params, strict=True)}


