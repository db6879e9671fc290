"""Match laws of tokens to targets by one plan of a flow whose parameters part and gather them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, NamedTuple

from derive.entry import Entry
from derive.errors import RequestError
from derive.files import require_writable
from derive.kernels import kernel_of
from derive.kinds import requests

default = "measure_to_measure"
MASSES = "masses_"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", type=Path, metavar="INPUTS.npz", help="the laws as they are")
    parser.add_argument(
        "targets", type=Path, metavar="TARGETS.npz", help="the laws as they shall be"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("plan.npz"), metavar="PLAN.npz", help="default plan.npz"
    )
    parser.add_argument("--tolerance", type=float, default=1e-6, help="of W_2 (default 1e-6)")
    parser.add_argument(
        "--longest", type=float, default=20.0, metavar="TIME", help="of one piece (default 20)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the directions tried (default 0)")
    parser.add_argument("--project", action="store_true", help="divide the tokens by their lengths")
    parser.add_argument("--film", action="store_true", help="also write a film (GIF)")


def run(entry: Entry, options: argparse.Namespace) -> int:
    draw = requests.picture("derive.kinds.token_flow.plan_picture")
    first, last = map(read, (options.inputs, options.targets))
    _paired(first.names, last.names)
    module = kernel_of(entry, options.kernels)
    if not hasattr(module, "match"):
        raise RequestError(
            f"the parameters of {entry.name} cannot part laws and gather them: derive show "
            f"{entry.name} says what is missing under `manoeuvres`; measure_to_measure can"
        )
    out = options.out if options.out.suffix == ".npz" else Path(f"{options.out}.npz")
    require_writable(out.parent)
    try:
        plan = module.match(
            first.laws,
            last.laws,
            input_masses=first.masses,
            target_masses=last.masses,
            tolerance=options.tolerance,
            longest=options.longest,
            seed=options.seed,
            project=options.project,
            progress=True,
        )
    except (ValueError, RuntimeError) as why:
        raise RequestError(str(why)) from None
    files = [plan.save(out), *_texts(plan, out), *draw.write(plan, out, options.film)]
    print("\n".join([repr(plan), *map(str, files)]))
    return 0


def _texts(plan: Any, out: Path) -> list[Path]:
    from derive.files import write_whole

    made = []
    for suffix, text in ((".txt", plan.table()), (".tex", plan.latex())):
        write_whole(out.with_suffix(suffix), text)
        made.append(out.with_suffix(suffix))
    return made


class Given(NamedTuple):
    """Laws in the order of their names (none: one array of all), their masses (None: equal)."""

    names: list[str]
    laws: list[Any]
    masses: list[Any] | None


def read(path: Path) -> Given:
    """The laws of a file."""
    from derive.runtime.flows.match.saved import arrays_in

    try:
        held = arrays_in(path)
    except (OSError, ValueError) as why:
        raise RequestError(str(why)) from None
    laws = {name: x for name, x in held.items() if not name.startswith(MASSES)}
    if not laws:
        raise RequestError(f"{path} holds no laws: arrays (n, d) by any name, or one (N, n, d)")
    alone = [name for name in held if name.startswith(MASSES) and name[len(MASSES) :] not in laws]
    if alone:
        raise RequestError(f"{path}: {alone[0]} belongs to no array {alone[0][len(MASSES) :]}")
    if len(laws) == 1 and next(iter(laws.values())).ndim == 3:
        ((name, x),) = laws.items()
        stacked = held.get(MASSES + name)
        return Given([], list(x), None if stacked is None else list(stacked))
    order = sorted(laws, key=_natural)
    masses = [held.get(MASSES + name) for name in order]
    given = masses if any(m is not None for m in masses) else None
    return Given(order, [laws[name] for name in order], given)


def _paired(first: list[str], last: list[str]) -> None:
    """Laws go by order; where some go by one name, all have to.  Raises RequestError."""
    if set(first) & set(last) and first != last:
        alone = ", ".join(sorted(set(first) ^ set(last)))
        raise RequestError(
            f"inputs and targets share some names and not others ({alone}): give pairs one name"
        )


def _natural(name: str) -> list[Any]:
    """arr_2 before arr_10."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]
