"""What `derive sweep` does for token flows: options, and the points when asked."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from types import ModuleType

from derive.contract import Swept
from derive.kinds import requests

T1 = 10.0
TOKENS, WIDTH = 32, 3  # drawn


def arguments(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group(
        "flows of tokens",
        f"Tokens are drawn by --seed, {TOKENS} of them in {WIDTH} dimensions (--size n=... d=...), "
        f"if --tokens gives none, (n, d).  --t1: default {T1:g}.",
    )
    requests.size(own)
    own.add_argument(
        "--near",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="consensus: no two tokens farther apart than that share of the farthest pair at the "
        "start (default .01)",
    )
    own.add_argument(
        "--merged",
        type=float,
        default=1e-3,
        metavar="DISTANCE",
        help="tokens closer than that, or joined by a chain of such, are one cluster (default "
        "1e-3)",
    )
    own.add_argument("--rtol", type=float, default=1e-8, help="of a step (default 1e-8)")


def prepare(
    module: ModuleType, points: Sequence[Mapping[str, float]], options: argparse.Namespace
) -> Swept:
    from derive.kinds.token_flow.points import Points

    return Points(module, points, options)
