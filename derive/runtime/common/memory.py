"""How much memory there is, and a refusal before a request that cannot fit."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path


def free() -> float | None:
    """Bytes that this process may still take: of the machine and of its control group; None if
    the system does not say."""
    found = [b for b in (_available(), _group()) if b is not None]
    return min(found) if found else None


def _available() -> float | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * float(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _group() -> float | None:
    """What the control group leaves (version 2, then 1)."""
    for most, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            return max(
                float(Path(most).read_text()) - float(Path(used).read_text()) + _cached(most), 0.0
            )
        except (OSError, ValueError):
            continue
    return None


def _cached(most: str) -> float:
    """Bytes of the group's file cache that the system gives back on demand."""
    try:
        lines = (Path(most).parent / "memory.stat").read_text().splitlines()
        table = dict(line.split() for line in lines)
        return 0.9 * float(table.get("inactive_file", table.get("total_inactive_file", 0)))
    except (OSError, ValueError):
        return 0.0


def require(needed: Mapping[str, float], remedy: str) -> None:
    """Raise ValueError if `needed`, bytes by what they are for, is more than there is.

    `remedy`: what to do instead, a clause.
    """
    total, there = sum(needed.values()), free()
    if there is None or total <= there:
        return
    largest = max(needed, key=lambda name: needed[name])
    raise ValueError(
        f"this needs about {size(total)} of memory ({size(needed[largest])} for {largest}), and "
        f"{size(there)} are free; {remedy}"
    )


def size(count: float) -> str:
    """12.3 GB."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(max(int(math.log10(max(count, 1.0))) // 3, 0), len(units) - 1)
    return f"{count / 1000**power:.3g} {units[power]}"
