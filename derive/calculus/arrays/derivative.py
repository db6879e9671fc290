"""Takes gradients and directional derivatives of array expressions at symbolic shapes.

Input: an interned expression (see `derive.calculus.arrays.algebra`) and the leaves to differentiate
by.  Output: expressions of the same kind.  `gradient` walks the graph once from the value to the
leaves (adjoint rules), `along` once from the leaves to the value (tangent rules); each operation
has one rule of each kind, and the two must agree: <w, along(y, dx)> = <gradient(<w, y>), dx>.

Elementwise functions are differentiated by SymPy.  A named operation such as softmax is
differentiated through its meaning, and its derivative rewritten in the operation's own value.
Derivatives of kinks are zero almost everywhere, and are zero here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import sympy as sp

from derive.calculus.arrays.algebra import Algebra
from derive.calculus.arrays.interned import ZERO
from derive.errors import Refusal
from derive.notation.common.arrays import ONE, Array, Shape, arguments, visible, walk, x_symbol
from derive.notation.common.visitor import Visitor
from derive.notation.common.words.elementwise import name_of
from derive.notation.common.words.word import WORDS


def gradient(algebra: Algebra, value: Array, leaves: Sequence[Array]) -> list[Array]:
    """Gradients of a scalar expression by `leaves`, each of its leaf's shape.

    A leaf that is declared symmetric gets the symmetrised gradient (Frobenius pairing).
    """
    assert value.shape == (), value.shape
    bars = backward(algebra, value, algebra.scalar(ONE), leaves)
    out = []
    for leaf, bar in zip(leaves, bars, strict=True):
        if bar is None:
            out.append(algebra.full(leaf.shape, ZERO))
            continue
        whole = algebra.spread(bar, leaf.shape)
        out.append(algebra.symmetrise(whole) if leaf in algebra.symmetric else whole)
    return out


def backward(
    algebra: Algebra, value: Array, seed: Array, leaves: Sequence[Array]
) -> list[Array | None]:
    """Adjoints of `leaves` for the pairing <seed, value>; None where nothing depends on a leaf."""
    order = walk(value)
    wanted = _above(order, leaves)
    bars: dict[Array, Array] = {value: seed}
    rules = _Adjoint(algebra)
    for array in reversed(order):
        if array not in bars or array not in wanted or array in leaves:
            continue
        bar = bars[array]
        if array.op not in ("add", "leaf") and bar.op not in ("full", "leaf"):
            name = algebra.names.get(array)
            if name:
                algebra.names.setdefault(algebra.split(bar)[1], f"{name}_bar")
        for position, arg in enumerate(arguments(array)):
            if arg in wanted:
                part = rules.of(array, position, bar)
                if part is not None:
                    bars[arg] = algebra.add(bars[arg], part) if arg in bars else part
    return [bars.get(leaf) for leaf in leaves]


def along(
    algebra: Algebra, values: Sequence[Array], directions: Mapping[Array, Array]
) -> list[Array]:
    """Derivatives of expressions as the leaves move in `directions`."""
    rules = _Tangent(algebra)
    moves: dict[Array, Array | None] = dict(directions)
    out = []
    for value in values:
        for array in walk(value):
            if array not in moves:
                live = [(k, moves[a]) for k, a in enumerate(arguments(array))]
                parts = [rules.of(array, k, move) for k, move in live if move is not None]
                parts = [part for part in parts if part is not None]
                moves[array] = tangent = algebra.total_of(parts) if parts else None
                name = algebra.names.get(array)
                if name and tangent is not None and array.op != "leaf":
                    core = algebra.split(tangent)[1]
                    if core.op not in ("leaf", "full"):
                        algebra.names.setdefault(core, f"d_{name}")
        move = moves[value]
        move = algebra.scalar(ZERO) if move is None else move
        out.append(algebra.spread(move, value.shape))
    return out


def _above(order: Sequence[Array], leaves: Sequence[Array]) -> set[Array]:
    out = set(leaves)
    for array in order:
        if any(a in out for a in array.args):
            out.add(array)
    return out


@dataclass
class _Rules(Visitor):
    """Rules of one kind; each says what an argument's position has to do with the node."""

    g: Algebra
    kind: ClassVar[str]

    def unknown(self, array: Array, *more: Any) -> Any:
        raise Refusal(f"no {self.kind} rule for {array.op}")


