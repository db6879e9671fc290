"""Verify generated kernels and write their certificates.

Without a model: every registered one.  Exit code 1 if a rung fails.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from derive.commands.build_command import require_writable, text_of, write_whole
from derive.errors import RequestError
from derive.registry import find, generated_folder, load, registered, shown


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all registered ones")
    parser.add_argument("--level", choices=("quick", "full"), default="quick")
    parser.add_argument("--out", type=Path, help="folder of the kernels (default: generated/)")


def run(options: argparse.Namespace) -> int:
    from derive.dispatch import ladder
    from derive.verify.ladder import certificate

    entries = [find(m) for m in options.models] or registered()
    folder = options.out or generated_folder()
    require_writable(folder)
    failed = False
    for entry in entries:
        file = folder / f"{entry.name}.py"
        if not file.exists():
            raise RequestError(f"{shown(file)} does not exist; run: derive build {entry.argument}")
        if file.read_text(encoding="utf-8") != text_of(entry):
            raise RequestError(
                f"{shown(file)} is not what the definition says; run: derive build {entry.argument}"
            )
        print(f"{entry.name}, level {options.level}")
        start, found, results = time.monotonic(), [], []
        for result, rung in ladder(entry.method).climb(load(entry), file, options.level):
            found.append(rung)
            results.append(result)
            spent = time.monotonic() - start
            print(
                f"  {'passed' if rung.passed else 'FAILED'}  {rung.name}: {rung.claim} "
                f"({spent:.0f} s)",
                flush=True,
            )
            if not rung.passed:
                print(f"          {rung.figures}", file=sys.stderr)
        target = folder / f"{entry.name}.cert.json"
        signature = signature_in(file.read_text(encoding="utf-8"))
        text = certificate(results[-1], signature, options.level, found)
        if keep_stronger(target, text, options.level):
            print(f"  {shown(target)} holds a full certificate of this signature: kept")
        else:
            write_whole(target, text)
            print(f"  certificate: {shown(target)}")
        failed |= not all(r.passed for r in found)
    return 1 if failed else 0


def keep_stronger(target: Path, text: str, level: str) -> bool:
    """A quick run does not replace a passed full certificate of the same signature."""
    import json

    if level == "full" or not target.exists():
        return False
    try:
        old, new = json.loads(target.read_text(encoding="utf-8")), json.loads(text)
    except ValueError:
        return False
    if not isinstance(old, dict):
        return False
    same = old.get("signature") == new["signature"] and old.get("engine") == new["engine"]
    return bool(same and old.get("level") == "full" and old.get("passed") and new["passed"])


def signature_in(text: str) -> str:
    """The signature that a generated module states."""
    match = re.search(r'^SIGNATURE = "(\w+)"', text, re.MULTILINE)
    if match is None:
        raise RequestError("the generated module states no signature; run: derive build")
    return match.group(1)
