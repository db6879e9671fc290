"""Dimensions and parameters of a definition are SymPy symbols that carry their declaration.

Input: declarations such as ``"n_k: key width"`` and ``"gamma: in (0, 1)"``.  Output: SymPy symbols
that carry their declaration.  This is the one place where symbols are made, so that equal names
carry equal assumptions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mpmath
import sympy as sp

from derive.errors import DefinitionError
from derive.notation.common.names import identifier


class Dim(sp.Symbol):
    """A symbolic dimension: `scaling` says how it behaves as the width grows.

    "fixed": stays finite; "proportional": a fixed multiple of the width; "free": either (the
    limit must then not depend on it, and the derivation refuses if it does).
    """

    meaning: str
    scaling: str | None

    def __new__(cls, name: str, meaning: str = "", scaling: str | None = None) -> Dim:
        self = sp.Symbol.__xnew__(cls, name, positive=True, integer=True)
        self.meaning, self.scaling = meaning, scaling
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.name, self.meaning, self.scaling), {}


class Share(Dim):
    """The dimension `whole / count`, as in the columns n / H of one of H heads."""

    whole: Dim
    count: Dim

    def __new__(cls, whole: Dim, count: Dim) -> Share:
        self = sp.Symbol.__xnew__(cls, f"{whole}/{count}", positive=True, integer=True)
        self.meaning, self.scaling = f"{whole} / {count}", None
        self.whole, self.count = whole, count
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.whole, self.count), {}

    def of(self, whole: float, count: float) -> int:
        """The size; `ValueError` if the count does not divide the whole."""
        if whole % count:
            raise ValueError(
                f"{self.count} = {count:g} does not divide {self.whole} = {whole:g}, but the "
                f"definition has arrays of size {self.whole} / {self.count}"
            )
        return int(whole // count)


def extent(dim: sp.Expr) -> sp.Expr:
    """A dimension as a scalar: a share is a quotient."""
    return dim.whole / dim.count if isinstance(dim, Share) else dim


def size(dim: sp.Expr, values: Mapping[sp.Symbol, float]) -> int:
    """A dimension as a number."""
    if isinstance(dim, Share):
        return dim.of(values[dim.whole], values[dim.count])
    return int(values[dim])


def as_dim(value: sp.Expr) -> sp.Expr:
    """A quotient n / H of declared dimensions as a dimension; anything else as it is."""
    top, bottom = sp.fraction(value) if isinstance(value, sp.Expr) else (value, None)
    if isinstance(top, Dim) and isinstance(bottom, Dim):
        return Share(top, bottom)
    return value


@dataclass(frozen=True)
class Range:
    """An interval of admissible values; infinite upper ends include inf (a limit)."""

    low: float
    high: float
    low_open: bool
    high_open: bool
    text: str

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below


class Param(sp.Symbol):
    """A scalar parameter with the range of values for which the definition makes sense."""

    meaning: str
    range: Range
    varying: bool  # along the depth

    def __new__(cls, name: str, range: Range, meaning: str = "") -> Param:
        positive = range.low > 0 or (range.low == 0 and range.low_open)
        assumptions = {"positive": True} if positive else {"real": True}
        if not positive and range.low == 0:
            assumptions = {"nonnegative": True}
        self = sp.Symbol.__xnew__(cls, name, **assumptions)
        self.meaning, self.range = meaning, range
        self.varying = "depends on depth" in meaning
        return self

    def _hashable_content(self) -> tuple[Any, ...]:
        """SymPy's caches hand out one of equal symbols: those of another range are others."""
        r = self.range
        own = (r.low, r.high, r.low_open, r.high_open, self.varying)
        return (*super()._hashable_content(), own)

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.name, self.range, self.meaning), {}


def dims(*declarations: str) -> Dim | tuple[Dim, ...]:
    """Declare dimensions: ``m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")``.

    After the meaning, a comma and "fixed" or "proportional" says how the dimension scales with
    the width; without it the limit must hold either way.
    """
    made = tuple(_dim(text) for text in declarations)
    _reject_duplicates(made, "dims")
    return made[0] if len(made) == 1 else made


def params(*declarations: str) -> Param | tuple[Param, ...]:
    """Declare scalar parameters: ``gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")``.

    Ranges: "positive", "nonnegative", "real", "in (a, b)" with round or square brackets; a
    comma and words may follow; "depends on depth" lets it be a function of t at run time.
    """
    made = tuple(_param(text) for text in declarations)
    _reject_duplicates(made, "params")
    return made[0] if len(made) == 1 else made


def _dim(text: str) -> Dim:
    name, meaning = _split(text, "dims")
    scaling = None
    head, _, last = meaning.rpartition(",")
    word = last.strip().split(" ")[0]
    if word in ("fixed", "proportional"):
        meaning, scaling = head.strip() or meaning, word
    return Dim(name, meaning, scaling)