class _Adjoint(_Rules):
    """What the adjoint `bar` of a node gives to its argument at `position`; None for nothing.

    Adjoints may be smaller than their node: they broadcast to its shape.
    """

    kind = "adjoint"

    def op_add(self, array: Array, position: int, bar: Array) -> Array:
        return _shrink(self.g, bar, array.shape, array.args[position].shape)

    def op_multiply(self, array: Array, position: int, bar: Array) -> Array:
        return self.op_add(array, position, self.g.multiply(bar, array.args[1 - position]))

    def op_matmul(self, array: Array, position: int, bar: Array) -> Array:
        left, right = array.args
        return _matmul_adjoint(self.g, left, right, position, self.g.spread(bar, array.shape))

    def op_transpose(self, array: Array, position: int, bar: Array) -> Array:
        return self.g.transpose(_ranked(self.g, bar, 2)) if bar.ndim else bar

    def op_sum(self, array: Array, position: int, bar: Array) -> Array:
        axis, keepdims = array.data
        wider = bar.ndim and not keepdims
        return self.g.expand(_ranked(self.g, bar, array.ndim), axis) if wider else bar

    def op_expand(self, array: Array, position: int, bar: Array) -> Array:
        return self.g.total(_ranked(self.g, bar, array.ndim), array.data) if bar.ndim else bar

    def op_function(self, array: Array, position: int, bar: Array) -> Array | None:
        slope = derivative(self.g, array)
        return None if slope is None else self.g.multiply(bar, slope)

    def op_composite(self, array: Array, position: int, bar: Array) -> Array | None:
        return _composite_adjoint(self.g, array, position, bar)

    def op_word(self, array: Array, position: int, bar: Array) -> Array:
        bar = self.g.spread(bar, array.shape)
        return WORDS[array.data[0]].adjoint(self.g, array, position, bar)


def _matmul_adjoint(g: Algebra, left: Array, right: Array, position: int, bar: Array) -> Array:
    if left.ndim == 2 and right.ndim == 2:
        if position == 0:
            return g.matmul(bar, g.transpose(right))
        return g.matmul(g.transpose(left), bar)
    if left.ndim == 2:
        if position == 0:
            return g.multiply(g.expand(bar, 1), g.expand(right, 0))
        return g.matmul(g.transpose(left), bar)
    if right.ndim == 2:
        if position == 0:
            return g.matmul(right, bar)
        return g.multiply(g.expand(left, 1), g.expand(bar, 0))
    return g.multiply(bar, right if position == 0 else left)


class _Tangent(_Rules):
    """How a node changes as its argument at `position` moves; None where it does not.

    Moves may be smaller than their argument: they broadcast to its shape.
    """

    kind = "tangent"

    def op_add(self, array: Array, position: int, move: Array) -> Array:
        return move

    def op_multiply(self, array: Array, position: int, move: Array) -> Array:
        return self.g.multiply(move, array.args[1 - position])

    def op_matmul(self, array: Array, position: int, move: Array) -> Array:
        args = list(array.args)
        args[position] = self.g.spread(move, args[position].shape)
        return self.g.again(array, args)

    op_transpose = op_sum = op_expand = op_matmul  # linear in each argument

    def op_function(self, array: Array, position: int, move: Array) -> Array | None:
        slope = derivative(self.g, array)
        return None if slope is None else self.g.multiply(slope, move)

    def op_composite(self, array: Array, position: int, move: Array) -> Array:
        return _composite_tangent(self.g, array, position, move)

    def op_word(self, array: Array, position: int, move: Array) -> Array:
        move = self.g.spread(move, array.args[position].shape)
        return WORDS[array.data[0]].tangent(self.g, array, position, move)


def _shrink(g: Algebra, bar: Array, shape: Shape, target: Shape) -> Array:
    """Sum an adjoint of something of `shape` over the axes along which `target` was broadcast."""
    if not bar.ndim:
        return g.scale(_copies(shape, target), bar)
    for axis in range(-len(shape), 0):
        own = target[axis] if len(target) >= -axis else None
        if shape[axis] == 1 or own == shape[axis]:
            continue
        if bar.ndim >= -axis and bar.shape[axis] != 1:
            bar = g.total(bar, axis, keepdims=True)
        else:
            bar = g.scale(shape[axis], bar)
    while bar.ndim > len(target):
        bar = g.total(bar, 0)
    return bar


def _copies(shape: Shape, target: Shape) -> sp.Expr:
    out = ONE
    for axis in range(-len(shape), 0):
        own = target[axis] if len(target) >= -axis else ONE
        if own == 1:
            out *= shape[axis]
    return out


def _ranked(g: Algebra, array: Array, ndim: int) -> Array:
    while array.ndim < ndim:
        array = g.expand(array, 0)
    return array


# elementwise functions


def derivative(g: Algebra, array: Array) -> Array | None:
    """f'(x) for the node f(x), in terms of f(x) itself where that is a polynomial."""
    _, body = array.data
    rule, in_itself = _slope(body)
    if rule == 0:
        return None
    return write(g, rule, array if in_itself else array.args[0])


