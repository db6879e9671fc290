"""Reads the named arrays of a control problem off their declarations, "x[N, d] on sphere"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from derive.errors import DefinitionError, Place, Refusal
from derive.notation.common.names import identifier, literal_size, nearest
from derive.notation.common.scalars import Dim


@dataclass(frozen=True)
class Slot:
    """A named array of a problem: `kind` is "", "symmetric", "sphere" (rows of norm one),
    "positive" (entries above zero; of data alone) or "constant" (a control constant in time)."""

    name: str
    shape: tuple[Dim, ...]
    kind: str = ""


_SLOT = re.compile(r"\s*(\w+)\s*(?:\[([\w\s,]*)\])?\s*(symmetric|on sphere|positive|constant)?\s*$")


def slots(text: str, word: str, dims: Mapping[str, Dim], place: Place) -> tuple[Slot, ...]:
    """The arrays that `word` ("state", "control" or "data") declares by a comma-separated text."""
    parts = re.split(r",(?![^\[]*\])", text)
    return tuple(_slot(part, text, word, dims, place) for part in parts if part.strip())


def _slot(part: str, text: str, word: str, dims: Mapping[str, Dim], place: Place) -> Slot:
    match = _SLOT.match(part)
    if not match:
        raise DefinitionError(
            f'{word}={text!r}: {part.strip()!r} is not of the form "x[N, d]", '
            '"S[d, d] symmetric" or "x[n, d] on sphere"',
            place,
        )
    name, inside, kind = match.groups()
    name = identifier(name, word, place)
    sizes = [w.strip() for w in (inside or "").split(",") if w.strip()]
    for size in sizes:
        if size.isdigit():
            raise DefinitionError(literal_size(f"{word}={text!r}", size), place)
        if size not in dims:
            raise DefinitionError(
                f"{word}={text!r} uses the dimension {size}, which is not declared"
                f'{nearest(size, list(dims))}; declare it: {size} = dims("{size}: meaning")',
                place,
            )
    if len(sizes) > 2:
        one = ", ".join(sizes[1:])
        raise DefinitionError(
            f"{name} has more than two dimensions; a stack is written out, one array each: "
            f'{word}="{name}_1[{one}], {name}_2[{one}]"',
            place,
        )
    slot = Slot(name, tuple(dims[s] for s in sizes), (kind or "").replace("on ", ""))
    _check_kind(slot, f"{word}={text!r}", word, inside, place)
    return slot


def _check_kind(slot: Slot, said: str, word: str, inside: str | None, place: Place) -> None:
    name, shape, kind = slot.name, slot.shape, slot.kind
    if kind == "symmetric" and (len(shape) != 2 or shape[0] != shape[1]):
        raise DefinitionError(f"{name} is declared symmetric, but is not square", place)
    if kind == "constant" and word != "control":
        raise DefinitionError(f"{said}: controls alone may be constant", place)
    if kind in ("sphere", "positive") and (kind == "positive") != (word == "data"):
        raise DefinitionError(f"{said}: {name} cannot be {kind}", place)
    if word == "control" and kind == "sphere":
        raise Refusal(
            f"the control {name} is declared on the sphere: the law of a control is a minimum "
            "over all directions; make it a state with a rate as control, or leave out the "
            "sphere and price its size",
            place,
        )
    if word == "control" and kind == "symmetric":
        raise Refusal(
            f"the control {name} is declared symmetric; declare {name}[{inside}] and write "
            f"({name} + {name}.T) / 2 in the dynamics: its price makes the other part vanish",
            place,
        )
    if kind == "sphere" and not shape:
        raise DefinitionError(f"{name} is declared on the sphere, but is a scalar", place)
