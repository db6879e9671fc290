"""Show the derived equations of a model.

Formats: text (in signs of mathematics where the terminal has them), latex (an appendix that
compiles), html (a page with kernel and certificate), json.
"""

from __future__ import annotations

import argparse

from derive.cache import kept
from derive.derivation import add_limit, derived, limited, told
from derive.dispatch import method, own
from derive.entry import Entry
from derive.errors import CheckFailed, RequestError
from derive.process import has_signs
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
    from derive.site.formats import WHOLE
    from derive.site.gathered import beside, digest

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
    what = [options.format, f"steps {options.steps}", options.view, f"signs {has_signs()}"]
    what.append(digest(beside(entry)) if options.format in WHOLE else "")
    print(kept(entry, what, lambda: _text(entry, options)), end="", flush=True)
    return 0


def _text(entry: Entry, options: argparse.Namespace) -> str:
    """What is to be printed; what a step contradicts is shown, and said to be wrong."""
    from derive.face.equations import Equations

    found = Equations(entry, derived(entry, options.limit))
    with told(entry), limited(entry, options.limit):
        text = found.report(options.format, options.steps, options.view, signs=has_signs())
    try:
        found.require_sound()
    except CheckFailed:
        print(text, end="", flush=True)
        raise
    return text
