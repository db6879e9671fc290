"""A definition is watched while it runs, and whoever watched before goes on."""

from __future__ import annotations

import cProfile
import pstats
import sys

from derive.registry import find, load


def test_a_derivation_can_be_profiled() -> None:
    """Until Python 3.11 cProfile is an object that cannot be handed back as a function."""
    from derive.methods.gaussian_closure.derivation import derive

    model = load(find("linear_closure"))
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        derive(model)
    finally:
        profiler.disable()
    seen = {name for _, _, name in pstats.Stats(profiler).stats}  # type: ignore[attr-defined]
    assert {"call", "canonical"} <= seen and sys.getprofile() is None


def test_a_function_that_watched_before_goes_on() -> None:
    from derive.notation.closures.model import trace_closure

    seen: list[str] = []

    def watch(frame: object, event: str, argument: object) -> None:
        seen.append(event)

    model = load(find("linear_closure"))
    sys.setprofile(watch)
    try:
        trace_closure(model)
        assert sys.getprofile() is watch
    finally:
        sys.setprofile(None)
    assert seen
