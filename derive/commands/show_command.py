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
    from derive.dispatch import method, report

    entry = find(options.model)
    result = method(entry.method).derive(load(entry))
    print(report(entry.method).FORMATS[options.format](result, options.steps), end="")
    return 0
