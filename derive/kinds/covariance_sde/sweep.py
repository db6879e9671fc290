"""What `derive sweep` does for covariance SDEs: options, and the points when asked."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from types import ModuleType

from derive.contract import Swept
from derive.kinds.requests import count


def arguments(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("paths of a stochastic equation")
    own.add_argument("--paths", type=count(1), default=1024, help="at every point (default 1024)")
    own.add_argument(
        "--scheme",
        choices=("auto", "fixed", "adaptive"),
        help="adaptive: the step follows the state, point by point; fixed: many points at once; "
        "auto: fixed, and adaptive where a path explodes (default; with --steps: fixed)",
    )
    own.add_argument("--steps", type=count(1), help="fixed steps to t1 (default: by V0 and grid)")
    own.add_argument(
        "--lanes",
        type=count(1),
        metavar="N",
        help="paths, of all points, that a device takes at once (default 1024; on a GPU more)",
    )
    own.add_argument("--radius", type=float, default=1e8, help="explosion: max |V| beyond it")
    own.add_argument("--as", dest="meaning", choices=("tokens", "covariance"), help="of a file")
    own.add_argument("--max-tokens", type=count(1), default=12, metavar="M", help="default 12")


def prepare(
    module: ModuleType, points: Sequence[Mapping[str, float]], options: argparse.Namespace
) -> Swept:
    from derive.kinds.covariance_sde.points import Points

    return Points(module, points, options)
