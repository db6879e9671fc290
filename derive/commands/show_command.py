"""Show the derived equations of a model.

Formats: text, latex (a document that compiles), html, json.
"""

from __future__ import annotations

import argparse

from derive.registry import find, load


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--format", choices=("text", "latex", "html", "json"), default="text")
    parser.add_argument("--steps", action="store_true", help="every step with its check")


def run(options: argparse.Namespace) -> int:
    from derive.emit.report import FORMATS
    from derive.methods.covariance_sde import derive

    result = derive(load(find(options.model)))
    print(FORMATS[options.format](result, options.steps), end="")
    return 0
