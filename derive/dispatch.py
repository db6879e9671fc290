"""Which methods there are, found by the word of their decorator."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from derive import kinds
from derive.contract import Method

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "derive.methods"  # of entry points of other packages


@cache
def own() -> tuple[str, ...]:
    """Words of the methods that derive brings; imports none of them."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(kinds.__path__) if m.ispkg))


@cache
def _others() -> dict[str, EntryPoint]:
    """Methods of other packages.  Reading what is installed takes some hundredths of a second."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP) if point.name not in own()}


def words() -> tuple[str, ...]:
    """Words of all methods."""
    return (*own(), *sorted(_others()))


def known(word: str) -> bool:
    """Whether it is the word of a method; looks beyond our own only for what is not ours."""
    return word in own() or word in _others()


@cache
def method(word: str) -> Method:
    """The method of a decorator's word.  Raises KeyError for a word that is none."""
    if word in own():
        found: Method = import_module(f"derive.kinds.{word}").METHOD
        return found
    loaded: Method = _others()[word].load()
    return loaded
