"""What `derive sweep` does for Gaussian closures: options, and the points when asked."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from types import ModuleType

from derive.contract import Swept


def arguments(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("laws of tokens")
    own.add_argument("--rtol", type=float, default=1e-8, help="of a step (default 1e-8)")


def prepare(
    module: ModuleType, points: Sequence[Mapping[str, float]], options: argparse.Namespace
) -> Swept:
    from derive.kinds.gaussian_closure.points import Points

    return Points(module, points, options)
