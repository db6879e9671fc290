"""Simulate a model: the SDE beside the finite network, from your own tokens.

Writes PREFIX.npz and PREFIX.png: percentiles of covariances and correlations against depth /
width, and the share of paths that left the radius.
"""

from __future__ import annotations

import argparse

from derive.dispatch import method, own
from derive.errors import RequestError
from derive.registry import find


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    for word in own():
        simulation = method(word).simulation
        if simulation is not None:
            simulation.arguments(parser)


def run(options: argparse.Namespace) -> int:
    entry = find(options.model)
    kind = method(entry.method)
    if kind.simulation is None:
        able = [word for word in own() if method(word).simulation is not None]
        raise RequestError(
            f"{entry.name} is a {entry.method} model; simulate draws {', '.join(able)} models. "
            f"{kind.instead(entry.name)}"
        )
    return kind.simulation.run(entry, options)
