"""Rules of the calculus and of the runtime, each broken in its typical way, and who notices.

Input: a rule's name and a model that uses it.  Output: which rung kills the mutant.  A mutant is
one function replaced wherever it is bound; the model is derived, emitted and checked anew in a
process of its own (`python -m derive.mutants.trial RULE`), so that nothing broken stays.  No
golden file and no theorem takes part.  The rungs are those that take seconds: the derivation's own
refusals, L1, the gate (L3), L2, and the steps of the solvers written again (L5).  They are climbed
until one kills, or all of them, which says which rungs notice and not only which notices first.
Rules for what is said in words count: no kernel holds them, and L1 checks each.
"""

from __future__ import annotations

import functools
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from derive.dispatch import method, own
from derive.mutants.rules import MUTANTS, Mutant

RUNGS = ("derivation", "L1", "L3", "L2", "L5")


def break_rule(mutant: Mutant) -> None:
    """Replace the function wherever a module of ours holds it."""
    place, _, name = mutant.target.partition(":")
    for word in own():  # whatever binds the function is there to be found
        for stage in ("emit", "verify"):
            file = {"emit": "module", "verify": "ladder"}[stage]
            importlib.import_module(f"derive.{stage}.{word}.{file}")
    home: Any = importlib.import_module(f"derive.{place}")
    *owners, attribute = name.split(".")
    for owner in owners:
        home = getattr(home, owner)
    right = getattr(home, attribute)
    wrong = functools.wraps(right)(mutant.broken(right))
    setattr(home, attribute, wrong)
    for module in [m for n, m in list(sys.modules.items()) if n.startswith("derive.")]:
        for key, value in list(vars(module).items()):
            if value is right:
                setattr(module, key, wrong)


def outcome(mutant: Mutant, every: bool = False) -> dict[str, str]:
    """What each rung says of the broken rule, in this process; `every`: behind a kill too."""
    break_rule(mutant)
    from derive.derivation import derived, rendered
    from derive.errors import CheckFailed

    entry, found = entry_of(mutant.model), {}
    try:
        result = derived(entry)
    except Exception as problem:  # a refusal, or an expression that no rule takes
        return {"derivation": f"{type(problem).__name__}: {problem}"}
    found["derivation"] = ""
    try:
        text = rendered(entry, result)
        found["L1"] = ""
    except CheckFailed as problem:
        found["L1"] = str(problem)
        if not every:
            return found
        text = method(entry.method).render(result, entry.source, entry.argument)
    for rung, says in _rungs(entry.method, result, text):
        try:
            found[rung] = says()
        except Exception as problem:  # a kernel that does not run
            found[rung] = f"{type(problem).__name__}: {problem}"
        if found[rung] and not every:
            break
    return found


def entry_of(model: str) -> Any:
    """The entry of a registered model, or of one of `definitions`, in a folder of its own."""
    import tempfile
    from pathlib import Path

    from derive.mutants.definitions import TEXTS
    from derive.registry import entries, find

    if model not in TEXTS:
        return find(model)
    file = Path(tempfile.mkdtemp()) / f"{model}.py"
    file.write_text(TEXTS[model], encoding="utf-8")
    (entry,) = entries(file)
    return entry


def _rungs(word: str, result: Any, text: str) -> Iterator[tuple[str, Callable[..., str]]]:
    """The gate, and what the method has beside it that takes seconds."""
    from derive.verify.common.compare import module_of

    module, kind = module_of(text, "mutant"), method(word)

    def gate() -> str:
        return "; ".join(str(f) for f in kind.gate(result, module) if not f.error <= f.allowed)

    yield "L3", gate
    yield from kind.sharp(result, module)


def tried(position: int, seconds: float = 300, every: bool = False) -> dict[str, str]:
    """The outcome of one mutant in a process of its own; `every`: all rungs, behind a kill too."""
    command = [sys.executable, "-m", "derive.mutants.trial", str(position), *["all"] * every]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        return dict(json.loads(run.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return {"derivation": f"no end within {seconds:g} s"}
    except (IndexError, ValueError):
        return {"derivation": f"the process ended: {run.stderr.strip().splitlines()[-1:]}"}


def killer(found: dict[str, str]) -> str:
    """The rung that kills, or nothing."""
    return next((r for r in RUNGS if found.get(r)), "")


def table(
    outcomes: list[dict[str, str]], mutants: Sequence[Mutant] = MUTANTS, every: bool = False
) -> str:
    """The matrix rule x rung: x kills, . lives; empty where nothing was run, which is behind a
    kill, and, with `every`, behind a derivation that ends."""
    head = "| rule | broken how | model | " + " | ".join(RUNGS) + " |\n"
    head += "|---|---|---|" + "---|" * len(RUNGS) + "\n"
    rows, notes = [], []
    for mutant, found in zip(mutants, outcomes, strict=True):
        cells = [("x" if found[r] else ".") if r in found else "" for r in RUNGS]
        rows.append(f"| {mutant.rule} | {mutant.how} | {mutant.model} | {' | '.join(cells)} |")
        if not killer(found):
            why = mutant.note or "lives, and no reason is known why it may"
            notes.append(f"- {mutant.rule}, {mutant.how}: {why}.")
    killed = sum(bool(killer(f)) for f in outcomes)
    behind = "where no derivation is left" if every else "behind a kill"
    return (
        f"# Rules broken, and the rungs that notice\n\n{killed} of {len(mutants)} mutants are "
        f"killed; `x` kills, `.` does not, {behind} nothing is run.\n\n"
        + head + "\n".join(rows) + ("\n\n" + "\n".join(notes) if notes else "") + "\n"
    )  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(outcome(MUTANTS[int(sys.argv[1])], "all" in sys.argv[2:])))
