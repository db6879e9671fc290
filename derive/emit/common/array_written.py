"""Array graphs as equations of matrices, in text and in LaTeX.

Input: a graph and the names of its parts.  Output: an equation.  A part that is long gets a name if
it stands in several places, or if the definition names it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import sympy as sp

from derive.calculus.written.dialect import TEXT, Dialect
from derive.calculus.written.equation import Written
from derive.calculus.written.spelling import NAMES, Words, joined
from derive.emit.common.array_matrices import Matrices, Rows, parts, symbol
from derive.notation.common.arrays import Array, below

MOST_TWICE, MOST_ONCE = 2, 5  # letters of a part that is written where it stands
WIDE = 92  # characters of a line of text
PLAIN = ("leaf", "full", "eye", "constant", "transpose", "expand")  # has no name of its own


def written(
    left: str,
    root: Array,
    names: Mapping[Array, str],
    dialect: Dialect = TEXT,
    symmetric: Collection[Array] = (),
    avoid: Collection[str] = (),
) -> Written:
    """`left` = root; `symmetric`: leaves that are their own transposes; `avoid`: names that parts
    may not take."""
    order = below(root, parts)
    given = {*avoid, *(str(a.data) for a in order if a.op == "leaf")}
    given |= {s.name for a in order for s in _scalars(a)}
    unit = "Id" if "I" in given else "I"
    given.add(unit)
    w = Words(dialect, given | {names[a] for a in order if a in names})
    writer, used = Matrices(w, symmetric, unit), _uses(order)
    where = []
    for array in order:
        writer.write(array)
        wish = "" if names.get(array, "").endswith("_bar") else names.get(array, "")
        most = MOST_TWICE if used[array] > 1 else MOST_ONCE if wish else 10**6
        if array is root or array.op in PLAIN or writer.weight[array] <= most:
            continue
        free = sum(s != 1 for s in array.shape)
        name = wish if wish and wish not in given else w.fresh(NAMES[free])
        given.add(name)
        words = symbol(name) if dialect.is_latex else name
        where.append(f"{words} = {joined(writer.rows(array))}")
        writer.call(array, words)
    return Written(left, _lines(left, writer.rows(root), dialect), tuple(reversed(where)))


def line(root: Array) -> str:
    """A graph as one line of text."""
    return written("", root, {}).text.removeprefix(" = ")


def _uses(order: list[Array]) -> Counter[Array]:
    """In how many places the text of a node stands."""
    used: Counter[Array] = Counter()
    for array in reversed(order):
        times = used[array] if array.op in ("transpose", "expand") else 1
        used.update({arg: times for arg in set(parts(array))})
        if array.op == "multiply" and array.args[0] is array.args[1]:
            used[array.args[0]] += times
    return used


def _scalars(array: Array) -> set[sp.Symbol]:
    """Symbols in a number or in a function's body."""
    if array.op == "full":
        return set(array.data.free_symbols)
    return set(array.data[1].free_symbols) if array.op == "function" else set()


def _lines(left: str, rows: Rows, dialect: Dialect) -> tuple[str, ...]:
    """The right side, one line in LaTeX; in text broken between terms where it is too wide."""
    if dialect.is_latex or len(left) + len(joined(rows)) < WIDE:
        return (joined(rows),)
    lines, width = [[rows[0]]], len(left)
    for row in rows[1:]:
        if width + len(joined([*lines[-1], row])) < WIDE:
            lines[-1].append(row)
        else:
            lines, width = [*lines, [row]], 4
    first, *others = lines
    return (joined(first), *(" ".join(f"{s} {w}" for s, w in line) for line in others))
