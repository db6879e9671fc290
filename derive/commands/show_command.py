"""Show the derived equations of a model.

Formats: text (in signs of mathematics where the terminal has them), latex (a document that
compiles), html, json.
"""

from __future__ import annotations

import argparse

from derive.derivation import add_limit, derived, limited, told
from derive.dispatch import method, own
from derive.errors import RequestError
from derive.registry import find


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--format", choices=("text", "latex", "html", "json"), default="text")
    parser.add_argument("--steps", action="store_true", help="every step with its check")
    for word in own():
        for view, shows in method(word).views.items():
            parser.add_argument(
                f"--{view}", dest="view", action="store_const", const=view, default="", help=shows
            )
    add_limit(parser)


def run(options: argparse.Namespace) -> int:
    from derive.emit.common.unicode import has_signs
    from derive.face.equations import Equations

    entry = find(options.model)
    kind = method(entry.method)
    if options.view and options.steps:
        raise RequestError(f"--{options.view} has no record of steps; leave --steps out")
    if options.view and options.view not in kind.views:
        have = [word for word in own() if options.view in method(word).views]
        raise RequestError(
            f"--{options.view} shows something of {', '.join(have)} models; {entry.name} is a "
            f"model of kind {entry.method}, which has none"
        )
    found = Equations(entry, derived(entry, options.limit))
    with told(entry), limited(entry, options.limit):
        text = found.report(options.format, options.steps, options.view, signs=has_signs())
    print(text, end="", flush=True)
    found.require_sound()  # what a step contradicts is shown, and said to be wrong
    return 0
