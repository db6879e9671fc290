"""Check that generated/ is what the definitions say, and its certificates what they certify.

Tells stale, missing, orphan, damaged and hand-edited files apart, and certificates of a failed
ladder, each with the command that mends it; exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from derive import certificate
from derive.cache import kept
from derive.commands.options import add_kernels
from derive.entry import Entry, generated_folder
from derive.face.kernel import text_of
from derive.files import present, text_in
from derive.registry import as_typed, asked, registered, shown
from derive.runtime.common.whole_files import left_over


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all registered ones")
    add_kernels(parser, "--kernels", "--out")


def run(options: argparse.Namespace) -> int:
    entries = asked(options.models)
    folders = {e.kernels(options.kernels): None for e in entries}
    folder = options.kernels or generated_folder()
    findings = (
        problems(entries, options.kernels)
        if entries
        else [*problems(registered(), folder), *orphans(folder)]
    )
    for finding in findings:
        print(finding)
    if not findings:
        for place in folders or [folder]:
            print(f"{shown(place)}: everything is as the definitions say")
    for remark in remarks(entries or registered(), options.kernels):
        print(remark, file=sys.stderr)
    return 1 if findings else 0


def problems(entries: Sequence[Entry], kernels: Path | None) -> list[str]:
    """One line per file that is not as it should be."""
    out = []
    for entry in entries:
        folder = entry.kernels(kernels)
        kernel = _kernel(folder, entry)
        out.extend(kernel)
        # a certificate is judged against a kernel; where that is not there, mending it comes first
        if not kernel or kernel[0].split()[0] in ("stale", "hand-edited"):
            out.extend(_certificate(folder, entry, bool(kernel)))
    return out


def orphans(folder: Path) -> list[str]:
    """One line per file of a folder that no registered definition makes."""
    out, names = [], {e.name for e in registered()}
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
    mend = f"mend it: derive build {as_typed(entry, folder)}"
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
    if text != kept(entry, ["kernel"], lambda: text_of(entry)):
        return [f"stale        {shown(target)}; {mend}"]
    return []


def _certificate(folder: Path, entry: Entry, kernel_changed: bool) -> list[str]:
    """At most one line; where the kernel itself is to be built anew, only what else is wrong."""
    file = folder / f"{entry.name}.cert.json"
    found = certificate.verdict(folder, entry)
    if found.holds or (kernel_changed and found.state == "stale"):
        return []
    mend = f"mend it: derive verify {as_typed(entry, folder, ' --level full')}"
    why = "" if found.state == "missing" else f": {found.why}"
    return [f"{found.state:<12} {shown(file)}{why}; {mend}"]


def remarks(entries: Sequence[Entry], kernels: Path | None) -> list[str]:
    """What is worth knowing of the certificates that hold, and no fault of theirs."""
    quick, elsewhere = [], Counter[str]()
    for entry in entries:
        found = certificate.verdict(entry.kernels(kernels), entry)
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
