"""What `derive sweep` does for control problems: options, and the points when asked."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from types import ModuleType

from derive.contract import Swept
from derive.kinds import requests
from derive.kinds.optimal_control import simulation

T, SPARSE = 10.0, 2.0  # horizons; the search for switches takes long


def arguments(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group(
        "control problems",
        "What is not given is drawn by --seed, as `derive simulate` does.  --t1: the horizon "
        f"(default {T:g}; {SPARSE:g} where the cost lets the control stop).",
    )
    requests.size(own)
    simulation.given(own)


def prepare(
    module: ModuleType, points: Sequence[Mapping[str, float]], options: argparse.Namespace
) -> Swept:
    from derive.kinds.optimal_control.points import Points

    return Points(module, points, options)
