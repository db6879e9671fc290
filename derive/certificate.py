"""What a certificate vouches for, and whether it still does.

A certificate says how a kernel fared on the ladder.  It pins what it was measured on: the kernel's
bytes, the definition, the runtime files that the kernel needs, and, in words, the toolchain; and it
carries a seal over its own content.  All functions here are pure or read files; JAX and SymPy are
not imported, so that listing stays instant.

A certificate of another toolchain still holds, since a kernel's bytes and its runtime are the
same and the supported versions are tested: where it was measured is told, not held against it.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from derive import sources
from derive.entry import Entry, theory_folder
from derive.files import present, text_in

NAMED = 4  # changed files that a message names
LEVELS = ("quick", "full")
TOOLS = ("jax", "numpy", "sympy")
_KEYS = {"model": str, "signature": str, "engine": str, "level": str, "passed": bool, "rungs": list}
_PINS = {"kernel": str, "definition": dict, "runtime": dict}


@dataclass(frozen=True)
class Verdict:
    """What a certificate is worth for the kernel beside it.

    `state`: holds, failed, stale, damaged, hand-edited or missing; `why`: in words, for all but
    the first; `level`, and `measured_on`, a toolchain: of one that holds or failed.
    """

    state: str
    why: str = ""
    level: str = ""
    measured_on: dict[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return self.state == "holds"


def pins(kernel: str, entry: Entry, parts: Collection[str] | None = None) -> dict[str, Any]:
    """What a certificate for this text of a kernel is bound to, today.

    `parts`: the runtime files that it needs, where they are known.
    """
    definition = sources.definition(entry.file, theory_folder())
    if entry.choice:
        definition["option"] = "=".join(entry.choice)
    return {
        "kernel": _digest(kernel),
        "definition": definition,
        "runtime": sources.runtime_meanings(sources.needed(kernel) if parts is None else parts),
    }


def _digest(kernel: str) -> str:
    return hashlib.sha256(kernel.encode("utf-8")).hexdigest()


def toolchain() -> dict[str, str]:
    """Versions that the figures of a ladder may depend on."""
    from importlib import metadata

    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def text_of(body: Mapping[str, Any], pinned: Mapping[str, Any], tools: Mapping[str, str]) -> str:
    """A certificate's text: the ladder's findings, what they are bound to, and the seal."""
    head = {k: v for k, v in body.items() if k != "rungs"}
    whole = {**head, "pins": pinned, "measured_on": tools, "rungs": body["rungs"]}
    whole = json.loads(json.dumps(whole))  # tuples and the like as they will be read
    return json.dumps({**whole, "seal": seal(whole)}, indent=1) + "\n"


def seal(content: Mapping[str, Any]) -> str:
    """Sixteen digits over all that a certificate says but its seal."""
    rest = {k: v for k, v in content.items() if k != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:16]


def read(text: str) -> dict[str, Any]:
    """The content of a certificate.  Raises ValueError, in words, if it is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if not isinstance(content, dict):
        raise ValueError("is no certificate: it holds no object")
    for name, kind in _KEYS.items():
        if not isinstance(content.get(name), kind):
            raise ValueError(f"is no certificate: {name!r} is missing or of another kind")
    if content["level"] not in LEVELS:
        raise ValueError(f"is no certificate: there is no level {content['level']!r}")
    return content


def judge(text: str, today: Mapping[str, Any]) -> Verdict:
    """A certificate's text against what there is today; today's as `pins` gives it."""
    try:
        content = read(text)
    except ValueError as problem:
        return Verdict("damaged", str(problem))
    pinned = content.get("pins")
    if "seal" not in content or not isinstance(pinned, dict):
        return Verdict("stale", "it pins neither kernel nor runtime; it is of an older derive")
    if content["seal"] != seal(content):
        return Verdict("hand-edited", "its figures are not those that were sealed")
    if any(not isinstance(pinned.get(name), kind) for name, kind in _PINS.items()):
        return Verdict("damaged", "is no certificate: what it pins is incomplete")
    changed = changes(pinned, today)
    if changed:
        return Verdict("stale", f"since it was measured, {'; '.join(changed)}")
    tools = content.get("measured_on")
    measured_on = tools if isinstance(tools, dict) else {}
    failed = [_name(r) for r in content["rungs"] if status(r) == "failed"]
    if failed or not content["passed"] or not content["rungs"]:
        what = f"failed: {', '.join(failed)}" if failed else "the ladder was not passed"
        return Verdict("failed", what, content["level"], measured_on)
    return Verdict("holds", "", content["level"], measured_on)


def status(rung: Any) -> str:
    """passed, failed or not reached."""
    if not isinstance(rung, dict):
        return "failed"
    return str(rung.get("status") or ("passed" if rung.get("passed") is True else "failed"))


def _name(rung: Any) -> str:
    return str(rung.get("name", "?")) if isinstance(rung, dict) else "?"


def changes(pinned: Mapping[str, Any], today: Mapping[str, Any]) -> list[str]:
    """In words, what differs from what a certificate pins."""
    out = []
    if pinned["kernel"] != today["kernel"]:
        out.append("the kernel's bytes have changed")
    if pinned["definition"] != today["definition"]:
        files = ", ".join(_different(pinned["definition"], today["definition"]))
        out.append(f"the definition has changed ({files})")
    if pinned["runtime"] != today["runtime"]:
        changed = [f"{f}.py" for f in _different(pinned["runtime"], today["runtime"])]
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        out.append(f"the runtime that it needs has changed ({', '.join(changed[:NAMED])}{more})")
    return out


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return sorted(k for k in {**one, **other} if one.get(k) != other.get(k))


def elsewhere(found: Verdict) -> str:
    """The toolchain that a certificate was measured on, where it is not the one at hand."""
    here = toolchain()
    if all(found.measured_on.get(k) == v for k, v in here.items()):
        return ""
    return ", ".join(f"{k} {v}" for k, v in found.measured_on.items())


def verdict(folder: Path, entry: Entry) -> Verdict:
    """That of a model's certificate in `folder`, for kernel, definition and runtime as they are."""
    file, kernel = folder / f"{entry.name}.cert.json", folder / f"{entry.name}.py"
    if not present(file):
        return Verdict("missing", "there is no certificate")
    try:
        text = text_in(file)
    except ValueError as problem:
        return Verdict("damaged", str(problem))
    try:
        found = text_in(kernel)
        today = pins(found, entry, _known_parts(text, found))
    except (ValueError, SyntaxError, OSError) as problem:
        return Verdict("stale", f"its kernel is not there to be certified: {problem}")
    return judge(text, today)


def _known_parts(text: str, kernel: str) -> Collection[str] | None:
    """The runtime files that a certificate names, if it is of this kernel.

    The same kernel needs the same files, unless one of them has changed; which is seen then.
    """
    try:
        pinned = read(text).get("pins")
    except ValueError:
        return None
    if not isinstance(pinned, dict) or pinned.get("kernel") != _digest(kernel):
        return None
    return list(pinned["runtime"]) if isinstance(pinned.get("runtime"), dict) else None
