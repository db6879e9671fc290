"""One derived equation: shown as mathematics, and open to exact work on it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.written.dialect import LATEX, TEXT
from derive.calculus.written.short_form import short_form
from derive.emit.common import latex
from derive.emit.common.array_written import written
from derive.emit.common.document import Shown
from derive.emit.common.unicode import with_signs
from derive.errors import RequestError
from derive.face import ansatz as families
from derive.face import coefficients
from derive.face.entries import Entries, dims_of
from derive.face.graph_entries import Graph
from derive.face.graph_matrices import GraphMatrices
from derive.face.matrix_form import matrix_form
from derive.face.symbols import plain
from derive.notation.common.arrays import Array, walk
from derive.notation.common.scalars import Dim, Share
from derive.process import has_signs

if TYPE_CHECKING:
    from derive.face.equations import Equations


@dataclass(frozen=True)
class Equation:
    """An equation of a derivation.

    `name`; `value`: an index expression, the graphs of its parts, or a scalar; `shown`: what a
    report says of it; `having`: what was put in or taken since, in words.
    """

    name: str
    value: Any
    shown: Sequence[Shown]
    home: Equations
    having: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The equation as plain text."""
        rows = [row for shown in self.shown for row in shown.rows]
        return "\n".join([*rows, *(f"  at {word}" for word in self.having)])

    @property
    def latex(self) -> str:
        """LaTeX, to stand in a display: one line, or `aligned` lines."""
        return aligned([(s.left, list(s.right)) for s in self.shown])

    def __repr__(self) -> str:
        return self.text

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("..." if cycle else with_signs(self.text) if has_signs() else self.text)

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle {self.latex}$"

    def _repr_html_(self) -> str:
        said = "".join(f"<p>at {html.escape(word)}</p>" for word in self.having)
        return f"$${html.escape(self.latex)}$${said}"

    def sympy(self, **sizes: int) -> Any:
        """Exact entries at given dimensions, `drift.sympy(m=2)`.

        Symbols are named after the tensors (V_11, V_12, ... of a symmetric V) and the parameters.
        A scalar comes as an expression, one or two indices as a Matrix, more as an array; an
        equation of several parts as a tuple.  Raises RequestError for a size that is missing or
        that the equation does not have.
        """
        self._require_sizes(sizes)
        if isinstance(self.value, Expression):
            return shaped(Entries(self.home.book, sizes).of(self.value))
        if isinstance(self.value, tuple):
            graph = Graph(sizes, symmetric=self.home._symmetric)
            parts = [shaped(graph.of(part)) for part in self.value]
            return parts[0] if len(parts) == 1 else tuple(parts)
        if isinstance(self.value, sp.Expr):
            return plain(self.value)
        raise RequestError(f"{self.name} is {type(self.value).__name__}, which has no entries")

    @property
    def matrix(self) -> Any:
        """The equation in matrix form: a SymPy matrix expression of symbolic sizes.

        In MatrixSymbol V (m, m), Trace, HadamardProduct, DiagMatrix, DiagonalOf and OneMatrix,
        scalars outside; a vector is a matrix of one column, a scalar an expression, an equation of
        several parts a tuple.  Made of the short form that `text` shows, or of the array graph.
        At a size: `drift.matrix.subs(m, 2).as_explicit().doit()`.  Raises RequestError for more
        than two free indices and for a product, Refusal for a word, that has no matrix form.
        """
        if isinstance(self.value, Expression):
            return matrix_form(self.value, self.home.book)
        if isinstance(self.value, tuple):
            graph = GraphMatrices(symmetric=self.home._symmetric)
            parts = tuple(graph.of(part) for part in self.value)
            return parts[0] if len(parts) == 1 else parts
        if isinstance(self.value, sp.Expr):
            return plain(self.value)
        raise RequestError(f"{self.name} is {type(self.value).__name__}, which has no matrix form")

    def subs(self, **values: Any) -> Equation:
        """Parameters at exact values, `drift.subs(gamma=Rational(1, 2))`; numbers or expressions.

        Raises RequestError for a name that does not occur, for a value outside of its range, and
        where the parameter sits inside a factor as well.
        """
        value = coefficients.substituted(self.value, values, self.home)
        return self._with(value, ", ".join(f"{n} = {v}" for n, v in values.items()))

    def limit(self, **towards: Any) -> Equation:
        """The limit in a parameter, `drift.limit(tau_0=oo)`, of every term.

        Raises RequestError, with the term, where one has none or the parameter sits inside it.
        """
        value = self.value
        for name, at in towards.items():
            value = coefficients.limit(value, name, at, self.home)
        return self._with(value, ", ".join(f"{n} -> {v}" for n, v in towards.items()))

    def series(self, parameter: Any, order: int, about: Any = 0) -> Equation:
        """The equation through the power `order` of a parameter, `drift.series("gamma", 2)`.

        **Arguments:** `parameter`: a name or a symbol; `order`: a whole number; `about`: where the
        powers are taken.  Raises RequestError, with the term, where one has no power series.
        """
        value = coefficients.series(self.value, str(parameter), order, self.home, about)
        return self._with(value, f"the powers of {parameter} about {about} through {order}")

    def _with(self, value: Any, word: str) -> Equation:
        shown = self.home.redisplayed(self.name, value)
        return replace(self, value=value, shown=shown, having=(*self.having, word))

    def at(self, **given: families.Ansatz) -> Any:
        """The equation on a family of covariances, `drift.at(V=derive.equicorrelated)`.

        For a drift: `Rates`, the rates of the family's parameters in exact SymPy with the proof
        that the drift is tangent to the family at every m; or a Refusal with what leaves it.  For
        what is no rate of V: the equation with the family put in.  Raises RequestError for a
        name or a family that does not fit.
        """
        if not isinstance(self.value, Expression):
            raise RequestError(f"{self.name} is no index expression; take .sympy(...) entries")
        if len(given) != 1:
            raise RequestError("one covariance at a time: .at(V=derive.equicorrelated)")
        ((name, family),) = given.items()
        if not isinstance(family, families.Ansatz):
            raise RequestError(f"{name} takes a family, such as derive.equicorrelated")
        found = families.put_in(self.value, name, family, self.home.book)
        tensor = next(t for t in self.value.tensors() if t.name == name)
        if tuple(i.dim for i in found.free) == tensor.dims:
            return families.rates(found, name, family)
        return self._with(found, family.text(name))

    def _require_sizes(self, sizes: dict[str, int]) -> None:
        wanted, known = self._dims()
        missing = [n for n in wanted if n not in sizes]
        unknown = [n for n in sizes if n not in known]
        if unknown:
            raise RequestError(
                f"{self.name} has no dimension {', '.join(unknown)}; it has "
                f"{', '.join(known) or 'none'}"
            )
        if missing:
            call = ", ".join(
                [*(f"{n}={v}" for n, v in sizes.items()), *(f"{n}=2" for n in missing)]
            )
            raise RequestError(
                f"the size of {', '.join(missing)} is missing: .{self.name}.sympy({call})"
            )
        for name, size in sizes.items():
            if not isinstance(size, (int, sp.Integer)) or isinstance(size, bool) or size < 1:
                raise RequestError(f"{name}={size!r} is no size; give a whole number from 1 on")

    def _dims(self) -> tuple[list[str], list[str]]:
        """Names of dimensions that entries need, and of all that may be given."""
        needed: set[sp.Symbol] = set()
        more: set[sp.Symbol] = set()
        if isinstance(self.value, Expression):
            needed = dims_of(self.value, self.home.book)
            more = {s for c, _ in self.value.terms for s in c.free_symbols if isinstance(s, Dim)}
        elif isinstance(self.value, tuple):
            nodes: list[Array] = [a for part in self.value for a in walk(part)]
            needed = {s for a in nodes for d in a.shape for s in d.free_symbols}
        needed = {s for d in needed for s in _whole(d)}
        more = {s for d in more for s in _whole(d)}
        return sorted(d.name for d in needed), sorted({d.name for d in needed | more})


