"""Certificates for tests: what a ladder found, bound to the kernel beside it as it is now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from derive import certificate
from derive.entry import Entry


def resealed(folder: Path, entry: Entry, **changes: Any) -> Path:
    """The certificate of `folder`, its findings changed as told, bound to today's files."""
    file = folder / f"{entry.name}.cert.json"
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    body = {k: v for k, v in content.items() if k not in ("pins", "measured_on", "seal")}
    pins = certificate.pins((folder / f"{entry.name}.py").read_text(encoding="utf-8"), entry)
    text = certificate.text_of(body, pins, certificate.toolchain())
    file.write_text(text, encoding="utf-8")
    return file
