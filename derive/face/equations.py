"""A derivation as a Python object: its equations by name, its steps, its facts, its code."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import sympy as sp

from derive.calculus.arrays.algebra import Algebra
from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression, single
from derive.calculus.index.factors import Index
from derive.derivation import derived, rendered
from derive.dispatch import method
from derive.emit.common.document import Document, Shown
from derive.emit.common.unicode import with_signs
from derive.entry import Entry
from derive.errors import RequestError
from derive.face.comparing import Difference, differences
from derive.face.equation import Equation, aligned, generic
from derive.face.symbols import symbols_in
from derive.methods.common.record import Fact, Step, require_sound
from derive.notation.common.arrays import Array
from derive.notation.common.scalars import Opaque
from derive.process import has_signs
from derive.registry import as_typed, find
from derive.site.formats import WHOLE, formatted
from derive.site.gathered import beside


def derive(model: Any, *, limit: float = 0.0) -> Equations:
    """The equations of a model's limit.

    **Arguments:** `model`: a decorated function (of a file, a session, a notebook cell), a
    registered name, or a path, ``"file.py"`` or ``"file.py:name"``.  `limit`: seconds after which
    the whole process is stopped if nothing else helps; 0: none, interrupt it yourself.

    Raises DefinitionError, with the place, for what is no definition; Refusal where the method does
    not reach it; CheckFailed where a step contradicts its own numeric check; RequestError for a
    model that is not there.

    >>> eq = derive.derive("shaped_attention")
    >>> eq.drift.sympy(m=2)
    """
    entry = find(model)
    found = Equations(entry, derived(entry, limit))
    found.require_sound()
    return found


class Record(tuple[Step, ...]):
    """The steps of a derivation; shown as lines."""

    def __repr__(self) -> str:
        return "\n".join(f"{n}. {_line(step)}" for n, step in enumerate(self, 1))

    def _repr_html_(self) -> str:
        return f"<ol>{''.join(f'<li>{html.escape(_line(step))}</li>' for step in self)}</ol>"


def _line(step: Step) -> str:
    if step.check is None:
        return f"{step.name}: {step.rule}; no check of its own"
    word = "passed" if step.check.passed else "FAILED"
    return f"{step.name}: {step.rule}; check {word}, residual {step.check.residual:.0e}"


class Facts(tuple[Fact, ...]):
    """Findings in words; each carries its check.  Shown as lines."""

    def __repr__(self) -> str:
        return "\n".join(f"- {fact}" for fact in self)

    def _repr_html_(self) -> str:
        return f"<ul>{''.join(f'<li>{html.escape(fact)}</li>' for fact in self)}</ul>"


class Equations:
    """What was derived of a model; every equation is an attribute (`eq.drift`, `eq.velocity`).

    `names`: of the equations; `name`, `title`, `method`: of the model; `result`: the derivation
    itself; `steps`, `facts`: its record; `code`: the text of its kernel.  A notebook shows the
    equations as mathematics, a terminal as text.
    """

    def __init__(self, entry: Entry, result: Any) -> None:
        self.entry, self.result = entry, result
        self.name, self.method = entry.name, entry.method

    def require_sound(self) -> None:
        """Raise CheckFailed where a step or a fact contradicts its own check."""
        require_sound(self.result.steps, self.name, self.result.facts, as_typed(self.entry))

    def report(
        self, form: str = "text", steps: bool = False, view: str = "", signs: bool = False
    ) -> str:
        """The whole report as `derive show` gives it.

        **Arguments:** `form`: text, latex (an appendix that compiles), html (a page) or json;
        `steps`: the record of the steps, which latex and html always have; `view`: one of the
        method's other reports; `signs`: text with the signs of mathematics.  Raises KeyError for
        another form.
        """
        whole = (steps or form in WHOLE) and not view
        document = method(self.method).document(self.result, whole, view)
        return formatted(form, document, beside(self.entry), with_signs if signs else str)

    @cached_property
    def document(self) -> Document:
        """The report that all formats are made of."""
        return method(self.method).document(self.result)

    @property
    def title(self) -> str:
        """The first line of the definition's docstring, or the model's name."""
        return self.document.title or self.name

    @property
    def book(self) -> Book:
        """What defined tensors mean, in methods that have any."""
        return getattr(self.result, "book", None) or Book()

    @property
    def algebra(self) -> Algebra:
        """What builds array graphs, in methods that work on them."""
        return getattr(self.result, "algebra", None) or Algebra()

    @cached_property
    def symbols(self) -> Mapping[str, sp.Symbol]:
        """Parameters and dimensions of the equations by name."""
        values = list(self.result.equations.values())
        return {s.name: s for s in symbols_in(values) if not isinstance(s, Opaque)}

    @property
    def steps(self) -> Sequence[Step]:
        """The steps of the derivation with their checks, shown as lines."""
        return Record(self.result.steps)

    @property
    def facts(self) -> Sequence[Fact]:
        """Findings in words, each with its check, shown as lines."""
        return Facts(self.result.facts)

    @cached_property
    def code(self) -> str:
        """The text of the generated module."""
        return rendered(self.entry, self.result, 0.0)

    @cached_property
    def _equations(self) -> dict[str, Equation]:
        values = {t.name: _of_tensor(t) for t in self.book.of} | dict(self.result.equations)
        shown = self.document.equations
        names = [*dict.fromkeys(_owner(s, values) for s in shown)]
        names += [n for n in self.result.equations if n not in names]
        return {n: self._equation(n, values.get(n)) for n in names}

    def _equation(self, name: str, value: Any) -> Equation:
        own = [s for s in self.document.equations if _owner(s, {name: value}) == name]
        if isinstance(value, list):
            value = tuple(value)
        return Equation(name, value, own or [generic(name, value)], self)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the equations, which are attributes."""
        return tuple(self._equations)

    def __iter__(self) -> Iterator[Equation]:
        return iter(self._equations.values())

    def __getitem__(self, name: str) -> Equation:
        try:
            return self._equations[name]
        except KeyError:
            raise KeyError(self._unknown(name)) from None

    def __getattr__(self, name: str) -> Equation:
        if not name.startswith("_") and name in self._equations:
            return self._equations[name]
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(self._unknown(name))

    def _unknown(self, name: str) -> str:
        return f"{self.name} has no equation {name!r}; it has {', '.join(self.names)}"

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.names})

    def redisplayed(self, name: str, value: Any) -> Sequence[Shown]:
        """How the report would show the equation `name` of another `value`; raises nothing."""
        changes: dict[str, Any] = {}
        there = getattr(self.result, "__dataclass_fields__", {})
        if name in there and getattr(self.result, name) is self.result.equations.get(name):
            changes[name] = value
        if "equations" in there:
            changes["equations"] = {**self.result.equations, name: value}
        if changes:
            changed = replace(self.result, **changes)
            if changed.equations.get(name) is value:
                own = [
                    s
                    for s in method(self.method).document(changed).equations
                    if _owner(s, {name: value}) == name
                ]
                if own:
                    return own
        return [generic(name, value)]

    def compare(self, other: Any) -> Difference:
        """The terms in which two derivations differ; `eq - other` is the same.

        `other`: `Equations`, or what `derive.derive` takes.  Terms of equal value are equal,
        however they are written.  Raises RequestError for models of two methods or two states.
        """
        if not isinstance(other, Equations):
            other = derive(other)
        if self.method != other.method:
            raise RequestError(
                f"{self.name} is of kind {self.method}, {other.name} of kind {other.method}: "
                "their equations are of different things"
            )
        kind = method(self.method)
        mine, yours = (kind.state(eq.result.model) for eq in (self, other))
        if mine != yours:
            raise RequestError(
                f"{self.name} is about {mine}, {other.name} about {yours}: no term of one stands "
                "for a term of the other"
            )
        first, second = (
            {e.name: (e.value, eq.book, e.name) for e in eq if e.name in eq.result.equations}
            for eq in (self, other)
        )
        names = (self.name, other.name if other.name != self.name else f"{other.name} (other)")
        both = {str(a.data) for a in self._symmetric} & {str(a.data) for a in other._symmetric}
        return Difference(names, differences(first, second, both))

    @property
    def _symmetric(self) -> Collection[Array]:
        """Arrays that the definition declares symmetric, in methods that work on array graphs."""
        return self.algebra.symmetric

    __sub__ = compare

    @property
    def text(self) -> str:
        """The report, as `derive show` prints it."""
        return self.report()

    @property
    def latex(self) -> str:
        """All equations as LaTeX, to stand in one display."""
        return aligned([(s.left, list(s.right)) for s in self.document.equations])

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return (
            f"<{self.name} ({self.method}): {', '.join(self.names)}; {len(self.result.steps)} "
            f"steps, {len(self.result.facts)} facts>"
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self) if cycle else self.report(signs=has_signs()))

    def _repr_latex_(self) -> str:
        return f"$${self.latex}$$"

    def _repr_html_(self) -> str:
        head = f"<h4>{html.escape(self.title)}</h4>"
        intro = "".join(f"<p>{html.escape(line)}</p>" for line in self.document.intro)
        parts = [(s.heading, aligned([(s.left, list(s.right))])) for s in self.document.equations]
        shown = (f"<h5>{html.escape(h)}</h5>$${html.escape(tex)}$$" for h, tex in parts)
        return head + intro + "".join(shown) + Facts(self.facts)._repr_html_()


def _owner(shown: Shown, values: Any) -> str:
    """The equation that an entry of a report shows: one of several parts says "NAME of PART"."""
    head, of, _ = shown.name.partition(" of ")
    return head if of and head in values else shown.name


def _of_tensor(tensor: Any) -> Expression:
    """A defined tensor as an expression over its own indices."""
    indices = tuple(Index("abcdefgh"[k], d) for k, d in enumerate(tensor.dims))
    return single(tensor[indices], indices)
