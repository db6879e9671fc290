"""Break rules of the calculus and of the runtime, and show which rungs notice.

Each rule is broken in its typical ways, a model that uses it is derived and checked anew in a
process of its own.  Exit code 1 if a mutant lives without a reason.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from derive.files import require_writable, write_whole


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="only rules tried on this model")
    parser.add_argument("--rules", action="store_true", help="rules (the default)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the matrix there as well")


def run(options: argparse.Namespace) -> int:
    from derive.errors import RequestError
    from derive.verify import rule_mutants as rules

    if options.out:
        require_writable(options.out.parent)
    chosen = [k for k, m in enumerate(rules.MUTANTS) if options.model in (None, m.model)]
    if not chosen:
        known = ", ".join(sorted({m.model for m in rules.MUTANTS}))
        raise RequestError(f"no rule is tried on {options.model!r}; models: {known}")
    outcomes, alive = [], False
    for k in chosen:
        mutant = rules.MUTANTS[k]
        found = rules.tried(k)
        outcomes.append(found)
        killer = rules.killer(found)
        alive |= not killer and not mutant.note
        word = f"killed by {killer}" if killer else "lives"
        print(f"{word:<22} {mutant.rule}: {mutant.how} ({mutant.model})", flush=True)
        if killer:
            print(f"    {found[killer][:160]}", file=sys.stderr, flush=True)
    if options.out and len(chosen) == len(rules.MUTANTS):
        write_whole(options.out, rules.table(outcomes))
    return 1 if alive else 0
