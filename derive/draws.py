"""Random numbers of checks: every check has its own seed, and `redrawn` gives all of them others.

At draw 0, the usual one, checks are what certificates record.  Other draws tell whether a check
passes by the luck of its seed, or raises a false alarm.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_DRAW = ContextVar("draw", default=0)


@contextmanager
def redrawn(number: int) -> Iterator[None]:
    """Within, `generator` and `seed` give other numbers; the same ones for the same `number`.

    Raises `ValueError` for a negative number.
    """
    if number < 0:
        raise ValueError(f"the draw is {number}; it must be 0 (the usual one) or more")
    token = _DRAW.set(number)
    try:
        yield
    finally:
        _DRAW.reset(token)


def generator(*key: int) -> np.random.Generator:
    """The generator of the check that has this key."""
    import numpy as np  # here: `derive list` starts without it

    number = _DRAW.get()
    return np.random.default_rng([*key, *([number] if number else [])])


def seed(key: int) -> int:
    """The seed that a check hands to a simulator."""
    return key + 1_000_003 * _DRAW.get()
