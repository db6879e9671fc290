"""Clusters of tokens that move as points, meet and go on as one, over times of any size."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from derive.runtime.common import inputs
from derive.runtime.common.precision import precision
from derive.runtime.common.progress import Progress, reporter
from derive.runtime.common.pure import no_tracers
from derive.runtime.flows import inputs as flow_inputs
from derive.runtime.flows.cluster_steps import (
    Control,
    Group,
    Leg,
    energies,
    gram,
    leaping,
    stepping,
)
from derive.runtime.flows.results import Clusters
from derive.runtime.flows.specification import FlowModel

ONE, END, STILL = "one cluster", "t1", "nothing moves"
Pair = tuple[np.ndarray, np.ndarray]


def solve_clusters(
    spec: FlowModel,
    gram0: Any,
    masses: Any,
    params: Any,
    *,
    t1: float | None = None,
    saves: Any = None,
    merged: float = 1e-6,
    rtol: float = 1e-8,
    max_steps: int = 100_000,
    progress: bool | None | Progress = None,
) -> Clusters:
    """K clusters with inner products gram0 (K, K) and masses (K,), each a point of many tokens.

    Steps follow the fastest relative change of a distance and not the time, so that clusters at
    right angles at beta = 40, which take e^40 units of time to meet, cost some hundred steps.  Two
    clusters whose |x_a - x_b|^2 / 2 (on the sphere 1 - <x_a, x_b>) comes below `merged` (relative
    to their squared length) go on as one of both masses in their centre; that time is located to
    the tolerance.  One set of parameters; float64.

    **Arguments:** `t1`: the last time, None: until one cluster is left or nothing moves.  `saves`:
    increasing times, their number if there is a t1, or None: every step and every merge.
    `rtol`: allowed error of a step, relative to every pair's own distance.

    **Returns:** `Clusters`.  Where the times go beyond what float64 holds, or no rate differs from
    zero in it, a RuntimeWarning says so and `ended` is "nothing moves".

    Raises ValueError for masses that do not sum to one, and a gram0 that is none.
    """
    no_tracers("solve_clusters", "gram_rate(R, masses, params) can", gram0, masses, params, t1)
    if spec.gram_rate is None:
        raise ValueError("this model has no equation of its clusters' inner products alone")
    if spec.ordered:
        raise ValueError(
            "the tokens of this model have places: two clusters are not one of both masses; "
            "solve(x0, params, ...) moves the tokens"
        )
    start = flow_inputs.clusters(spec, gram0, masses, params)
    times = _times(saves, t1)
    inputs.positive_integer("max_steps", max_steps)
    radius = flow_inputs.fraction("merged", merged)
    with precision("float64") as kind:
        rtol, _ = flow_inputs.tolerance(rtol, None, kind)
        values = {n: jnp.asarray(v) for n, v in start.params.items()}
        run = _Run(spec, start, spec.params(**values), Control(rtol, radius, math.inf, max_steps))
        run.to_the_end(times, math.inf if t1 is None else float(t1), reporter(progress, "clusters"))
        return run.result()


def _times(saves: Any, t1: float | None) -> np.ndarray | None:
    if t1 is not None:
        times = inputs.times(saves, t1)  # t1 is checked, whether or not every step is kept
        return None if saves is None else times
    if saves is None:
        return None
    if np.ndim(saves) == 0:
        raise ValueError("saves, as a number, needs a t1; pass a list of times, or t1")
    return inputs.times(saves, float(np.max(np.asarray(saves, float), initial=1e-300)))


class _Row(NamedTuple):
    """The clusters at one time."""

    t: float
    gram: np.ndarray
    owner: np.ndarray
    masses: np.ndarray


class _Run:
    """One integration: the state, who belongs to whom, and what was kept."""

    def __init__(
        self, spec: FlowModel, start: flow_inputs.Start, params: Any, control: Control
    ) -> None:
        R = start.gram
        r = np.ones(len(R)) if spec.sphere else np.diag(R).copy()
        D = (r[:, None] + r) / 2 - R
        np.fill_diagonal(D, 0.0)
        self.spec, self.params, self.control = spec, params, control
        self.state: Pair = (D, r)
        self.masses = start.masses.copy()
        self.owner = np.arange(len(R))  # the first member of the cluster of each
        self.t = 0.0
        self.rows: list[_Row] = []
        self.meetings: list[tuple[float, int, int]] = []
        self.ended = ""

    @property
    def alive(self) -> np.ndarray:
        return self.owner == np.arange(len(self.owner))

    def row(self, t: float, state: Pair) -> _Row:
        R = gram(state)[np.ix_(self.owner, self.owner)]
        return _Row(t, R, self.owner.copy(), self.masses[self.owner])

    def to_the_end(self, times: np.ndarray | None, t1: float, report: Progress) -> None:
        every = times is None
        self._merge_those_that_are_one()
        if times is None or times[0] == 0:
            self.rows.append(self.row(0.0, self.state))
        left = [] if times is None else [t for t in times if t > 0]
        h, trials, count = 0.0, 0, len(self.owner)
        while not self.ended:
            target = left[0] if left else t1
            leg = self._steps(h, target, self.control.most - trials)
            trials += int(leg.trials)
            if every:
                self._keep(leg)
            self.state, self.t, h = self._of(leg.state), float(leg.t), float(leg.h)
            if bool(leg.lost):
                raise ValueError(f"gram_rate has no value at t = {self.t:.6g}")
            if bool(leg.crossing):
                self._meet(h, every)
                h = 0.0
                report(1 - (self.alive.sum() - 1) / (count - 1))
            elif self.t >= target and left:
                self.rows.append(self.row(left.pop(0), self.state))
            self._look(leg, t1, trials)
        self.rows.extend(self.row(t, self.state) for t in left)
        if every and math.isfinite(t1) and self.ended != END:
            self.rows.append(self.row(t1, self.state))
        report(1.0)

    def _steps(self, h: float, target: float, most: int) -> Leg:
        number = np.float64
        control = Control(
            number(self.control.rtol), number(self.control.merged), number(target), np.int32(most)
        )
        wide = tuple(y[..., None] for y in self.state)
        return stepping(self.spec)(wide, np.float64(self.t), np.float64(h), self._group(), control)

    def _group(self) -> Group:
        return Group(self.alive, np.where(self.alive, self.masses, 0.0), self.params)

    @staticmethod
    def _of(state: Any) -> Pair:
        D, r = (np.array(y)[..., 0] for y in state)
        return D, r

    def _keep(self, leg: Leg) -> None:
        D, r = (np.asarray(y)[..., 0] for y in leg.states)
        times = np.asarray(leg.times)
        for k in range(int(leg.kept)):
            self.rows.append(self.row(float(times[k]), (D[k], r[k])))

    def _look(self, leg: Leg, t1: float, trials: int) -> None:
        """Whether it is over, and why."""
        if self.alive.sum() == 1:
            self.ended = ONE
        elif self.t >= t1:
            self.ended = END
        elif bool(leg.still) or not math.isfinite(self.t):
            self.ended = STILL
            _warn(
                f"{int(self.alive.sum())} clusters are left at t = {self.t:.6g} and no rate "
                "differs from zero in float64: they balance each other, or they need more time "
                "than it holds (1e308); take a smaller beta, or scale the model's time"
            )
        elif trials >= int(self.control.most):
            self.ended = "max_steps"
            _warn(f"max_steps was reached at t = {self.t:.6g}; raise max_steps or rtol")

    def _meet(self, h: float, every: bool) -> None:
        """Go to where the next pair meets, within a step of length h, and merge."""
        leap, group = leaping(self.spec), self._group()
        wide = tuple(y[..., None] for y in self.state)
        goal = math.log(self.control.merged)

        def above(share: float) -> tuple[Any, float]:
            new, least = leap(wide, group, np.float64(share * h))
            return new, math.log(max(float(least), 1e-300)) - goal

        low, high = 0.0, 1.0
        below, over = above(high)[1], above(low)[1]
        new, found = None, over
        for _ in range(60):
            # regula falsi kept inside by bisection
            share = low + (high - low) * min(max(over / (over - below), 0.1), 0.9)
            new, found = above(share)
            if found > 0:
                low, over = share, found
            else:
                high, below = share, found
            if abs(found) < self.control.rtol or high - low < 1e-15:
                break
        self.t += share * h
        self.state = self._of(new)
        self._merge(max(0.0, found) + 1e-9)
        if every:
            self.rows.append(self.row(self.t, self.state))

    def _merge_those_that_are_one(self) -> None:
        while self.alive.sum() > 1 and self._closest()[0] < self.control.merged:
            self._merge(0.0)
        if self.alive.sum() == 1:
            self.ended = ONE

    def _closest(self) -> tuple[float, int, int]:
        D, r = self.state
        size = (r[:, None] + r) / 2
        ratio = D / np.where(size > 0, size, 1)
        ratio[~np.triu(np.outer(self.alive, self.alive), 1)] = np.inf
        a, b = np.unravel_index(np.argmin(ratio), ratio.shape)
        return float(ratio[a, b]), int(a), int(b)

    def _merge(self, slack: float) -> None:
        """Take the closest pair, and all that are as close within `slack`, for one each."""
        while self.alive.sum() > 1:
            ratio, a, b = self._closest()
            if ratio > self.control.merged * math.exp(slack):
                return
            self._join(a, b)
            self.meetings.append((self.t, a, b))

    def _join(self, a: int, b: int) -> None:
        """b becomes a part of a, in the centre of both (on the sphere: of its direction)."""
        D, r = (y.copy() for y in self.state)
        p = self.masses[a] / (self.masses[a] + self.masses[b])
        q, apart = 1 - p, D[a, b]
        row = p * D[a] + q * D[b]
        if self.spec.sphere:
            s = math.sqrt(1 - 2 * p * q * apart)
            row = (row - 2 * p * q * apart / (1 + s)) / s
        else:
            row = row - p * q * apart
            r[a] = p * r[a] + q * r[b] - 2 * p * q * apart
        D[a], D[:, a] = row, row
        D[b], D[:, b], r[b] = row, row, r[a]
        D[a, a] = D[b, b] = D[a, b] = D[b, a] = 0.0
        self.state = (D, r)
        self.masses[a] += self.masses[b]
        self.owner[self.owner == b] = a

    def result(self) -> Clusters:
        R = np.stack([row.gram for row in self.rows])
        masses = np.stack([row.masses for row in self.rows])
        owners = np.stack([row.owner for row in self.rows])
        labels = np.stack([np.unique(o, return_inverse=True)[1] for o in owners])
        energy = None
        if self.spec.gram_energy is not None:
            first = owners == np.arange(R.shape[-1])
            own = np.where(first, masses, 0.0)
            energy = np.asarray(energies(self.spec)(R, own, self.params))
        return Clusters(
            np.array([row.t for row in self.rows]),
            R,
            masses,
            labels,
            np.array([m[0] for m in self.meetings]),
            np.array([m[1:] for m in self.meetings], int).reshape(-1, 2),
            energy,
            self.ended,
        )


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=5)
