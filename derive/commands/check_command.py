"""Check that generated/ is what the definitions say, and its certificates what they certify.

Tells stale, missing, orphan, damaged and hand-edited files apart, and certificates of a failed
ladder, each with the command that mends it; exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from derive import certificate
from derive.entry import Entry, generated_folder
from derive.face.kernel import text_of
from derive.files import present, text_in
from derive.registry import registered, shown
from derive.runtime.common.whole_files import left_over


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help="folder to check (default: generated/)")


def run(options: argparse.Namespace) -> int:
    folder = options.out or generated_folder()
    findings = problems(folder)
    for finding in findings:
        print(finding)
    if not findings:
        print(f"{shown(folder)}: everything is as the definitions say")
    for remark in remarks(folder):
        print(remark, file=sys.stderr)
    return 1 if findings else 0


def problems(folder: Path) -> list[str]:
    """One line per file that is not as it should be."""
    out = []
    entries = registered()
    for entry in entries:
        kernel = _kernel(folder, entry)
        out.extend(kernel)
        # a certificate is judged against a kernel; where that is not there, mending it comes first
        if not kernel or kernel[0].split()[0] in ("stale", "hand-edited"):
            out.extend(_certificate(folder, entry, bool(kernel)))
    names = {e.name for e in entries}
    for file in sorted([*folder.glob("*.py"), *folder.glob("*.cert.json")]):
        name = file.name.removesuffix(".cert.json").removesuffix(".py")
        if name not in names and name != "__init__":
            out.append(f"orphan       {shown(file)}; no definition makes it: rm {shown(file)}")
    for file in sorted(left_over(folder)):
        out.append(f"orphan       {shown(file)}; a killed run has left it: rm {shown(file)}")
    return out


def _kernel(folder: Path, entry: Entry) -> list[str]:
    from derive.emit.common.rendering import body_is_untouched

    target = folder / f"{entry.name}.py"
    mend = f"mend it: derive build {entry.name}"
    if not present(target):
        return [f"missing      {shown(target)}; {mend}"]
    try:
        text = text_in(target)
    except ValueError as problem:
        return [f"damaged      {shown(target)} {problem}; {mend}"]
    if not body_is_untouched(text):
        return [
            f"hand-edited  {shown(target)}; change {entry.source} or the templates instead, "
            f"then {mend}"
        ]
    if text != text_of(entry):
        return [f"stale        {shown(target)}; {mend}"]
    return []


def _certificate(folder: Path, entry: Entry, kernel_changed: bool) -> list[str]:
    """At most one line; where the kernel itself is to be built anew, only what else is wrong."""
    file = folder / f"{entry.name}.cert.json"
    found = certificate.verdict(folder, entry)
    if found.holds or (kernel_changed and found.state == "stale"):
        return []
    mend = f"mend it: derive verify {entry.name} --level full"
    why = "" if found.state == "missing" else f": {found.why}"
    return [f"{found.state:<12} {shown(file)}{why}; {mend}"]


def remarks(folder: Path) -> list[str]:
    """What is worth knowing of the certificates that hold, and no fault of theirs."""
    quick, elsewhere = [], Counter[str]()
    for entry in registered():
        found = certificate.verdict(folder, entry)
        if not found.holds:
            continue
        if found.level != "full":
            quick.append(entry.name)
        if where := certificate.elsewhere(found):
            elsewhere[where] += 1
    out = [f"{name}: its certificate is of level quick" for name in quick]
    return out + [
        f"{count} certificates were measured on another toolchain ({where}); they hold"
        for where, count in elsewhere.items()
    ]
