"""Verify generated kernels and write their certificates.

Without a model: every registered one.  Exit code 1 if a rung fails.  With --draw N all random
numbers of the checks are others, and no certificate is written: a right kernel passes every draw.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from derive import certificate
from derive.commands.options import add_kernels
from derive.derivation import add_limit
from derive.entry import Entry
from derive.errors import RequestError
from derive.face.certified import rungs
from derive.face.kernel import text_of
from derive.files import clear, require_writable, write_whole
from derive.kernels import text_there
from derive.registry import as_typed, asked, registered, shown

WORDS = {"passed": "passed", "failed": "FAILED", "not reached": "not reached"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all registered ones")
    parser.add_argument("--level", choices=certificate.LEVELS, default="quick")
    add_kernels(parser, "--kernels", "--out")
    parser.add_argument(
        "--draw",
        type=_draw,
        default=0,
        metavar="N",
        help="other random numbers for the checks, N = 1, 2, ...; writes no certificate",
    )
    add_limit(parser)


def _draw(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no draw; give 0, 1, 2, ...")
    return int(text)


def run(options: argparse.Namespace) -> int:
    from derive.verify.common.certificate import content

    entries = asked(options.models) or registered()
    for entry in entries:
        require_writable(entry.kernels(options.kernels))
    failed = False
    for entry in entries:
        folder = entry.kernels(options.kernels)
        file = folder / f"{entry.name}.py"
        text = _kernel(file, entry, options.limit)
        pins = certificate.pins(text, entry)  # of what is verified now, whatever comes later
        drawn = f", draw {options.draw}" if options.draw else ""
        print(f"{entry.name}, level {options.level}{drawn}")
        start, found, results = time.monotonic(), [], []
        for result, rung in rungs(entry, file, options.level, options.draw):
            found.append(rung)
            results.append(result)
            status = rung.status
            spent = time.monotonic() - start
            print(f"  {WORDS[status]}  {rung.name}: {rung.claim} ({spent:.0f} s)", flush=True)
            if status == "failed":
                print(f"          {rung.figures}", file=sys.stderr)
        failed |= any(rung.failed for rung in found)
        if options.draw:
            continue
        target = folder / f"{entry.name}.cert.json"
        body = content(results[-1], signature_in(text), options.level, found)
        if body["passed"] and keep_stronger(certificate.verdict(folder, entry), options.level):
            print(f"  {shown(target)} holds a full certificate of this kernel: kept")
        else:
            clear(target)
            write_whole(target, certificate.text_of(body, pins, certificate.toolchain()))
            print(f"  certificate: {shown(target)}")
    return 1 if failed else 0


def _kernel(file: Path, entry: Entry, limit: float) -> str:
    """The text of the kernel, if it is what the definition says."""
    mend = f"run: derive build {as_typed(entry, file.parent)}"
    text = text_there(file, mend)
    if text != text_of(entry, limit):
        raise RequestError(f"{shown(file)} is not what the definition says; {mend}")
    return text


def keep_stronger(there: certificate.Verdict, level: str) -> bool:
    """A passed quick run does not replace a full certificate that holds."""
    return level == "quick" and there.holds and there.level == "full"


def signature_in(text: str) -> str:
    """The signature that a generated module states."""
    match = re.search(r'^SIGNATURE = "(\w+)"', text, re.MULTILINE)
    if match is None:
        raise RequestError("the generated module states no signature; run: derive build")
    return match.group(1)
