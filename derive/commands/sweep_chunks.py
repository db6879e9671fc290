"""Results of a sweep, kept chunk by chunk, so that a killed one goes on and jobs share the work.

A chunk is a range of grid points in one file, written whole.  Its bytes follow from the folder's
key and the range alone: jobs need not know of each other, and whoever has all files has the table.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from derive.commands.sweep_grid import Point
from derive.contract import Swept
from derive.errors import RequestError
from derive.runtime.common.progress import reporter

Columns = Mapping[str, np.ndarray]
Range = tuple[int, int]  # of points, the second not included
CHUNKS = 64  # of a sweep, unless --chunk says otherwise: what a kill loses is one of them


def ranges(count: int, tile: int, wanted: int | None) -> list[Range]:
    """First and last (exclusive) point of every chunk: whole tiles, so that a point is computed
    among the same others, to the same bits, whatever the chunks are."""
    size = tile * max(1, -(-(wanted or -(-count // CHUNKS)) // tile))
    return [(first, min(first + size, count)) for first in range(0, count, size)]


def shard(text: str) -> tuple[int, int]:
    """K/N of a command line, 1 <= K <= N."""
    first, slash, last = text.partition("/")
    if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise RequestError(f"--shard {text}: write K/N with K = 1, ..., N, as in --shard 3/8")
    return int(first), int(last)


def fill(
    folder: Path, points: list[Point], wanted: list[Range], swept: Swept
) -> tuple[list[Columns], int]:
    """Arrays of the wanted chunks, and how many of them were there; computed where they were
    not, as many chunks at once as keep the devices of this process busy."""
    from derive.figures.cache import kept, stored

    files = {chunk: folder / f"points-{chunk[0]:07d}-{chunk[1]:07d}.npz" for chunk in wanted}
    found = {chunk: arrays for chunk in wanted if (arrays := stored(files[chunk])) is not None}
    for (first, last), columns in found.items():
        if any(len(x) != last - first for x in columns.values()):
            raise RequestError(
                f"{files[first, last]} is not of this sweep; remove it and run again"
            )
    missing, there = [chunk for chunk in wanted if chunk not in found], len(found)
    bar = _bar(len(wanted))
    for group in _groups(missing, swept.tile):
        begun = len(found)

        def report(share: float, begun: int = begun, count: int = len(group)) -> None:
            bar(begun + share * count, True)

        bar(begun, False)
        whole = swept.compute([p for first, last in group for p in points[first:last]], report)
        at = 0
        for first, last in group:
            part = {name: x[at : at + last - first] for name, x in whole.items()}
            found[first, last] = kept(files[first, last], part)
            at += last - first
    bar(len(wanted), True)
    return [found[chunk] for chunk in wanted], there


def _groups(chunks: list[Range], tile: int) -> list[list[Range]]:
    """Chunks, in groups of a tile for every device at least."""
    from derive.runtime.common.devices import chosen

    if not chunks:
        return []
    tiles = -(-(chunks[0][1] - chunks[0][0]) // tile)
    size = -(-max(1, len(chosen(None))) // tiles)
    return [chunks[k : k + size] for k in range(0, len(chunks), size)]


def _bar(count: int) -> Callable[[float, bool], None]:
    """The progress bar with the time that is left; it counts what this run has computed alone."""
    report = reporter(True, "sweep")
    state = {"start": time.monotonic(), "from": -1.0, "shown": 0.0}

    def show(done: float, computed: bool) -> None:
        now = time.monotonic()
        if state["from"] < 0:  # what was there before took no time
            state.update({"start": now, "from": done})
        if state["shown"] == np.inf or (done < count and now - state["shown"] < 0.3):
            return
        state["shown"] = now if done < count else np.inf
        if done == count:  # the line was longer before
            sys.stderr.write("\r" + " " * 79)
        report(done / count)
        new = done - state["from"]
        if computed and new > 0 and done < count:
            left = (now - state["start"]) * (count - done) / new
            sys.stderr.write(f", {_spell(left):>9} left")
            sys.stderr.flush()

    return show


def _spell(seconds: float) -> str:
    """1 h 05 min, 3 min 20 s, 12 s."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{seconds:.0f} s"


def table(points: list[Point], times: np.ndarray, found: list[Columns]) -> dict[str, np.ndarray]:
    """One row a point and a time: parameters, t, and every column."""
    saves = len(times)
    out = {name: np.repeat([p[name] for p in points], saves) for name in points[0]}
    out["t"] = np.tile(times, len(points))
    for name in found[0]:
        out[name] = np.concatenate([chunk[name] for chunk in found]).reshape(-1)
    return out


def csv(columns: Columns) -> str:
    """The shortest digits that give the same numbers back."""
    rows = zip(*(x.tolist() for x in columns.values()), strict=True)
    words = (",".join(x if isinstance(x, str) else repr(x) for x in row) for row in rows)
    return "\n".join([",".join(columns), *words]) + "\n"


def parquet() -> Any:
    """Writer of Parquet.  Raises RequestError where pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RequestError(
            "a .parquet table needs pyarrow, which is not installed; run: pip install pyarrow, or "
            "name a .csv file"
        ) from None
    return lambda stream, columns: pyarrow.parquet.write_table(pyarrow.table(dict(columns)), stream)