_INTERVAL = re.compile(r"in\s*([\[(])\s*([^,]+),\s*([^\])]+)\s*([\])])")


def _param(text: str) -> Param:
    name, rest = _split(text, "params")
    match = _INTERVAL.search(rest)
    if match:
        left, low, high, right = match.groups()
        try:
            ends = [math.inf if e.strip() == "inf" else float(sp.Rational(e)) for e in (low, high)]
        except (TypeError, ValueError) as problem:
            raise DefinitionError(
                f"params: cannot read the range in {text!r}: {problem}; "
                'write for instance "gamma: in (0, 1)"'
            ) from None
        if not ends[0] < ends[1]:
            raise DefinitionError(f"params: the range in {text!r} is empty")
        allowed = Range(ends[0], ends[1], left == "(", right == ")", match.group(0))
        if math.isinf(ends[1]):
            allowed = Range(ends[0], ends[1], left == "(", False, match.group(0))
        meaning = rest.replace(match.group(0), "").strip(" ,")
        return Param(name, allowed, meaning)
    words = re.split(r"[,\s]+", rest)
    if "positive" in words:
        return Param(name, Range(0.0, math.inf, True, False, "positive"), rest)
    if "nonnegative" in words:
        return Param(name, Range(0.0, math.inf, False, False, "nonnegative"), rest)
    if "real" in words:
        return Param(name, Range(-math.inf, math.inf, True, True, "real"), rest)
    raise DefinitionError(
        f"params: {text!r} gives no range; add one of: positive, nonnegative, real, in (a, b)"
    )


def _split(text: str, caller: str) -> tuple[str, str]:
    name, colon, rest = text.partition(":")
    name = name.strip()
    if not colon or not name.isidentifier():
        raise DefinitionError(
            f'{caller}: {text!r} is no declaration; write "name: meaning", for instance "n: width"'
        )
    what = {"dims": "dimension", "params": "parameter"}[caller]
    return identifier(name, what), rest.strip()


def _reject_duplicates(made: tuple[sp.Symbol, ...], caller: str) -> None:
    names = [s.name for s in made]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DefinitionError(f"{caller}: {', '.join(twice)} declared twice")


_DIGITS = 60  # widths of 1e16 cancel against one another


def number(expression: sp.Expr, values: Mapping[sp.Symbol, float]) -> float:
    """A scalar expression at numbers for its symbols, evaluated with many digits."""
    value = _precise(expression, values)
    if value.is_number and not value.is_real:
        while hidden := expression.atoms(Opaque):
            expression = expression.xreplace({s: s.value for s in hidden})
        at = ", ".join(f"{s} = {values[s]:.3g}" for s in sorted(expression.free_symbols, key=str))
        raise DefinitionError(
            f"{expression} is not real at {at}, which the declared ranges allow; narrow them"
        )
    return float(value)


def _precise(expression: sp.Expr, values: Mapping[sp.Symbol, float]) -> sp.Expr:
    free = expression.free_symbols
    exactly: dict[sp.Symbol, sp.Expr] = {
        s: sp.Float(v, _DIGITS) for s, v in values.items() if s in free
    }
    for symbol in expression.atoms(Opaque) - set(values):
        exactly[symbol] = _precise(symbol.value, values)
    return sp.N(expression.xreplace(exactly), _DIGITS)


class Opaque(sp.Symbol):
    """A symbol that stands for `value`, a scalar in the width (see `calculus.limit.opaque`)."""

    value: sp.Expr

    def __new__(cls, name: str, value: sp.Expr) -> Opaque:
        positive = value.is_Pow and value.exp in (sp.Rational(1, 2), -sp.Rational(1, 2))
        self = sp.Symbol.__xnew__(cls, name, **({"positive": True} if positive else {"real": True}))
        self.value = value
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.name, self.value), {}


class GaussianMean(sp.Function):
    """E f(g) for one standard normal g: arguments g and f(g)."""

    @classmethod
    def eval(cls, g: sp.Symbol, body: sp.Expr) -> sp.Expr | None:
        return None if body.has(g) else body

    @property
    def free_symbols(self) -> set[sp.Symbol]:
        return self.args[1].free_symbols - {self.args[0]}

    def _eval_is_real(self) -> bool:
        return True

    def _eval_evalf(self, precision: int) -> sp.Float:
        g, body = self.args
        f = sp.lambdify(g, body * sp.exp(-(g**2) / 2) / sp.sqrt(2 * sp.pi), "mpmath")
        key = (body, precision)
        if key not in _MEANS:
            with mpmath.workprec(precision):
                edges = [-18, -9, -4, 0, 4, 9, 18]
                _MEANS[key] = sp.Float(mpmath.quad(f, edges), precision=precision)
        return _MEANS[key]


_MEANS: dict[tuple[sp.Expr, int], sp.Float] = {}
