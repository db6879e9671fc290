"""Substitution, limits and series of an equation in a parameter, term by term and proven.

The products of an index expression in normal form are independent as functions of generic tensors,
so what holds of every coefficient holds of the sum, and only then.  An array graph is a sum of
scalars times arrays, which need not be independent: what holds of every scalar holds of the sum.  A
parameter that also sits inside a factor (a response, an exponential) is refused: the coefficients
do not say it all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn, Protocol

import sympy as sp

from derive.calculus.arrays.algebra import Algebra
from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.text import show_term
from derive.emit.common.array_written import line
from derive.errors import RequestError
from derive.face import values
from derive.face.entries import closure_of, dims_of
from derive.face.symbols import symbols_in
from derive.notation.common.arrays import Array, walk
from derive.notation.common.scalars import Opaque, Param


class Home(Protocol):
    """A derivation: what its defined tensors mean, and what builds its array graphs."""

    @property
    def book(self) -> Book: ...
    @property
    def algebra(self) -> Algebra: ...
    @property
    def symbols(self) -> Mapping[str, sp.Symbol]: ...


def symbol_of(name: Any, value: Any, home: Home) -> sp.Symbol:
    """The parameter of this name in an equation, or in another of the model: what does not depend
    on it is constant.  Raises RequestError with those that there are."""
    name, book = str(name), home.book
    found = {s.name: s for s in symbols_in(value) if not isinstance(s, Opaque)}
    if isinstance(value, Expression):
        for tensor in closure_of(value.tensors(), book):
            bodies = book.of[tensor].bodies if tensor in book.of else ()
            found |= {s.name: s for s in symbols_in((tensor, *bodies))}
        running = {d.name for d in dims_of(value, book)}
        if name in running:
            raise RequestError(
                f"{name} is a dimension that sums run over, not a number in a coefficient; "
                f"entries at a size: .sympy({name}=2)"
            )
        found = {n: s for n, s in found.items() if n not in running}
    if name not in found and isinstance(home.symbols.get(name), Param):
        return home.symbols[name]
    if name not in found:
        there = ", ".join(sorted(n for n, s in found.items() if isinstance(s, Param))) or "none"
        raise RequestError(f"{name} does not occur in this equation; its parameters: {there}")
    return found[name]


def on_coefficients(
    value: Any, symbol: sp.Symbol, home: Home, rule: Callable[[sp.Expr], sp.Expr]
) -> Any:
    """A rule applied to every coefficient; `rule` raises RequestError where it does not hold."""
    if isinstance(value, sp.Expr):
        return rule(value)
    if not isinstance(value, Expression):
        return tuple(_of_graph(array, symbol, home.algebra, rule) for array in value)
    for tensor in closure_of(value.tensors(), home.book):
        bodies = home.book.of[tensor].bodies if tensor in home.book.of else ()
        if symbol in symbols_in((tensor, *bodies)):
            _refuse(symbol, tensor.name)
    terms = [
        _told(lambda c: rule(_opened(c)), c, partial(show_term, value, place))
        for place, (c, _) in enumerate(value.terms)
    ]
    pairs = [(c, factors) for c, (_, factors) in zip(terms, value.terms, strict=True)]
    return Expression(value.free, tuple((c, f) for c, f in pairs if c != 0))


def _of_graph(
    root: Array, symbol: sp.Symbol, algebra: Algebra, rule: Callable[[sp.Expr], sp.Expr]
) -> Array:
    """A graph as a sum of scalars times arrays, the rule applied to the scalars."""
    terms: dict[Array, sp.Expr] = {}
    for array, coefficient in algebra.terms(root).items():
        if symbol in symbols_in(array):
            _refuse(symbol, line(array))
        terms[array] = _told(rule, coefficient, partial(line, array))
    return algebra.spread(algebra.combine(terms, root.shape), root.shape)


def _refuse(symbol: sp.Symbol, inside: str) -> NoReturn:
    raise RequestError(
        f"{symbol} also sits inside {inside}, of which the coefficients know nothing: take "
        "entries first, .sympy(...) with the sizes"
    )


def _told(
    rule: Callable[[sp.Expr], sp.Expr], coefficient: sp.Expr, term: Callable[[], str]
) -> sp.Expr:
    try:
        return rule(coefficient)
    except RequestError as problem:
        raise RequestError(f"{problem}, in the term {term()}") from None


def _opened(coefficient: sp.Expr) -> sp.Expr:
    while opaque := coefficient.atoms(Opaque):
        coefficient = coefficient.xreplace({s: s.value for s in opaque})
    return coefficient


def substituted(value: Any, given: Mapping[str, Any], home: Home) -> Any:
    """The parameters at exact values: numbers or expressions."""
    for name, number in given.items():
        symbol = symbol_of(name, value, home)
        at = values.exact(name, number, home.symbols)
        values.require_admissible(symbol, at)
        if isinstance(value, tuple):
            value = tuple(_in_graph(array, symbol, at) for array in value)
        else:
            value = on_coefficients(value, symbol, home, _put(symbol, at))
    return value


def _put(symbol: sp.Symbol, at: sp.Expr) -> Callable[[sp.Expr], sp.Expr]:
    return lambda coefficient: _finite(coefficient.subs(symbol, at), symbol, at)


def _finite(found: sp.Expr, symbol: sp.Symbol, at: sp.Expr) -> sp.Expr:
    if found.has(sp.oo, -sp.oo, sp.zoo, sp.nan, sp.AccumBounds):
        raise RequestError(f"there is no finite value at {symbol} = {at}")
    return found


def _in_graph(root: Array, symbol: sp.Symbol, value: sp.Expr) -> Array:
    """A graph with a scalar put in, wherever it stands."""
    done: dict[Array, Array] = {}
    for array in walk(root):
        args, data = tuple(done[a] for a in array.args), array.data
        if array.op == "full":
            data = data.subs(symbol, value)
        elif array.op == "function" and symbol in data[1].expr.free_symbols:
            data = (data[0], data[1].subs(symbol, value))
        same = args == array.args and data is array.data
        done[array] = array if same else Array(array.op, args, array.shape, data, array.place)
    return done[root]


def limit(value: Any, name: str, at: Any, home: Home) -> Any:
    """The limit of every coefficient; RequestError, with the term, where one has none."""
    symbol = symbol_of(name, value, home)
    at = values.exact(name, at, home.symbols)
    values.require_admissible(symbol, at, ends=True)

    def rule(coefficient: sp.Expr) -> sp.Expr:
        try:
            return _finite(sp.limit(coefficient, symbol, at, _side(symbol, at)), symbol, at)
        except ValueError:
            raise RequestError(f"the limits at {symbol} -> {at} from two sides differ") from None
        except NotImplementedError:
            raise RequestError(f"SymPy finds no limit at {symbol} -> {at}") from None

    return on_coefficients(value, symbol, home, rule)


def _side(symbol: sp.Symbol, at: sp.Expr) -> str:
    """From inside a parameter's range at its ends, from both sides elsewhere."""
    if not isinstance(symbol, Param) or at.is_infinite:
        return "+" if at.is_infinite else "+-"
    if at == symbol.range.high:
        return "-"
    return "+" if at == symbol.range.low else "+-"


