"""Classes of named fields, such as a generated module's `Params`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Record(Protocol):
    """A class that `NamedTuple` makes."""

    _fields: tuple[str, ...]

    def __call__(self, *values: Any, **named: Any) -> Any: ...


def by_name(kind: Record, given: Any) -> Any:
    """`given`, made a `kind` if it maps the names of parameters to values.

    Raises ValueError for names that are unknown or missing.
    """
    if not isinstance(given, Mapping):
        return given
    unknown = sorted(set(given) - set(kind._fields))
    missing = [n for n in kind._fields if n not in given]
    if unknown or missing:
        raise ValueError(
            f"parameters are {', '.join(kind._fields)}; unknown: {unknown}, missing: {missing}"
        )
    return kind(**given)
