"""Masks that stand in a sum: "up to" and "after" make one, and what is no mask alone is no mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from derive.derivation import derived, rendered
from derive.emit.token_flow.module import equations_text
from derive.gate import require_right
from derive.registry import find

TEXT = '''"""Ordered tokens."""
from derive.notation import *

d = dims("d: dimension")
beta = params("beta: positive")
Q, V = matrices(Q=(d, d), V=(d, d))


@{kind}
def ordered(x, y{more}):
    return average({value}, {weight})
'''
FLOW = 'token_flow(state="x[d]", on=sphere)', "y", "exp(beta * (x @ y))"
CLOSURE = 'gaussian_closure(state="x[d]")', "V @ y", "exp((Q @ x) @ y)"
BOTH, BONUS = "((tau <= s) + (tau > s)) * ", "(1 + (tau <= s)) * "
NESTED = "exp(beta * (x @ y) * (tau <= s)) * "


def checked(folder: Path, case: tuple[str, str, str], masks: str, more: str = ", s, tau") -> Any:
    """The derivation, once every function of its kernel has been compared."""
    kind, value, weight = case
    file = folder / "ordered.py"
    file.write_text(
        TEXT.format(kind=kind, value=value, weight=masks + weight, more=more), encoding="utf-8"
    )
    entry = find(str(file))
    result = derived(entry)
    require_right(result, rendered(entry, result), entry.method, entry.name)
    return result


@pytest.mark.parametrize(
    "masks", [BOTH, "((tau >= s) + (tau < s)) * ", "((s < tau) + (s >= tau)) * "]
)
def test_masks_that_make_one_are_none(masks: str, tmp_path: Path) -> None:
    """The equations are those of tokens without places, but for one that is not sought where the
    definition takes places."""
    plain = equations_text(checked(tmp_path, FLOW, "", ""))
    found = equations_text(checked(tmp_path, FLOW, masks))
    assert {**found, "contraction": plain["contraction"]} == plain


@pytest.mark.parametrize("masks", [BONUS, NESTED, "(tau <= s) * (1 + (tau < s)) * "])
def test_a_flow_moves_by_the_sum_of_its_masks(masks: str, tmp_path: Path) -> None:
    checked(tmp_path, FLOW, masks)


@pytest.mark.parametrize("masks", [BOTH, BONUS])
def test_particles_of_a_closure_move_by_the_sum_of_its_masks(masks: str, tmp_path: Path) -> None:
    checked(tmp_path, CLOSURE, masks)


def test_a_mask_in_the_value_is_no_mask_of_the_weights(tmp_path: Path) -> None:
    """The weights' sum is over all tokens, whatever the value keeps."""
    kind, _, weight = FLOW
    checked(tmp_path, (kind, "y * (tau <= s)", weight), "")