def series(value: Any, name: str, order: int, home: Home, about: Any = 0) -> Any:
    """Every coefficient through the power `order` of (parameter - about)."""
    symbol = symbol_of(name, value, home)
    centre = values.exact(name, about, home.symbols)
    values.require_admissible(symbol, centre, ends=True)
    if not isinstance(order, int) or isinstance(order, bool) or order < 0:
        raise RequestError(f"order {order!r}: a power series ends with a power 0, 1, 2, ...")
    if centre.is_infinite:
        raise RequestError(f"a power series has a finite centre, not {symbol} = {centre}")
    sides = {"+": (1,), "-": (-1,), "+-": (1, -1)}[_side(symbol, centre)]

    def rule(coefficient: sp.Expr) -> sp.Expr:
        found = [_expanded(coefficient, symbol, centre, order, side) for side in sides]
        if any(sp.expand(f - found[0]) != 0 for f in found[1:]):
            raise RequestError(f"the power series in {symbol} about {centre} from two sides differ")
        return found[0]

    return on_coefficients(value, symbol, home, rule)


def _expanded(
    coefficient: sp.Expr, symbol: sp.Symbol, centre: sp.Expr, order: int, side: int
) -> sp.Expr:
    """The power series on one side, +1 or -1, of the centre: SymPy expands about 0 from above."""
    step = sp.Symbol(symbol.name, positive=True)
    shifted = coefficient.subs(symbol, centre + side * step)
    try:
        found = sp.expand(sp.series(shifted, step, 0, order + 1).removeO())
    except (NotImplementedError, ValueError):
        raise RequestError(f"there is no power series in {symbol} about {centre}") from None
    exponents = [t.as_coeff_exponent(step)[1] for t in sp.Add.make_args(found)]
    if any(not e.is_Integer or e < 0 for e in exponents):
        raise RequestError(f"the expansion in {symbol} about {centre} is no power series")
    return sp.expand(found.subs(step, side * (symbol - centre)))