@cache
def _slope(body: sp.Lambda) -> tuple[sp.Expr, bool]:
    """(f' as an expression in x, False), or (f' as a polynomial in y = f(x), True)."""
    (x,) = body.variables
    slope = sp.diff(body.expr, x)
    if slope.has(sp.DiracDelta) or slope.has(sp.Derivative):
        slope = slope.replace(sp.DiracDelta, lambda *_: sp.Integer(0)).doit()
    slope = slope.replace(sp.Heaviside, lambda a, *_: sp.Heaviside(a, 0))
    y = sp.Symbol("y", real=True)
    for part in sorted(body.expr.atoms(sp.exp), key=sp.default_sort_key):
        if part == body.expr:
            break
        inside = sp.Symbol("part", positive=True)
        solved = sp.solve(body.expr.subs(part, inside) - y, inside)
        if len(solved) == 1 and not solved[0].has(x):
            own = sp.simplify(slope.subs(part, solved[0]))
            if not own.has(x) and own.is_polynomial(y):
                return own.subs(y, x_symbol), True
    return slope.subs(x, x_symbol), False


def write(g: Algebra, rule: sp.Expr, array: Array) -> Array:
    """A SymPy expression in x as operations on arrays, entry by entry."""
    if not rule.has(x_symbol):
        return g.scalar(rule)
    if rule == x_symbol:
        return array
    if rule.is_Add:
        constants = sp.Add(*(a for a in rule.args if not a.has(x_symbol)))
        parts = [write(g, a, array) for a in rule.args if a.has(x_symbol)]
        return g.total_of(([g.scalar(constants)] if constants != 0 else []) + parts)
    if rule.is_Mul:
        front = sp.Mul(*(a for a in rule.args if not a.has(x_symbol)))
        out = g.scalar(front)
        for part in (a for a in rule.args if a.has(x_symbol)):
            out = g.multiply(out, write(g, part, array))
        return out
    if rule.is_Pow and not rule.exp.has(x_symbol):
        return g.power(write(g, rule.base, array), rule.exp)
    if word := name_of(rule.func):
        return g.function(word, write(g, rule.args[0], array))
    if rule.func in (sp.Max, sp.Min) and len(rule.args) == 2:
        fixed = [a for a in rule.args if not a.has(x_symbol)]
        moving = [a for a in rule.args if a.has(x_symbol)]
        if len(fixed) == 1:
            return _clipped(g, rule.func, write(g, moving[0], array), fixed[0])
    raise Refusal(f"no array text for {rule}")


def _clipped(g: Algebra, kind: type, array: Array, limit: sp.Expr) -> Array:
    """max(array, limit) or min(array, limit), entry by entry."""
    if kind is sp.Max and limit == 0:
        return g.function("relu", array)
    name = "at_least" if kind is sp.Max else "at_most"
    return g.function(name, array, sp.Lambda(x_symbol, kind(x_symbol, limit)))


# named operations


def _composite_tangent(g: Algebra, array: Array, position: int, move: Array) -> Array:
    argument, meaning = array.args[position], array.args[-1]
    seed = g.leaf("a direction", argument.shape)
    (out,) = along(g, [meaning], {argument: seed})
    (out,) = g.rebuild([_in_own_value(g, array, out)], {seed: g.spread(move, argument.shape)})
    return out


def _composite_adjoint(g: Algebra, array: Array, position: int, bar: Array) -> Array | None:
    argument, meaning = array.args[position], array.args[-1]
    seed = g.leaf("an adjoint", array.shape)
    (out,) = backward(g, meaning, seed, [argument])
    if out is None:
        return None
    (out,) = g.rebuild([_in_own_value(g, array, out)], {seed: g.spread(bar, array.shape)})
    return out


def _in_own_value(g: Algebra, array: Array, expression: Array) -> Array:
    """Rewrite numerator = value * denominator and let the denominator cancel.

    For value = numerator / denominator.  What is left mentions the value alone; if something of
    the numerator stays, the expression is returned as it was: correct, in longer words.
    """
    factors = g.factors(array.args[-1])
    above = [f for f, power in factors.items() if power == 1]
    below = [f for f, power in factors.items() if power == -1]
    if len(factors) != 2 or len(above) != 1 or len(below) != 1:
        return expression
    numerator, denominator = above[0], below[0]
    (out,) = g.rebuild(
        [g.distribute(expression)],
        {numerator: g.multiply(array, denominator), denominator: denominator, array: array},
    )
    hidden = {numerator, denominator}
    if any(a in hidden for a in visible(out)):
        return expression
    return out
