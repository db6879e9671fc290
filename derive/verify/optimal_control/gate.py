"""The gate of control problems: every emitted function against its equation in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import jax
import numpy as np

from derive.emit.optimal_control.kernels import FUNCTIONS
from derive.methods.optimal_control import instances
from derive.methods.optimal_control.instances import inside
from derive.methods.optimal_control.result import OptimalControl
from derive.verify.common.compare import Finding, Target, findings
from derive.verify.optimal_control.points import arguments

BOUND_TO_RUNTIME = {"solve", "turnpike", "extremal"}


def gate(result: OptimalControl, module: ModuleType) -> list[Finding]:
    """Every emitted function at two points of different sizes."""
    with jax.enable_x64(True):
        batches = (list(targets(result, module, k)) for k in (10, 11))
        # a law without closed form is the runtime's descent in H: L4 looks at its minimum
        solved = set() if "control_law" in result.equations else {"control_law", "control"}
        return findings(module, batches, BOUND_TO_RUNTIME | solved)


def targets(result: OptimalControl, module: ModuleType, seed: int) -> Iterator[Target]:
    at = inside(result.model, seed)
    given = arguments(module, result, at)
    right: dict[str, list[np.ndarray]] = {}
    with np.errstate(all="ignore"):  # a law may leave the domain of a cost
        for name in result.equations:
            right[name] = instances.evaluate(result, name, at)
    for name, value in right.items():
        yield Target(name, tuple(given[n] for n in FUNCTIONS[name][0]), value, 1.0)
    x, p, u, params = (given[n] for n in ("x", "p", "u", "params"))
    if "control_law" in right:
        yield Target("control", (x, p, params), right["control_law"], 1.0)
    residual = [right[n] for n in ("state_rate", "costate_rate", "stationarity")]
    yield Target("static_residual", (x, p, u, params), residual, 1.0)
