"""Solve a control problem from a state of one's own and hold it against its turnpike.

Writes NAME.npz and NAME.png: states, controls and costates against time with the static optimum,
and the distance to it beside the predicted rate.  What the user does not give, data, parameters and
the start, is drawn at random from --seed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from derive.entry import Entry
from derive.errors import RequestError
from derive.files import require_writable
from derive.kernels import kernel_of
from derive.kinds import requests

if TYPE_CHECKING:
    from types import ModuleType

    from derive.methods.optimal_control.instances import Point
    from derive.notation.control.definition import ControlDefinition

TOLERANCE = 1e-8
GENTLE = 3  # every third of the instances is of small numbers
NEARER = (1.0, 0.5, 0.2)  # shares of the way from the static optimum to a start that is drawn
LAYERS, SHORTEST, LONGEST = 14, 5.0, 60.0  # a horizon on which the turnpike shows
SPARSE = 2.0


def arguments(parser: argparse.ArgumentParser) -> None:
    requests.sized(parser)
    given(parser)
    parser.add_argument(
        "--T",
        type=float,
        help=f"horizon (default: {LAYERS} / rate of the turnpike, from {SHORTEST:g} to "
        f"{LONGEST:g}; {SPARSE:g} where the control stops or jumps, else 10)",
    )
    parser.add_argument(
        "--saves", type=requests.count(3), default=201, help="number of save times (default 201)"
    )


def given(parser: requests.Options) -> None:
    """Options for both ends, and for the search of what lies between."""
    parser.add_argument(
        "--start",
        action="append",
        default=[],
        metavar="NAME=VALUE|FILE.npy",
        help="a state at time 0; repeat for more (default: drawn)",
    )
    parser.add_argument(
        "--end",
        action="append",
        default=[],
        metavar="NAME=VALUE|FILE.npy",
        help="a state at the last time, in problems with a fixed end (default: one that some "
        "control reaches)",
    )
    parser.add_argument(
        "--searches",
        type=requests.count(1),
        default=16,
        help="random starts of the search for static optima (default 16)",
    )


class Problem(NamedTuple):
    params: dict[str, Any]
    start: dict[str, Any]
    end: dict[str, Any]  # what is given of it
    given: frozenset[str]  # states whose start is the user's
    at: Point  # the draw, with what is given in its place
    drawn: str  # what was drawn, in words


def run(entry: Entry, options: argparse.Namespace) -> int:
    from derive.registry import load

    turnpike = requests.picture("derive.figures.turnpike")
    if options.T is not None and not (math.isfinite(options.T) and options.T > 0):
        raise RequestError(f"--T {options.T:g}: it must be a positive, finite time")
    model = load(entry)
    module = kernel_of(entry, options.kernels)
    problem = posed(model, module._SPEC.fixed_end, options)
    params, start = module.Params(**problem.params), module.State(**problem.start)
    require_writable(options.out)
    print("searching for static optima ...", file=sys.stderr)
    found = module.turnpike(params, starts=options.searches, seed=options.seed, x_guess=start)
    T = options.T or _horizon(found, bool(module._SPEC.switching))
    more = turnpike.solver_options(module, found, T, options.saves, TOLERANCE)
    if module._SPEC.fixed_end:
        more["x_end"] = module.State(**reached_end(model, problem, T))
    problem, solution = _solved(module, problem, params, found, {"T": T, **more})
    T = float(solution.times[-1])  # where the definition leaves it free, the horizon chosen
    series = turnpike.series(module, params, solution, found, T)
    what = f"T = {T:.4g}, cost {float(solution.cost):.5g}"

    arrays = _arrays(problem, solution, found)
    files = requests.write(
        entry, options.out, arrays, lambda: turnpike.drawn(entry.name, what, series)
    )
    print("\n".join([*filter(None, [problem.drawn, *_said(solution, found)]), *map(str, files)]))
    return 0


def _horizon(found: Any, jumps: bool) -> float:
    """Long enough for the turnpike to show; short where the search for switches takes long."""
    if jumps or found.verdict == "finite_time":
        return SPARSE
    return min(max(LAYERS / found.rate, SHORTEST), LONGEST) if found.rate > 0 else 10.0


def posed(
    model: ControlDefinition,
    fixed_end: bool,
    options: argparse.Namespace,
    moving: Iterable[str] = (),
) -> Problem:
    """All numbers: those given, and for the others a draw of the sizes that these have.

    `moving`: parameters whose values are not those of this problem alone.
    """
    from derive.methods.optimal_control.instances import inside

    data = {s.name: tuple(d.name for d in s.shape) for s in model.data}
    shapes = {**{q.name: () for q in model.params}, **data}
    states = {s.name: tuple(d.name for d in s.shape) for s in model.states}
    params = requests.given("--param", options.param, shapes)
    start = requests.given("--start", options.start, states)
    if options.end and not fixed_end:
        raise RequestError(
            f"--end {options.end[0]}: the end of {model.name} is free; leave --end out"
        )
    end = requests.given("--end", options.end, states)
    sizes: dict[str, int] = {d.name: 2 for d in model.dims}
    sizes |= requests.sizes(options.size, {**params, **start}, {**shapes, **states})
    at = inside(model, GENTLE * options.seed, sizes)
    at = replace(
        at,
        params={n: params.get(n, v) for n, v in at.params.items()},
        arrays={**at.arrays, **{n: v for n, v in (params | start).items() if n in at.arrays}},
    )
    values = {**at.params, **at.arrays}
    said = requests.said_drawn(
        {n: values[n] for n in (*shapes, *states)}, [*params, *start, *moving], options.seed
    )
    return Problem(
        {n: values[n] for n in shapes},
        {n: values[n] for n in states},
        end,
        frozenset(start),
        at,
        said,
    )


def _solved(
    module: ModuleType, problem: Problem, params: Any, found: Any, more: dict[str, Any]
) -> tuple[Problem, Any]:
    """The extremal; a start that was drawn, not given, comes nearer where it is too far off."""
    import numpy as np

    static = found.x._asdict()
    fixed = problem.given | {n for n, a in static.items() if not np.all(np.isfinite(a))}
    movable = [n for n in problem.start if n not in fixed]
    for share in NEARER if movable else (1.0,):
        start = dict(problem.start)
        for n in movable if share < 1 else ():
            start[n] = static[n] + share * (start[n] - static[n])
            if n in module._SPEC.sphere:
                start[n] = start[n] / np.linalg.norm(start[n], axis=-1, keepdims=True)
        try:
            solution = module.solve(module.State(**start), params, progress=True, **more)
        except ValueError as refusal:
            if share == NEARER[-1] or not movable:
                raise
            said = str(refusal).split(":")[0]
            print(f"from the start drawn: {said}; a nearer one is tried", file=sys.stderr)
            continue
        near = f"\nstart: the draw, taken to {share:g} of its way from the static optimum"
        return problem._replace(start=start, drawn=problem.drawn + near * (share < 1)), solution
    raise AssertionError("one of the starts is the last")


def reached_end(model: ControlDefinition, problem: Problem, T: float) -> dict[str, Any]:
    """The last state: as given, else one that a control reaches from the start in a short time."""
    from derive.methods.optimal_control.instances import reached

    names = [s.name for s in model.states]
    if all(n in problem.end for n in names):
        return problem.end
    found = reached(model, problem.at, min(T, 1.0))
    print(f"end, reached from the start by a drawn control: {', '.join(names)}", file=sys.stderr)
    return dict(zip(names, found, strict=True)) | problem.end


def _arrays(problem: Problem, solution: Any, found: Any) -> dict[str, Any]:
    import numpy as np

    out: dict[str, Any] = {
        "times": solution.times,
        "cost": solution.cost,
        "stop": np.nan if solution.stop is None else solution.stop,
        "static_cost": found.cost,
        "rate": found.rate,
        "rates": found.rates,
        "verdict": found.verdict,
    }
    for part in ("x", "u", "p"):
        out |= {f"{part}_{n}": a for n, a in getattr(solution, part)._asdict().items()}
        out |= {f"static_{part}_{n}": a for n, a in getattr(found, part)._asdict().items()}
    out |= {f"param_{n}": a for n, a in problem.params.items()}
    return out | {f"residual_{n}": a for n, a in _residuals(solution).items()}


def _residuals(solution: Any) -> dict[str, Any]:
    found = solution.residuals
    return dict(found._asdict()) if hasattr(found, "_asdict") else {}


def _said(solution: Any, found: Any) -> list[str]:
    """Cost, residuals and verdict in words."""
    residuals = ", ".join(f"{n} {float(a):.1e}" for n, a in _residuals(solution).items())
    rate = f", rate {found.rate:.4g}" if math.isfinite(found.rate) else ""
    stop = "" if solution.stop is None else f", the control stops at t = {solution.stop:.5g}"
    static = f"; static optimum: cost {found.cost:.6g} a unit of time" * math.isfinite(found.cost)
    return [
        f"cost {float(solution.cost):.8g}{stop}{static}",
        f"residuals: {residuals}" if residuals else "",
        f"verdict: {found.verdict.replace('_', ' ')}{rate}",
        *(f"  {reason}" for reason in found.reasons),
        *(f"  {note}" for note in solution.notes),
    ]
