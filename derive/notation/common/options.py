"""A definition may come in several variants, chosen when its file is read.

``phi = option("phi", tanh=tanh, gelu=lambda x: 2 * gelu(x))`` makes one model for each value: the
first keeps the name of the function, the others add theirs (`shaped_smooth_mlp_gelu`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from derive.errors import DefinitionError

_choice: ContextVar[tuple[str, str] | None] = ContextVar("choice", default=None)


def option(name: str, **values: Any) -> Any:
    """The value under which the file is being read; the first one by default."""
    if not values:
        raise DefinitionError(
            f'option: give the values of {name}: option("{name}", tanh=tanh, ...)'
        )
    chosen = _choice.get()
    if chosen is not None and chosen[0] == name:
        return values[chosen[1]]
    return next(iter(values.values()))


@contextmanager
def choosing(choice: tuple[str, str] | None) -> Iterator[None]:
    """Read a file under a choice."""
    token = _choice.set(choice)
    try:
        yield
    finally:
        _choice.reset(token)
