"""Some of the registered models that stand for all: one a method and feature.

For tests that ask the same of every model.  A feature is an equation that the kernel states, or a
part of its specification that is there or is not; models are taken from the shortest kernel up, as
long as one adds a feature of its method.  The others are asked in the slow tests.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from derive.entry import Entry, generated_folder
from derive.registry import registered

Feature = tuple[str, str, bool]


def features(entry: Entry) -> set[Feature]:
    """Parts that are numbered (`G_1`, `G_2`) are one feature."""
    module = importlib.import_module(f"derive.generated.{entry.name}")
    named = {re.sub(r"_\d+$", "", name) for name in module.EQUATIONS}
    found = {(entry.method, f"equation {name}", True) for name in named}
    spec = getattr(module, "_SPEC", None)
    parts = fields(spec) if spec is not None else ()
    return found | {(entry.method, p.name, _is_there(getattr(spec, p.name))) for p in parts}


def _is_there(part: Any) -> bool:
    return part is not None and part is not False and part != () and part != {}


@cache
def representatives() -> frozenset[str]:
    def length(entry: Entry) -> int:
        return Path(generated_folder() / f"{entry.name}.py").stat().st_size

    seen: set[Feature] = set()
    taken = set()
    for entry in sorted(registered(), key=length):
        if not features(entry) <= seen:
            taken.add(entry.name)
            seen |= features(entry)
    return frozenset(taken)


def spread(name: str, value: Any = None) -> Any:
    """A parameter of a test, slow but for the representatives; `value`: what the test is given."""
    marks = [] if name in representatives() else [pytest.mark.slow]
    return pytest.param(name if value is None else value, marks=marks)
