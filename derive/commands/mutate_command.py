"""Break the terms of a model's equations, or the rules of derive, and show which rungs notice.

MODEL alone: every term of its equations, against the rungs that compare values.  `--rules`, or no
MODEL: rules of the calculus and of the runtime, each in its typical ways; a model that uses the
rule is derived and checked anew in a process of its own.  Exit code 1 if a mutant lives without a
reason.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from derive.derivation import add_limit
from derive.files import require_writable, write_whole


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="break its terms; without one, rules are broken"
    )
    parser.add_argument(
        "--rules", action="store_true", help="break rules; with MODEL only those tried on it"
    )
    parser.add_argument(
        "--all-rungs",
        action="store_true",
        help="run the rungs behind a kill too (the terms of a model always meet all of theirs)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the matrix there as well")
    add_limit(parser)


def run(options: argparse.Namespace) -> int:
    if options.out:
        require_writable(options.out.parent)
    if options.model and not options.rules:
        return _terms(options)
    return _rules(options)


def _terms(options: argparse.Namespace) -> int:
    from derive.derivation import derived
    from derive.dispatch import method
    from derive.mutants import terms
    from derive.registry import find

    entry = find(options.model)
    rows = list(method(entry.method).broken_terms(derived(entry, options.limit), entry.argument))
    text = terms.table(entry.name, rows)
    print(text, end="")
    if options.out:
        write_whole(options.out, text)
    return 0 if all(any(r.killed.values()) for r in rows) else 1


def _rules(options: argparse.Namespace) -> int:
    from derive.errors import RequestError
    from derive.mutants import trial
    from derive.mutants.rules import MUTANTS

    chosen = [k for k, m in enumerate(MUTANTS) if options.model in (None, m.model)]
    if not chosen:
        known = ", ".join(sorted({m.model for m in MUTANTS}))
        raise RequestError(f"no rule is tried on {options.model!r}; models: {known}")
    outcomes, alive = [], False
    for k in chosen:
        mutant = MUTANTS[k]
        found = trial.tried(k, every=options.all_rungs)
        outcomes.append(found)
        killers = [r for r in trial.RUNGS if found.get(r)]
        alive |= not killers and not mutant.note
        word = f"killed by {', '.join(killers)}" if killers else "lives"
        print(f"{word:<22} {mutant.rule}: {mutant.how} ({mutant.model})", flush=True)
        if killers:
            print(f"    {found[killers[0]][:160]}", file=sys.stderr, flush=True)
    if options.out:
        chosen_mutants = [MUTANTS[k] for k in chosen]
        text = trial.table(outcomes, chosen_mutants, every=options.all_rungs)
        write_whole(options.out, text)
    return 1 if alive else 0
