"""Arrays of a definition form a graph: what `X @ W`, `softmax(logits)` and `A - 1/m` build.

Input: the operations of an ordinary Python function.  Output: an immutable graph of `Array`
nodes with symbolic shapes.  No mathematics happens here; shapes are checked where they are
written, so that a mismatch names the line.

The last two axes are rows and columns; axes before them count heads.

Not supported: indexing, in-place updates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import sympy as sp

from derive.errors import DefinitionError, Place, user_place
from derive.notation.common.scalars import Share

Shape = tuple[sp.Expr, ...]
ONE = sp.Integer(1)


@dataclass(frozen=True, eq=False)
class Array:
    """One node of a definition's graph.

    `op` is one of: state, leaf, gaussian, eye, full, add, multiply, matmul, transpose, sum, expand,
    concatenate, function, composite, word.  `data` holds what is particular to it (a name, a
    coefficient, an axis, a function).
    """

    op: str
    args: tuple[Array, ...]
    shape: Shape
    data: Any = None
    place: Place | None = None

    __array_ufunc__ = None  # NumPy must not try to take a definition apart

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def T(self) -> Array:
        if self.ndim > 2:
            raise DefinitionError(".T of an array of heads is ambiguous; write .mT")
        return transpose(self)

    @property
    def mT(self) -> Array:
        return transpose(self)

    def __add__(self, other: Any) -> Array:
        return add(self, lift(other))

    __radd__ = __add__

    def __neg__(self) -> Array:
        return scale(sp.Integer(-1), self)

    def __sub__(self, other: Any) -> Array:
        return add(self, -lift(other))

    def __rsub__(self, other: Any) -> Array:
        return add(lift(other), -self)

    def __mul__(self, other: Any) -> Array:
        if isinstance(other, Array):
            return multiply(self, other)
        return scale(exact(other), self)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Array:
        if isinstance(other, Array):
            return multiply(self, reciprocal(other))
        divisor = exact(other)
        if divisor == 0:
            raise DefinitionError("division by zero")
        return scale(1 / divisor, self)

    def __rtruediv__(self, other: Any) -> Array:
        return scale(exact(other), reciprocal(self))

    def __pow__(self, power: Any) -> Array:
        power = exact(power)
        if power.is_Integer and power > 0:
            out = self
            for _ in range(int(power) - 1):
                out = multiply(out, self)
            return out
        return function(sp.Lambda(x_symbol, x_symbol**power), self, "power")

    def __matmul__(self, other: Any) -> Array:
        return matmul(self, lift(other))

    def __rmatmul__(self, other: Any) -> Array:
        return matmul(lift(other), self)

    def __abs__(self) -> Array:
        return function(sp.Lambda(x_symbol, sp.Abs(x_symbol)), self, "abs")

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Array:
        return total(self, axis, keepdims)

    def mean(self, axis: int | None = None, keepdims: bool = False) -> Array:
        axes = range(self.ndim) if axis is None else [axis]
        count = sp.Mul(*(self.shape[a] for a in axes))
        return scale(1 / count, total(self, axis, keepdims))

    def __getitem__(self, _: Any) -> Array:
        raise DefinitionError(
            "a definition treats all tokens and units alike; indexing an array is not part of it: "
            'sum over an axis, X.sum(0), or weigh tokens by a given pattern("p: ...", m) @ X'
        )

    def __bool__(self) -> bool:
        raise DefinitionError(
            "a definition cannot branch on the values of an array; write relu(x), or a pattern as "
            "a mask: softmax(logits + log(causal(m)))"
        )

    def __iter__(self) -> Iterator[Array]:
        raise DefinitionError(
            "a definition cannot iterate over an array; heads are an axis of their own, and sums "
            "run over axes: X.sum(0)"
        )

    def __repr__(self) -> str:
        return f"<{self.op} array of shape {show_shape(self.shape)}>"


#: the variable of elementwise functions
x_symbol = sp.Symbol("x", real=True)


def node(op: str, args: tuple[Array, ...], shape: Shape, data: Any = None) -> Array:
    return Array(op, args, shape, data, user_place())


def exact(value: Any) -> sp.Expr:
    """A scalar of a definition: exact numbers and declared symbols, never a float."""
    if isinstance(value, float) or (isinstance(value, sp.Basic) and value.has(sp.Float)):
        hint = _exact_power(value) if isinstance(value, sp.Basic) else ""
        if isinstance(value, float):
            near = sp.nsimplify(value, rational=True, tolerance=1e-12)
            hint = f"; write Rational({near.p}, {near.q}), or divide by an integer last"
        raise DefinitionError(f"the float {value} stands where an exact number belongs{hint}")
    try:
        result = sp.sympify(value, strict=True)
    except sp.SympifyError:
        raise DefinitionError(
            f"{type(value).__name__} {value!r} is neither a scalar nor an array of the notation"
        ) from None
    if not isinstance(result, sp.Expr):
        raise DefinitionError(f"{value!r} is not a scalar expression")
    return result


def _exact_power(value: sp.Basic) -> str:
    """What to write for a power of floats: sqrt(n) for n**0.5."""
    for power in value.atoms(sp.Pow):
        if power.exp.has(sp.Float):
            exponent = sp.nsimplify(power.exp, rational=True, tolerance=1e-12)
            if abs(exponent) == sp.Rational(1, 2):
                root = f"sqrt({power.base})"
                return f"; write {root}" if exponent > 0 else f"; write 1 / {root}"
            if exponent.is_Rational:
                return f"; write ({power.base})**Rational({exponent.p}, {exponent.q})"
    return "; write Rational(p, q), or divide by an integer last"


def lift(value: Any) -> Array:
    """Scalars become arrays of rank zero; arrays stay."""
    return value if isinstance(value, Array) else node("full", (), (), exact(value))


def scale(coefficient: sp.Expr, array: Array) -> Array:
    if coefficient == 1:
        return array
    return node("multiply", (lift(coefficient), array), array.shape)


def add(left: Array, right: Array) -> Array:
    return node("add", (left, right), broadcast("+", left, right))


def multiply(left: Array, right: Array) -> Array:
    return node("multiply", (left, right), broadcast("*", left, right))


def transpose(array: Array) -> Array:
    if array.ndim < 2:
        return array
    if array.op == "transpose":
        return array.args[0]
    return node("transpose", (array,), (*array.shape[:-2], array.shape[-1], array.shape[-2]))


def matmul(left: Array, right: Array) -> Array:
    if not left.ndim or not right.ndim:
        raise DefinitionError("@ takes matrices and vectors; use * with a scalar")
    inner, other = left.shape[-1], right.shape[-2 if right.ndim > 1 else 0]
    if inner != other:
        raise DefinitionError(
            f"@ joins the dimension {inner} of {show_shape(left.shape)} with the dimension "
            f"{other} of {show_shape(right.shape)}; they must be the same"
            + _transpose_hint(left, right)
        )
    rows = left.shape[-2:-1]
    columns = right.shape[-1:] if right.ndim > 1 else ()
    heads = _heads(left, right)
    return node("matmul", (left, right), (*heads, *rows, *columns))


def _heads(left: Array, right: Array) -> Shape:
    """Leading axes of a product: those of one side, or equal ones of both."""
    first, second = left.shape[:-2], right.shape[:-2]
    if first and second and first != second:
        raise DefinitionError(
            f"@ joins arrays of heads of shapes {show_shape(left.shape)} and "
            f"{show_shape(right.shape)}; their leading dimensions must be the same"
        )
    return first or second


def _transpose_hint(left: Array, right: Array) -> str:
    if right.ndim == 2 and left.shape[-1] == right.shape[1]:
        return " (did you mean to transpose the right one?)"
    if left.ndim == 2 and left.shape[0] == right.shape[0]:
        return " (did you mean to transpose the left one?)"
    return ""


def total(array: Array, axis: int | None, keepdims: bool) -> Array:
    if axis is None:
        for _ in range(array.ndim):
            array = total(array, 0, keepdims=False)
        return array
    if not -array.ndim <= axis < array.ndim:
        raise DefinitionError(
            f"sum over axis {axis} of an array of shape {show_shape(array.shape)}"
        )
    axis %= array.ndim
    kept = (ONE,) if keepdims else ()
    shape = (*array.shape[:axis], *kept, *array.shape[axis + 1 :])
    return node("sum", (array,), shape, (axis, keepdims))


def function(body: sp.Lambda, array: Array, name: str) -> Array:
    """An elementwise function, given as a SymPy function of one variable."""
    return node("function", (array,), array.shape, (name, body))


def reciprocal(array: Array) -> Array:
    return function(sp.Lambda(x_symbol, 1 / x_symbol), array, "reciprocal")


def composite(name: str, argument: Array, definition: Array) -> Array:
    """A named operation and its meaning: derivations use the meaning, kernels the name."""
    return node("composite", (argument, definition), definition.shape, name)


def broadcast(symbol: str, left: Array, right: Array) -> Shape:
    """NumPy's rule on symbolic shapes; only the number 1 stretches."""
    a, b = left.shape, right.shape
    size = max(len(a), len(b))
    a, b = (ONE,) * (size - len(a)) + a, (ONE,) * (size - len(b)) + b
    out = []
    for p, q in zip(a, b, strict=True):
        if p != q and p != 1 and q != 1:
            raise DefinitionError(
                f"{symbol} joins shapes {show_shape(left.shape)} and {show_shape(right.shape)}: "
                f"{p} and {q} differ" + _transpose_hint(left, right)
            )
        out.append(q if p == 1 else p)
    return tuple(out)


def show_shape(shape: Shape) -> str:
    return "(" + ", ".join(str(s) for s in shape) + ")"


def walk(root: Array) -> list[Array]:
    """Every node below `root`, arguments before users, each once."""
    return below(root, lambda array: array.args)


def visible(root: Array) -> list[Array]:
    """The same without what only the meanings of composites hold."""
    return below(root, arguments)


def arguments(array: Array) -> tuple[Array, ...]:
    """The arguments of a node as they are written: the meaning of a composite repeats them."""
    return array.args[:-1] if array.op == "composite" else array.args


def below(root: Array, args: Callable[[Array], tuple[Array, ...]]) -> list[Array]:
    """Every node below `root` by way of `args`, arguments before users, each once."""
    order: list[Array] = []
    seen: set[int] = set()

    def visit(array: Array) -> None:
        if id(array) in seen:
            return
        seen.add(id(array))
        for arg in args(array):
            visit(arg)
        order.append(array)

    visit(root)
    return order


def shares(root: Array) -> list[Share]:
    """Dimensions of a graph that are quotients of others, in order of name."""
    found = {d for array in walk(root) for d in array.shape if isinstance(d, Share)}
    return sorted(found, key=str)
