"""Pieces of a sweep over the devices of this process: each device takes the next piece when free.

Every device runs the same program on pieces of the same size, so that the bytes of a result depend
neither on how many devices there are nor on which of them it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

Piece = TypeVar("Piece")
Found = TypeVar("Found")


def on_devices(
    work: Callable[[Piece], Found], pieces: Sequence[Piece], report: Callable[[float], None]
) -> Iterator[Found]:
    """work(piece) of every piece, in order; `report` is told the share that is done."""
    import jax

    from derive.runtime.common.devices import chosen

    def counted(found: Iterator[Found]) -> Iterator[Found]:
        for number, one in enumerate(found, 1):
            yield one
            report(number / len(pieces))

    devices = chosen(None)
    if not devices:
        yield from counted(map(work, pieces))
        return
    free: SimpleQueue[Any] = SimpleQueue()
    for device in devices:
        free.put(device)

    def placed(piece: Piece) -> Found:
        device = free.get()
        try:
            with jax.default_device(device):
                return work(piece)
        finally:
            free.put(device)

    with ThreadPoolExecutor(len(devices)) as pool:
        yield from counted(pool.map(placed, pieces))
