"""The second reading of a control problem runs the same text on NumPy arrays and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from derive.errors import DefinitionError
from derive.notation.common.numeric import bound, vocabulary
from derive.notation.common.tracing import Rates, Run, running
from derive.notation.control.definition import ControlDefinition
from derive.notation.control.words import Problem, l1_norm, l2_norm

#: what stands for a norm of whole controls, given the word and the names of the controls
Norm = Callable[[str, tuple[str, ...]], float]


def run_problem(
    model: ControlDefinition,
    arrays: Mapping[str, np.ndarray],
    *,
    dims: Mapping[str, float],
    params: Mapping[str, float],
    rates: Rates,
    norm: Norm | None = None,
) -> Problem:
    """The value of the definition's text at arrays by name; `rates`: see `Run`."""

    def no_draw(*_: Any) -> np.ndarray:
        raise DefinitionError("a control problem draws no weights", model.place)

    words = vocabulary(no_draw, params)
    if norm is not None:
        controls = {id(arrays[s.name]): s.name for s in model.controls}
        words |= {f.__name__: _heard(f, controls, norm) for f in (l1_norm, l2_norm)}
    with running(Run(rates=rates)):
        found = bound(model.function, dims, params, words)(**arrays)
    still = tuple(np.zeros_like(arrays[s.name]) for s in model.constants)
    return replace(found, dynamics=(*found.dynamics, *still)) if still else found


def _heard(word: Callable[..., Any], controls: Mapping[int, str], norm: Norm) -> Callable[..., Any]:
    """The norm of whole controls (by the identity of their arrays) is what `norm` says."""

    def heard(*arrays: Any) -> Any:
        names = tuple(controls.get(id(a), "") for a in arrays)
        return norm(word.__name__, names) if all(names) else word(*arrays)

    return heard
