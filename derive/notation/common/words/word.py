"""What there is to say of a word, in one place: shape, value, derivative, meaning, code, texts.

The rules are written against two protocols, so that a word needs neither the algebra that
differentiates it nor the printers that write it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import sympy as sp

from derive.errors import Refusal
from derive.notation.common.arrays import Array, Shape, lift, node

# binding strength of the outermost operation of a text
SUM, SCALED, PRODUCT, POWER, ATOM = 1, 2, 3, 4, 5
Text = tuple[str, int]  # words, and the binding strength of their outermost operation


class Operations(Protocol):
    """What a rule of derivatives may do with arrays; `derive.calculus.arrays.algebra` does it."""

    def split(self, array: Array) -> tuple[sp.Expr, Array]: ...
    def scalar(self, value: sp.Expr) -> Array: ...
    def full(self, shape: Shape, value: sp.Expr = ...) -> Array: ...
    def scale(self, coefficient: sp.Expr, array: Array) -> Array: ...
    def add(self, left: Array, right: Array) -> Array: ...
    def multiply(self, left: Array, right: Array) -> Array: ...
    def matmul(self, left: Array, right: Array) -> Array: ...
    def transpose(self, array: Array) -> Array: ...
    def total(self, array: Array, axis: int, keepdims: bool = ...) -> Array: ...
    def sum_all(self, array: Array) -> Array: ...
    def expand(self, array: Array, axis: int) -> Array: ...
    def spread(self, array: Array, shape: Shape) -> Array: ...
    def function(self, name: str, array: Array) -> Array: ...
    def word(self, name: str, *args: Any) -> Array: ...


class Printer(Protocol):
    """What a rule of texts may ask; `derive.emit.common.array_printer` answers."""

    def words(self, array: Array, position: int = ...) -> str: ...
    def bound(self, array: Array, position: int, least: int) -> str: ...
    def listed(self, array: Array) -> str: ...
    def scalar(self, expression: sp.Expr) -> str: ...


class Word:
    """A word; its rules take arrays, and behind them what else it is given (an axis, an offset).

    What a rule leaves out is as below: no derivative, and the text NAME(arguments).
    """

    #: the node's operation; only what the calculus of layers knows by name has its own
    op: ClassVar[str] = "word"
    #: where kernels find it: `ops`, for all of them, or `control`
    runtime: str = "control"
    #: whether its transpose is the word of its arguments' transposes
    transposes: ClassVar[bool] = False

    def __init__(self, name: str, calls: str | None = None) -> None:
        self.name = name
        self.calls = name if calls is None else calls  # the function of the runtime in its code

    def register(self) -> None:
        WORDS[self.name] = self

    def value(self, *args: Any) -> Any:
        """On NumPy arrays."""
        raise NotImplementedError(self.name)

    def shape(self, *args: Any) -> Shape:
        """Raises `DefinitionError` where the word takes no such arrays."""
        raise NotImplementedError(self.name)

    def exact(self, *args: Any) -> Any:
        """On NumPy arrays of SymPy expressions."""
        raise Refusal(f"{self.name} has no entries in closed form; the kernel evaluates it")

    def matrix(self, *args: Any) -> Any:
        """On SymPy matrix expressions; a vector is a matrix of one column."""
        raise Refusal(f"{self.name} has no matrix form; entries at given sizes: .sympy(...)")

    def meaning(self, *args: Any) -> Array | None:
        """The word in other operations.  It is expanded to indices and differentiated in these."""
        return None

    def simplified(self, g: Operations, *args: Any) -> Array | None:
        """A shorter form, if there is one."""
        return None

    def adjoint(self, g: Operations, array: Array, position: int, bar: Array) -> Array:
        """What the adjoint `bar` of the node gives to its argument at `position`."""
        raise Refusal(f"no adjoint rule for {self.name}")

    def tangent(self, g: Operations, array: Array, position: int, move: Array) -> Array:
        """The change of the node, as its argument at `position` changes by `move`."""
        raise Refusal(f"no tangent rule for {self.name}")

    def code(self, p: Printer, array: Array) -> Text:
        """NAME(arguments), then what else the word is given."""
        inside = ", ".join([p.listed(array), *map(str, given(array))])
        return f"{title(array)}({inside})", ATOM

    def text(self, p: Printer, array: Array) -> Text:
        """Mathematics as plain text: NAME(arguments), as in `code`."""
        return Word.code(self, p, array)

    def latex(self, p: Printer, array: Array) -> Text:
        r"""\operatorname{NAME}(arguments)."""
        name = title(array).replace("_", r"\_")
        return rf"\operatorname{{{name}}}\left({p.listed(array)}\right)", ATOM

    def node(self, *args: Any) -> Array:
        """The word in a definition."""
        arrays = tuple(a for a in args if isinstance(a, Array))
        meaning = self.meaning(*args)
        if meaning is not None:
            return node("composite", (*arrays, meaning), meaning.shape, self.name)
        return node(self.op, arrays, self.shape(*args), (self.name, *args[len(arrays) :]))

    def __call__(self, *args: Any) -> Any:
        if isinstance(args[0], (Array, sp.Basic)) or type(args[0]) in (int, float):
            return self.node(lift(args[0]), *args[1:])
        return self.value(*args)


#: every word by its name
WORDS: dict[str, Word] = {}


def title(array: Array) -> str:
    """The name of a function, a word or a composite."""
    return str(array.data) if array.op == "composite" else str(array.data[0])


def given(array: Array) -> tuple[Any, ...]:
    """What a word is given besides arrays."""
    return tuple(array.data[1:]) if array.op == "word" else ()


def word_of(array: Array) -> Word:
    """The word of a node; a function without a name of its own is written by default."""
    return WORDS.get(title(array)) or Word(title(array))


def applied(name: str) -> Callable[..., Any]:
    """What a definition calls: a node of arrays, or the value of numbers."""
    word = WORDS[name]
    signature = inspect.signature(word.value)

    def apply(*args: Any, **options: Any) -> Any:
        try:
            bound = signature.bind(*args, **options)
        except TypeError as problem:
            raise TypeError(f"{name}() {problem}") from None
        return word(*bound.args, **bound.kwargs)

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = word.__doc__
    apply.__signature__ = signature  # type: ignore[attr-defined]
    return apply