def _whole(dim: sp.Symbol) -> tuple[sp.Symbol, ...]:
    return (dim.whole, dim.count) if isinstance(dim, Share) else (dim,)


def shaped(entries: np.ndarray) -> Any:
    """A scalar, a Matrix (a column for a vector), or an array of more axes."""
    if entries.ndim == 0:
        return sp.sympify(entries.item())
    if entries.ndim == 1:
        return sp.ImmutableMatrix(len(entries), 1, list(entries))
    if entries.ndim == 2:
        return sp.ImmutableMatrix(entries.tolist())
    return sp.ImmutableDenseNDimArray(list(entries.ravel()), entries.shape)


def aligned(parts: Sequence[tuple[str, list[str]]]) -> str:
    """Equations as one display: each left side, and its right side in lines."""
    if len(parts) == 1 and len(parts[0][1]) <= 1:
        left, right = parts[0]
        return f"{left} = {(right or ['0'])[0]}"
    rows = []
    for left, right in parts:
        first, *others = right or ["0"]
        rows += [rf"{left} ={{}}& {first}", *(rf"& {row}" for row in others)]
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


def generic(name: str, value: Any) -> Shown:
    """How a value is shown that no report shows."""
    left = rf"\mathrm{{{latex.escape(name)}}}"
    if isinstance(value, Expression):
        form, tex = short_form(value, TEXT), short_form(value, LATEX)
        where = [f"    where {'; '.join(form.where)}"] if form.where else []
        rows = [f"{name}:", *(f"    {row}" for row in form.lines), *where]
        right = [
            *tex.lines,
            *([r"\text{where } " + r",\quad ".join(tex.where)] if tex.where else []),
        ]
        return Shown(name, rows, name, left, right, None)
    if isinstance(value, tuple):
        rows = [row for part in value for row in written(name, part, {}).rows]
        right = [row for part in value for row in written(left, part, {}, LATEX).display]
        return Shown(name, rows, name, left, right, None)
    return Shown(name, [f"{name} = {value}"], name, left, [sp.latex(value)], None)
