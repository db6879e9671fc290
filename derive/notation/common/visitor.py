"""Rules for operations of array graphs are methods, one an operation."""

from __future__ import annotations

from typing import Any

from derive.notation.common.arrays import Array


class Visitor:
    """A method `op_NAME` is the rule for the operation NAME."""

    def of(self, array: Array, *more: Any) -> Any:
        """What the rule says of a node; whoever calls has visited its arguments."""
        return getattr(self, f"op_{array.op}", self.unknown)(array, *more)

    def unknown(self, array: Array, *more: Any) -> Any:
        """Raises KeyError: an operation without a rule is never guessed at."""
        raise KeyError(array.op)
