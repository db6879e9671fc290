"""What every generated flow of tokens is bound to: specification and entry points.

`solve` moves tokens, `solve_clusters` clusters of them over any time; `flow` is pure.  Imports jax
and numpy alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from derive.runtime.common import inputs
from derive.runtime.common.adaptive import BLOW_UP, OVERFLOW, RUNNING, STEP_LIMIT, Control, Flight
from derive.runtime.common.devices import chosen
from derive.runtime.common.lane_blocks import Task, lanes_that_fit, launch, take, to_target
from derive.runtime.common.precision import precision
from derive.runtime.common.progress import Progress, reporter
from derive.runtime.common.pure import no_tracers
from derive.runtime.flows import inputs as flow_inputs
from derive.runtime.flows.clusters import solve_clusters
from derive.runtime.flows.components import labels
from derive.runtime.flows.limit_objects import LimitObject, limit_object
from derive.runtime.flows.metastability import Metastability, metastability
from derive.runtime.flows.pure import flow, path
from derive.runtime.flows.results import Clusters, Flow
from derive.runtime.flows.slow_motion import SlowMotion, slow_motion
from derive.runtime.flows.solver import advancing, energies, probing, starting
from derive.runtime.flows.specification import FlowModel

__all__ = [
    "Clusters",
    "Flow",
    "FlowModel",
    "LimitObject",
    "Metastability",
    "SlowMotion",
    "flow",
    "limit_object",
    "load_plan",
    "match",
    "metastability",
    "path",
    "slow_motion",
    "solve",
    "solve_clusters",
]


def match(spec: FlowModel, inputs: Any, targets: Any, **options: Any) -> Any:
    """One plan for N laws (`derive.runtime.flows.match.matching.match`), which needs SciPy."""
    from derive.runtime.flows.match.matching import match as found

    return found(spec, inputs, targets, **options)


def load_plan(spec: FlowModel, path: Any) -> Any:
    """The plan in a file (`derive.runtime.flows.match.saved.load_plan`)."""
    from derive.runtime.flows.match.saved import load_plan as found

    return found(spec, path)


LOOSER = 1000.0  # tolerance of the second integration, whose distance shows the error
PART = 4 / LOOSER  # of that distance is the estimate; errors fall as the tolerance does, or nearly
MOST = 32  # lanes of a block on a CPU: the stages' sums stay in the first cache


def solve(
    spec: FlowModel,
    x0: Any,
    params: Any,
    *,
    t1: float,
    saves: Any = None,
    rtol: float = 1e-8,
    atol: float | None = None,
    project: bool = False,
    max_steps: int = 100_000,
    dtype: str = "float64",
    progress: bool | None | Progress = None,
    merged: float = 1e-6,
) -> Flow:
    """Tokens from x0 to time t1, each moved by the velocity of the model among all of them.

    **Arguments:** `x0` (..., n, d), of unit length on the sphere (`project=True` divides by the
    lengths); parameters may carry leading batch axes too; all of them broadcast.  `saves`:
    increasing times in [0, t1], or their number (None: 0 and t1).  `rtol`, `atol`: allowed error
    of a step, of a token's length (at least 8 roundings of the dtype; default atol: rtol times
    1e-3 of the root mean square of lengths).  `merged`: tokens closer than that, or joined by a
    chain of such, are one cluster.

    **Returns:** `Flow`.  Steps are of order eight, each system has its own.  Every system is
    integrated again with a looser tolerance: `error` is estimated from the distance of the two.
    Tokens that meet within the allowed error of a step go on as one (where tokens have no places
    and are 256 at most), so that long times cost no steps.  A system that blows up keeps what was
    saved before, has nan after and its time in `blow_up_time`; whatever ends before t1 is warned
    of.

    Raises ValueError for shapes that do not match and tokens that are not on the sphere.
    """
    no_tracers("solve", "flow(x0, params, t1=, steps=) can", x0, params, t1)
    times = inputs.times(saves, t1)
    inputs.positive_integer("max_steps", max_steps)
    radius = flow_inputs.fraction("merged", merged)
    with precision(dtype) as kind:
        rtol, atol = flow_inputs.tolerance(rtol, atol, kind)
        systems = flow_inputs.systems(spec, x0, params, project)
        lanes = _lanes(systems, kind)
        control = Control(rtol, max_steps, float(t1))
        flight, x, error = _integrate(
            spec, lanes, times, control, atol, reporter(progress, "solve")
        )
        energy = None if spec.energy is None else _along(energies(spec), x, lanes[1])[0]
        rough, part = _along(probing(spec), x, lanes[1])
    reached = np.maximum.accumulate(rough, axis=0) * times[:, None]
    error += float(np.finfo(kind).eps) * reached
    lead = systems.lead
    tokens = np.moveaxis(x, -1, 0).reshape(*lead, *x.shape[:-1])
    end = np.full(flight.status.shape, np.inf)
    end[flight.status == BLOW_UP] = flight.stop[flight.status == BLOW_UP]
    end[np.isin(flight.status, (OVERFLOW, STEP_LIMIT))] = np.nan
    _warn(flight)
    _warn_of_rounding(times, float(np.finfo(kind).eps) * reached)
    _warn_of_parting(times, x, rough, part)
    by_system = lambda y: y.T.reshape(*lead, len(times))  # noqa: E731
    return Flow(
        times,
        tokens,
        None if energy is None else by_system(energy),
        by_system(error),
        labels(tokens, radius),
        end.reshape(lead),
        flight.steps.reshape(lead),
    )


def _lanes(systems: flow_inputs.Systems, kind: np.dtype) -> tuple[np.ndarray, Any]:
    """Tokens (n, d, lanes) and the pair of parameters, by lane and shared."""

    def last(x: np.ndarray) -> np.ndarray:
        flat = x.reshape(-1, *x.shape[len(systems.lead) :])
        return np.ascontiguousarray(np.moveaxis(flat, 0, -1), dtype=kind)

    own = {n: last(x) for n, x in systems.params.items() if n in systems.batched}
    shared = {n: x.astype(kind) for n, x in systems.params.items() if n not in systems.batched}
    return last(systems.x), (own, shared)


def _integrate(
    spec: FlowModel,
    lanes: tuple[np.ndarray, Any],
    times: np.ndarray,
    control: Control,
    atol: float | None,
    report: Progress,
) -> tuple[Flight, np.ndarray, np.ndarray]:
    """All lanes at the end; tokens (saves, n, d, lanes) and their errors (saves, lanes)."""
    x, params = lanes
    looser = control._replace(rtol=min(LOOSER * control.rtol, 0.1))
    tasks = [
        _task(spec, x, params, one, None if atol is None else atol * one.rtol / control.rtol)
        for one in (control, looser)
    ]
    flights = [launch(task, (x,), 0.0) for task in tasks]
    kept, errors = [], []
    targets = [*times, control.end] if times[-1] < control.end else list(times)
    for number, target in enumerate(targets):
        for half, (task, flight) in enumerate(zip(tasks, flights, strict=True)):
            share = lambda s, k=number + half / 2: report((k + s / 2) / len(targets))  # noqa: E731
            to_target(task, flight, target, share)
        if number < len(times):
            there = [np.where(_there(f, target), f.state[0], np.nan) for f in flights]
            kept.append(there[0])
            errors.append(_error(there[0], there[1], tasks[0]))
    report(1.0)
    return flights[0], np.stack(kept), np.stack(errors)


def _error(x: np.ndarray, other: np.ndarray, task: Task) -> np.ndarray:
    """Estimated error of the worst token, (lanes,).

    Where both integrations take the same steps, at the start and to a near save, their distance
    shows nothing: so what one step is allowed is added.
    """
    apart, length = (np.sqrt((y.astype(float) ** 2).sum(axis=1)) for y in (x - other, x))
    return PART * apart.max(axis=0) + task.control.rtol * length.max(axis=0) + task.atol


def _there(flight: Flight, target: float) -> np.ndarray:
    return (flight.status == RUNNING) & (flight.t >= flight.t.dtype.type(target))


def _task(
    spec: FlowModel, x: np.ndarray, params: Any, control: Control, atol: float | None
) -> Task:
    n, d, lanes = x.shape
    if atol is None:
        lengths = np.sqrt((x.astype(float) ** 2).sum(axis=(0, 1)) / n)
        allowed = (1e-3 * control.rtol * np.where(lengths > 0, lengths, 1)).astype(x.dtype)
    else:
        allowed = np.full(lanes, atol, x.dtype)
    return Task(
        starting(spec),
        advancing(spec),
        params,
        allowed,
        control,
        _block(n, d, lanes),
        chosen(None),
    )


def _block(n: int, d: int, lanes: int) -> int:
    most = MOST if jax.default_backend() == "cpu" else 4096
    return lanes_that_fit(2 * n * n + 100 * n * d, lanes, least=1, most=most)


def _along(run: Callable[..., Any], x: np.ndarray, params: Any) -> list[np.ndarray]:
    """Numbers (saves, lanes) that a program finds of tokens (n, d, lanes); nan where they end."""
    saves, n, d, lanes = x.shape
    block = _block(n, d, lanes)
    rows = []
    for save in range(saves):
        parts = []
        for first in range(0, lanes, block):
            chosen = np.minimum(np.arange(first, first + block), lanes - 1)
            found = run(x[save][..., chosen], (take(params[0], chosen), params[1]))
            parts.append([np.asarray(f) for f in (found if isinstance(found, tuple) else (found,))])
        rows.append([np.concatenate(column)[:lanes] for column in zip(*parts, strict=True)])
    return [np.stack(column) for column in zip(*rows, strict=True)]


def _warn(flight: Flight) -> None:
    texts = {
        BLOW_UP: "their tokens go to infinity; `blow_up_time` holds the times",
        OVERFLOW: "their steps went to zero beside the time, or tokens are beyond what the dtype "
        "holds: float64 tells no times apart that differ by less than 1e-16 of themselves; take a "
        "smaller t1, or solve_clusters, which steps on the clock of what moves",
        STEP_LIMIT: "max_steps was reached; raise max_steps or rtol, or take a smaller t1; "
        "solve_clusters goes over long times where tokens stand in clusters",
    }
    for status, text in texts.items():
        hit = flight.status == status
        if np.any(hit):
            first = float(np.nanmin(flight.stop[hit]))
            warnings.warn(
                f"{int(hit.sum())} of {hit.size} systems ended at t = {first:.6g} or later: {text}",
                RuntimeWarning,
                stacklevel=3,
            )


LOST = 1e-3  # of a token's length: rounding beyond that gets a word


def _warn_of_rounding(times: np.ndarray, rounding: np.ndarray) -> None:
    over = np.argwhere(rounding > LOST)
    if len(over):
        warnings.warn(
            f"from t = {times[over[0][0]]:.6g} on, roundings of the velocities may add up to "
            f"{LOST:g} of a token's length or more (`error` counts them): what is slower is lost "
            "in them; solve_clusters keeps the digits of slow clusters",
            RuntimeWarning,
            stacklevel=3,
        )


def _warn_of_parting(times: np.ndarray, x: np.ndarray, rough: np.ndarray, part: np.ndarray) -> None:
    """Tokens that met and went on as one would part again if they were let."""
    hit = (part * times[-1] > 1) & (part > 1e-5 * rough)
    for lane in np.flatnonzero(hit.any(axis=0)):  # those that were one from the start may stay so
        hit[:, lane] &= len(np.unique(x[0, ..., lane], axis=0)) == len(x[0])
    if np.any(hit):
        first = times[np.argwhere(hit)[0][0]]
        warnings.warn(
            f"{int(hit.any(axis=0).sum())} of {hit.shape[1]} systems hold tokens that had met "
            f"within the tolerance and, at t = {first:.6g}, would part again; they stay together "
            "here: take a smaller rtol to follow them",
            RuntimeWarning,
            stacklevel=3,
        )
