"""Sweep a control problem: its turnpike and its extremal at every point of a grid.

All points have the same start, and the same data unless these are on the grid: multiples of the
arrays that are given or drawn.  Points are boundary value problems with meshes of their own, solved
one by one with the same compiled programs, on each device of this process one at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from derive.errors import RequestError
from derive.kinds.devices import on_devices
from derive.kinds.optimal_control import simulation
from derive.kinds.optimal_control.sweep import SPARSE, T
from derive.registry import find, load

NONE = "no extremal"  # stands where a verdict does


class Points:
    """One request; see `derive.contract.Swept`."""

    share = ("rate", "rate of the turnpike")
    clock = "time"
    tile = 1
    quantities: Mapping[str, str] = {
        "cost": "cost",
        "static_cost": "cost of the static optimum a unit of time",
        "distance": "distance to the turnpike",
        "control": "size of the control",
        "stop": "time at which the control stops",
    }

    def __init__(
        self, module: ModuleType, points: Sequence[Mapping[str, float]], options: Any
    ) -> None:
        spec = module._SPEC
        if options.tokens is not None:
            raise RequestError("--tokens: a control problem starts from --start NAME=FILE.npy")
        self.module, self.options = module, options
        model = load(find(options.model))
        problem = simulation.posed(model, spec.fixed_end, options, points[0])
        self.params, self.start = problem.params, module.State(**problem.start)
        given = {text.partition("=")[0] for text in options.param}
        twice = sorted(n for n in given & set(points[0]) if not np.ndim(self.params[n]))
        if twice:
            raise RequestError(f"{twice[0]} stands in --param and in --grid; leave one out")
        self._require(spec, points)
        short = spec.sparse in ("l1", "l2norm") or spec.switching
        self.t1 = options.t1 or (SPARSE if short else T)
        self.times: Any = self.t1 * np.arange(1, options.saves + 1) / options.saves
        if spec.free_time:  # which every point has its own of; t1 is the first guess
            self.clock, self.times = "share of the horizon", self.times / self.t1
            self.quantities = {**self.quantities, "horizon": "horizon chosen"}
        self.end = simulation.reached_end(model, problem, self.t1) if spec.fixed_end else {}
        self.caption = problem.drawn.replace("\n", "; ")
        numbers = {**self.params, **problem.start, **self.end}
        self.identity: Mapping[str, Any] = {
            "numbers": {n: np.asarray(v).tolist() for n, v in numbers.items()},
            "t1": self.t1,
            **{k: getattr(options, k) for k in ("saves", "seed", "searches", "dtype")},
        }

    def _require(self, spec: Any, points: Sequence[Mapping[str, float]]) -> None:
        """Numbers of every point, held to what the definition states, before any work."""
        from derive.runtime.control.inputs import checked_params, checked_state

        for point in points:
            _, sizes = checked_params(spec, self._params(point))
            checked_state(spec, self.start, sizes, "the start")

    def _params(self, point: Mapping[str, float]) -> Any:
        own = {
            n: value * self.params[n] if np.ndim(self.params[n]) else value
            for n, value in point.items()
        }
        return self.module.Params(**{**self.params, **own})

    def caution(self, columns: Mapping[str, np.ndarray]) -> str:
        missing = int(np.sum(columns["verdict"] == NONE)) // len(self.times)
        if not missing:
            return ""
        return f"{missing} points have no extremal from this start: their cost is nan"

    def compute(
        self, points: Sequence[Mapping[str, float]], report: Callable[[float], None]
    ) -> dict[str, np.ndarray]:
        found = list(on_devices(self._solved, points, report))
        return {name: np.array([one[name] for one in found]) for name in found[0]}

    def _solved(self, point: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Columns (saves,) of one point."""
        o, params = self.options, self._params(point)
        last = {"x_end": self.module.State(**self.end)} if self.end else {}
        free = self.module._SPEC.free_time
        saves = len(self.times) + 1 if free else self.times
        try:
            found = self.module.turnpike(
                params, starts=o.searches, seed=o.seed, x_guess=self.start, dtype=o.dtype
            )
            extremal = self.module.solve(
                *(self.start, params),
                **{"T": self.t1, "near": found, "saves": saves, "dtype": o.dtype, **last},
            )
        except ValueError as refusal:
            warnings.warn(f"a point has no extremal: {refusal}", stacklevel=2)
            count = len(self.times)
            blank = {n: np.full(count, np.nan) for n in (*self.quantities, "rate", "error")}
            return {**blank, "verdict": np.full(count, NONE)}
        if free:  # from the start on
            parts = {k: _after_start(getattr(extremal, k)) for k in ("x", "p", "u")}
            extremal = extremal._replace(**parts)
        gaps = [_apart(getattr(extremal, part), getattr(found, part)) for part in ("x", "p")]
        resting = type(found.u)(*(np.zeros_like(a) for a in found.u))
        columns = {
            "cost": extremal.cost,
            "static_cost": found.cost,
            "distance": gaps[0] + gaps[1],
            "control": _apart(extremal.u, resting),
            "stop": np.inf if extremal.stop is None else extremal.stop,
            "rate": found.rate,
            "error": getattr(extremal.residuals, "error", np.nan),
            "verdict": found.verdict,
            "horizon": extremal.times[-1],
        }
        columns = {n: columns[n] for n in (*self.quantities, "rate", "error", "verdict")}
        return {n: np.broadcast_to(v, (len(self.times),)) for n, v in columns.items()}


def _after_start(along: Any) -> Any:
    return type(along)(*(a[1:] for a in along))


def _apart(along: Any, static: Any) -> np.ndarray:
    """Distance (saves,) of arrays along the time from those of one point."""
    squares = [
        np.sum((np.asarray(a) - s).reshape(len(a), -1) ** 2, axis=1)
        for a, s in zip(along, static, strict=True)
    ]
    return np.sqrt(np.sum(squares, axis=0))
