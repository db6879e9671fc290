"""`match`: one theta(t) that sends N laws to N targets, certified by replay."""

from __future__ import annotations

from typing import Any

import numpy as np

from derive.runtime.common.numbers import integer, number, positive
from derive.runtime.common.progress import Progress, reporter
from derive.runtime.flows.match.carrying import NoWay
from derive.runtime.flows.match.certificate import certify, unsteady
from derive.runtime.flows.match.distances import ROUNDING
from derive.runtime.flows.match.laws import Laws, alike, joined, laws, paired
from derive.runtime.flows.match.moving import TooLong
from derive.runtime.flows.match.parting import NoSplit
from derive.runtime.flows.match.pieces import Closed, Run
from derive.runtime.flows.match.plan import Plan, distances
from derive.runtime.flows.match.planning import (
    CARRIED,
    GATHERED,
    carry,
    kick,
    part,
    reach,
    unfold,
)
from derive.runtime.flows.match.spreading import Blocked
from derive.runtime.flows.specification import FlowModel

FINEST = 1e-9  # a plan's restoration errors are above that
PLANNED = 0.6  # of the work, about: the rest is replays
TRIES = 3  # in other directions, before a plan is given up
SHARE = 0.02  # of the tolerance, that tokens stop at from where they shall be


class NoPlan(RuntimeError):
    """No plan was found that meets the tolerance: why, with the number."""


def match(
    spec: FlowModel,
    inputs: Any,
    targets: Any,
    *,
    input_masses: Any = None,
    target_masses: Any = None,
    tolerance: float = 1e-6,
    longest: float = 20.0,
    project: bool = False,
    seed: int = 0,
    progress: bool | None | Progress = None,
) -> Plan:
    """One piecewise constant theta(t) under which every input law ends at its target.

    **Arguments:** `inputs`, `targets`: N laws each, arrays (N, n, d) or sequences of (n_i, d);
    (d,) is a Dirac.  `input_masses`, `target_masses`: likewise (n_i,); None: equal.  `tolerance`:
    of W_2 to each target.  `longest`: time of a piece; what would take longer is made stronger.

    **Returns:** `Plan`, replayed and measured (`findings`).  Raises ValueError for what no flow
    can do (two laws that are one sent to two targets, a token split, d < 3), NoPlan where the
    construction stops, with the reason.
    """
    inputs, targets = paired(inputs, targets)
    first = laws("inputs", inputs, input_masses, project)
    last = laws("targets", targets, target_masses, project)
    tolerance = number("tolerance", tolerance)
    if not tolerance >= FINEST:
        raise ValueError(
            f"tolerance = {tolerance:g} is beyond what plans reach in float64: splits and their "
            f"reverses leave tokens off by up to about {FINEST:g}; pass that or more"
        )
    if not tolerance < 1:
        raise ValueError(f"tolerance = {tolerance:g} must be below 1, the radius of the sphere")
    longest, seed = positive("longest", longest), integer("seed", seed, 0)
    aims = joined(last, SHARE * tolerance)
    kept = _possible(first, aims, tolerance)
    report = reporter(progress, "match")
    one, other = (Laws(*(x[kept] for x in ls)) for ls in (first, aims))
    run = _tried(spec, one, other, tolerance, longest, np.random.default_rng(seed), report)
    plan = Plan(spec, tuple(run.pieces), first, last, tolerance, run.restored)
    plan.findings.update(certify(plan, seed, report=lambda s: report(PLANNED + (1 - PLANNED) * s)))
    report(1.0)
    _require(plan.findings["W_2 to each target"], run, tolerance)
    if why := unsteady(plan.findings, tolerance):
        raise NoPlan(why)
    return plan


def _require(reached: np.ndarray, run: Run, tolerance: float) -> None:
    if np.max(reached) <= tolerance:
        return
    why = (
        f"the masses of tokens do not make up those of its points ({run.owed:.2g} off), and a flow "
        "splits no token"
        if run.owed > ROUNDING
        else f"undone splits left tokens off by {run.restored:.2g}"
    )
    raise NoPlan(
        f"the plan ends at W_2 = {np.max(reached):.3g} from target {int(np.argmax(reached))}, "
        f"above the tolerance {tolerance:g}: {why}; pass a larger tolerance or another seed"
    )


