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
from functools import cache

import sympy as sp

from derive.calculus.arrays.algebra import HALF, Algebra
from derive.calculus.arrays.interned import ZERO
from derive.errors import Refusal
from derive.notation.common.arrays import ONE, Array, Shape, arguments, visible, walk, x_symbol
from derive.notation.common.elementwise import WORDS


def gradient(algebra: Algebra, value: Array, leaves: Sequence[Array]) -> list[Array]:
    """Gradients of a scalar expression by `leaves`, each of its leaf's shape.

    A leaf that is declared symmetric gets the symmetrised gradient (Frobenius pairing).
    """
    assert value.shape == (), value.shape
    bars = backward(algebra, value, algebra.scalar(ONE), leaves)
    out = []
    for leaf, bar in zip(leaves, bars, strict=True):
        if bar is None:
            out.append(algebra.full(leaf.shape, ZERO) if leaf.shape else algebra.scalar(ZERO))
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
                part = _adjoint(algebra, array, position, bar)
                bars[arg] = algebra.add(bars[arg], part) if arg in bars else part
    return [bars.get(leaf) for leaf in leaves]


def along(
    algebra: Algebra, values: Sequence[Array], directions: Mapping[Array, Array]
) -> list[Array]:
    """Derivatives of expressions as the leaves move in `directions`."""
    moves: dict[Array, Array | None] = {}
    out = []
    for value in values:
        for array in walk(value):
            if array not in moves:
                moves[array] = _tangent(algebra, array, directions, moves)
                name, tangent = algebra.names.get(array), moves[array]
                if name and tangent is not None and array.op != "leaf":
                    core = algebra.split(tangent)[1]
                    if core.op not in ("leaf", "full"):
                        algebra.names.setdefault(core, f"d_{name}")
        move = moves[value]
        if move is None:
            out.append(algebra.full(value.shape, ZERO) if value.shape else algebra.scalar(ZERO))
        else:
            out.append(algebra.spread(move, value.shape))
    return out


def _above(order: Sequence[Array], leaves: Sequence[Array]) -> set[Array]:
    out = set(leaves)
    for array in order:
        if any(a in out for a in array.args):
            out.add(array)
    return out


def _adjoint(g: Algebra, array: Array, position: int, bar: Array) -> Array:
    """What the adjoint `bar` of a node gives to its argument at `position`.

    Adjoints may be smaller than their node: they broadcast to its shape.
    """
    op, args = array.op, array.args
    arg = args[position]
    if op == "add":
        return _shrink(g, bar, array.shape, arg.shape)
    if op == "multiply":
        return _shrink(g, g.multiply(bar, args[1 - position]), array.shape, arg.shape)
    if op == "matmul":
        return _matmul_adjoint(g, args[0], args[1], position, g.spread(bar, array.shape))
    if op == "transpose":
        return g.transpose(_ranked(g, bar, 2)) if bar.ndim else bar
    if op == "sum":
        axis, keepdims = array.data
        if not keepdims and bar.ndim:
            bar = g.expand(_ranked(g, bar, array.ndim), axis)
        return bar
    if op == "expand":
        if not bar.ndim:
            return bar
        return g.total(_ranked(g, bar, array.ndim), array.data)
    if op == "function":
        slope = derivative(g, array)
        return g.multiply(bar, slope) if slope is not None else g.scalar(ZERO)
    if op == "composite":
        return _composite_adjoint(g, array, position, bar)
    if op == "word" and array.data[0] == "inverse":
        turned = g.transpose(array)
        inner = g.matmul(g.matmul(turned, g.spread(bar, array.shape)), turned)
        return g.scale(sp.Integer(-1), inner)
    if op == "word" and array.data[0] == "inv_sqrt_det":
        slope = g.scale(-HALF, g.multiply(array, g.transpose(g.inverse(arg))))
        return g.multiply(bar, slope)
    raise Refusal(f"no adjoint rule for {op}")


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


def _tangent(
    g: Algebra,
    array: Array,
    directions: Mapping[Array, Array],
    moves: Mapping[Array, Array | None],
) -> Array | None:
    if array in directions:
        return directions[array]
    live = [(k, a, moves[a]) for k, a in enumerate(arguments(array)) if moves[a] is not None]
    if not live:
        return None
    parts: list[Array] = []
    for position, arg, move in live:
        assert move is not None
        op = array.op
        if op == "add":
            part = move
        elif op == "multiply":
            part = g.multiply(move, array.args[1 - position])
        elif op == "matmul":
            pair = list(array.args)
            pair[position] = g.spread(move, arg.shape)
            part = g.matmul(*pair)
        elif op == "transpose":
            part = g.transpose(g.spread(move, arg.shape))
        elif op == "sum":
            part = g.total(g.spread(move, arg.shape), *array.data)
        elif op == "expand":
            part = g.expand(g.spread(move, arg.shape), array.data)
        elif op == "function":
            slope = derivative(g, array)
            if slope is None:
                continue
            part = g.multiply(slope, move)
        elif op == "composite":
            part = _composite_tangent(g, array, position, move)
        elif op == "word" and array.data[0] == "inverse":
            inner = g.matmul(g.matmul(array, g.spread(move, arg.shape)), array)
            part = g.scale(sp.Integer(-1), inner)
        elif op == "word" and array.data[0] == "inv_sqrt_det":
            inner = g.multiply(g.transpose(g.inverse(arg)), g.spread(move, arg.shape))
            part = g.scale(-HALF, g.multiply(array, g.sum_all(inner)))
        else:
            raise Refusal(f"no tangent rule for {op}")
        parts.append(part)
    return g.total_of(parts) if parts else None


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
    if rule.is_Function and rule.func in WORDS:
        return g.function(WORDS[rule.func], write(g, rule.args[0], array))
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


def _composite_adjoint(g: Algebra, array: Array, position: int, bar: Array) -> Array:
    argument, meaning = array.args[position], array.args[-1]
    seed = g.leaf("an adjoint", array.shape)
    (out,) = backward(g, meaning, seed, [argument])
    if out is None:
        return g.scalar(ZERO)
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
