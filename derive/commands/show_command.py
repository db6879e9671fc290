"""Show the derived equations of a model.

Formats: text, latex (a document that compiles), html, json.
"""

from __future__ import annotations

import argparse

from derive.derivation import add_limit, derived, limited, told
from derive.errors import RequestError
from derive.registry import find


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--format", choices=("text", "latex", "html", "json"), default="text")
    parser.add_argument("--steps", action="store_true", help="every step with its check")
    parser.add_argument(
        "--finite-width",
        action="store_true",
        help="what one layer of finite width does beyond the limit: L_1, the corrected SDE, L_2",
    )
    add_limit(parser)


def run(options: argparse.Namespace) -> int:
    from derive.dispatch import report
    from derive.methods.common.record import require_sound

    entry = find(options.model)
    if options.finite_width and (entry.method != "covariance_sde" or options.steps):
        raise RequestError(
            "--finite-width has no record of steps; leave --steps out"
            if options.steps
            else f"--finite-width expands one layer of a network in its width; {entry.name} is a "
            f"model of kind {entry.method}, which has none"
        )
    result = derived(entry, options.limit)
    with told(entry), limited(entry, options.limit):
        if options.finite_width:
            from derive.emit.covariance_sde import finite_width_report

            text = finite_width_report.report(result, options.format)
        else:
            text = report(entry.method).FORMATS[options.format](result, options.steps)
    print(text, end="", flush=True)
    require_sound(result.steps, entry.argument, result.facts)
    return 0