def _tried(
    spec: FlowModel,
    inputs: Laws,
    targets: Laws,
    tolerance: float,
    longest: float,
    rng: np.random.Generator,
    report: Progress,
) -> Run:
    """The first of a few constructions, in directions of their own, that ends at the targets."""
    for left in reversed(range(TRIES)):
        try:
            run = _built(spec, inputs, targets, tolerance, longest, rng, report)
            _require(distances(run.laws, targets)[0], run, tolerance)
            return run
        except NoPlan:
            if not left:
                raise
    raise AssertionError("no try was made")


def _built(
    spec: FlowModel,
    inputs: Laws,
    targets: Laws,
    tolerance: float,
    longest: float,
    rng: np.random.Generator,
    report: Progress,
) -> Run:
    run, count = Run(spec, inputs, longest), len(inputs.x)
    diracs = bool(np.all(targets.counts == 1))
    radius = SHARE * tolerance
    stages = 2 if diracs else 4
    share = lambda stage: lambda k: report(PLANNED * (stage + k / count) / stages)  # noqa: E731
    try:
        if diracs:
            kick(run, rng)
            part(run, radius, rng, share(0))
            carry(run, targets.x[:, 0], radius, rng)
            return run
        first, unfoldings = unfold(spec, targets, rng, share(0))
        kick(run, rng)
        part(run, GATHERED, rng, share(1))
        ends = np.zeros((count, inputs.x.shape[2]))
        for one in unfoldings:
            ends[one.split.law] = one.start
        carry(run, ends, CARRIED, rng)
        for number_, one in enumerate(reversed(unfoldings)):
            reach(run, one, radius)
            share(3)(number_ + 1)
        if first is not None:
            run.pull(first.end, first.gate, first.time, -1, "return the targets", sign=-1)
    except (NoSplit, NoWay, Blocked, Closed, TooLong) as why:
        raise NoPlan(f"{why}; other seeds try other directions") from None
    return run


def _possible(inputs: Laws, targets: Laws, tolerance: float) -> list[int]:
    """The laws to plan for, doubles left out.  Raises ValueError for what no flow can do."""
    if len(inputs.x) != len(targets.x):
        raise ValueError(f"{len(inputs.x)} inputs and {len(targets.x)} targets: one each")
    if inputs.x.shape[2] != targets.x.shape[2]:
        raise ValueError(
            f"inputs have {inputs.x.shape[2]} dimensions, targets {targets.x.shape[2]}"
        )
    kept: list[int] = []
    for k in range(len(inputs.x)):
        for j in kept:
            same, aim = alike(inputs, j, inputs, k), alike(targets, j, targets, k)
            if same and not aim:
                raise ValueError(
                    f"inputs {j} and {k} are one law, their targets differ: under any parameters "
                    "they move alike"
                )
            if aim and not same:
                raise ValueError(
                    f"targets {j} and {k} are one law, their inputs differ: a flow keeps different "
                    "laws different; move one target by the error that you allow"
                )
            if same:
                break
        else:
            kept.append(k)
        _splits(inputs, targets, k, tolerance)
    return kept


def _splits(inputs: Laws, targets: Laws, k: int, tolerance: float) -> None:
    """Masses of tokens have to make up those of the atoms: a flow splits no token."""
    atoms, tokens = int(targets.counts[k]), len(np.unique(inputs.own(k), axis=0))
    if atoms > tokens:
        raise ValueError(
            f"target {k} has {atoms} points, input {k} {tokens}: a flow splits no token; give the "
            "input more tokens, or the target fewer"
        )
    mass = inputs.masses[k, : inputs.counts[k]]
    aim = targets.masses[k, :atoms]
    if atoms > 1 and np.ptp(mass) < 1e-14:
        off = np.abs(aim / mass[0] - np.round(aim / mass[0])).max() * mass[0]
        spread_of = float(np.linalg.norm(targets.own(k) - targets.own(k).mean(0), axis=1).min())
        if np.sqrt(off) * max(spread_of, 1e-3) > tolerance:
            raise ValueError(
                f"tokens of input {k} have mass {mass[0]:.4g} each, and target {k} has points of "
                f"masses {aim.min():.4g} to {aim.max():.4g} that are no multiples of it: a flow "
                "splits no token; take a number of tokens that the target's masses divide into"
            )
