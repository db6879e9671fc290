"""Check that generated/ is what the definitions say.

Tells stale, missing, orphan and hand-edited files apart, each with the command that mends it;
exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from derive.commands.build_command import text_of
from derive.registry import generated_folder, registered, shown


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help="folder to check (default: generated/)")


def run(options: argparse.Namespace) -> int:
    folder = options.out or generated_folder()
    findings = problems(folder)
    for finding in findings:
        print(finding)
    if not findings:
        print(f"{shown(folder)}: everything is as the definitions say")
    return 1 if findings else 0


def problems(folder: Path) -> list[str]:
    """One line per file that is not as it should be."""
    from derive.emit.rendering import body_is_untouched

    out = []
    entries = registered()
    for entry in entries:
        target = folder / f"{entry.name}.py"
        mend = f"mend it: derive build {entry.name}"
        if not target.exists():
            out.append(f"missing      {shown(target)}; {mend}")
            continue
        text = target.read_text(encoding="utf-8")
        if not body_is_untouched(text):
            out.append(
                f"hand-edited  {shown(target)}; change {entry.source} or the templates instead, "
                f"then {mend}"
            )
        elif text != text_of(entry):
            out.append(f"stale        {shown(target)}; {mend}")
        out.extend(_certificate(folder, entry.name, text))
    names = {e.name for e in entries}
    for file in sorted([*folder.glob("*.py"), *folder.glob("*.cert.json")]):
        name = file.name.removesuffix(".cert.json").removesuffix(".py")
        if name not in names and name != "__init__":
            out.append(f"orphan       {shown(file)}; no definition makes it: rm {shown(file)}")
    return out


def _certificate(folder: Path, name: str, text: str) -> list[str]:
    file = folder / f"{name}.cert.json"
    mend = f"mend it: derive verify {name} --level full"
    if not file.exists():
        return [f"missing      {shown(file)}; {mend}"]
    try:
        signature = json.loads(file.read_text(encoding="utf-8"))["signature"]
    except (ValueError, KeyError, TypeError):
        return [f"hand-edited  {shown(file)}: not a certificate; {mend}"]
    if f'SIGNATURE = "{signature}"' not in text:
        return [f"stale        {shown(file)}: it certifies another signature; {mend}"]
    return []
