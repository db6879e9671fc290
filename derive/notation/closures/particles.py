"""Writes a velocity field on a cloud of points as arrays: the particle system of an attention.

Input: the graph of a `gaussian_closure` definition, arrays for its matrices, the points x (n, d)
and the keys (n_k, d_k).  Output: the velocities (n, d) at x, as one array expression: the law of
the keys is their empirical measure, weights 1/n each, a token among its own keys.

Nothing is derived here; the definition is rewritten.  A number for each pair of points becomes an
array (n, n_k); a vector for each pair is kept as a sum of (number for each pair) * (vector of one
point), so that no array has three axes.

Positions are the order of the rows: a mask tau <= s is a constant triangle of ones.

Not supported: stacks of matrices (heads), noise, bistochastic weights, and entrywise functions of
vectors that mix query and key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce

import sympy as sp

from derive.errors import Refusal
from derive.notation.closures.model import ClosureTrace
from derive.notation.closures.pairs import (
    Number,
    Term,
    Value,
    Vector,
    column,
    fixed,
    inner,
    is_one,
    plus,
    through,
    times,
)
from derive.notation.common.arrays import (
    Array,
    Shape,
    add,
    function,
    lift,
    matmul,
    multiply,
    node,
    reciprocal,
    scale,
    total,
    transpose,
)
from derive.notation.common.functions import softmax
from derive.notation.common.tracing import current
from derive.notation.common.words.word import WORDS


def velocities(
    trace: ClosureTrace,
    x: Array,
    keys: Array,
    given: Mapping[str, Array],
    symbols: Mapping[sp.Symbol, sp.Expr],
) -> Array:
    """The velocity at every point of `x`."""
    if trace.noises:
        raise Refusal(
            f"{trace.model.name} has noise: its particles follow a stochastic equation, and a "
            "control problem has deterministic dynamics"
        )
    value = _Reader(x, keys, given, symbols).of(trace.velocity)
    assert isinstance(value, tuple)
    out = reduce(add, [_on_queries(t, x.shape[0]) for t in value])
    current().facts[out] = (
        f"particles of {trace.model.name}: the law of the keys is the empirical measure of the "
        + ("tokens" if x is keys else "keys")
    )
    return out


def _on_queries(term: Term, n: sp.Expr) -> Array:
    vectors = term.vectors
    if term.of == "":
        vectors = node("full", (), (n, sp.Integer(1)), sp.Integer(1)) * vectors
    return vectors if term.front is None else column(term.front) * vectors


@dataclass
class _Reader:
    x: Array
    keys: Array
    given: Mapping[str, Array]
    symbols: Mapping[sp.Symbol, sp.Expr]

    def __post_init__(self) -> None:
        self.done: dict[Array, Value] = {}

    def of(self, array: Array) -> Value:
        if array not in self.done:
            rule = getattr(self, f"_{array.op}", None)
            if rule is None:
                raise Refusal(f"no particle system for {array.op}", array.place)
            self.done[array] = rule(array)
        return self.done[array]

    def number(self, array: Array) -> Number:
        value = self.of(array)
        assert isinstance(value, Number), array
        return value

    def _shape(self, shape: Shape) -> Shape:
        return tuple(sp.sympify(s).xreplace(dict(self.symbols)) for s in shape)

    # leaves

    def _query(self, array: Array) -> Value:
        return (Term(None, self.x, "q"),)

    def _key(self, array: Array) -> Value:
        return (Term(None, self.keys, "k"),)

    def _constant(self, array: Array) -> Value:
        return fixed(self.given[array.data])

    def _full(self, array: Array) -> Value:
        value = sp.sympify(array.data).xreplace(dict(self.symbols))
        if not array.shape:
            return Number(lift(value), "")
        return fixed(scale(value, node("full", (), self._shape(array.shape), sp.Integer(1))))

    def _eye(self, array: Array) -> Value:
        return node("eye", (), self._shape(array.shape))

    def _select(self, array: Array) -> Value:
        raise Refusal(
            f"{array.args[0].data} is a stack of matrices over the heads, and the arrays of a "
            "control problem have at most two axes; write the heads out, each with its matrices",
            array.place,
        )

    _sum_over = _select

    def _mask(self, array: Array) -> Value:
        """1 where the key's position stands in the relation to the query's, else 0."""
        return Number(self._triangle(*KEPT[array.data], sp.Integer(1)), "qk")

    def _triangle(self, corner: str, offset: int, value: sp.Expr) -> Array:
        shape = (self.x.shape[0], self.keys.shape[0])
        return WORDS[corner].node(node("full", (), shape, value), offset)

    # operations

    def _transpose(self, array: Array) -> Value:
        value = self.of(array.args[0])
        return transpose(value) if isinstance(value, Array) else value

    def _composite(self, array: Array) -> Value:
        return self.of(array.args[-1])

    def _add(self, array: Array) -> Value:
        a, b = (self.of(arg) for arg in array.args)
        if isinstance(a, Number) and isinstance(b, Number):
            return plus(a, b)
        if isinstance(a, Array) or isinstance(b, Array):
            if isinstance(a, Array) and isinstance(b, Array):
                return a + b
            raise Refusal("a matrix is added to what depends on points", array.place)
        return (*self._vector(a, array), *self._vector(b, array))

    def _vector(self, value: Number | Vector, array: Array) -> Vector:
        """A number added to a vector is added to each entry."""
        if isinstance(value, tuple):
            return value
        ones = node("full", (), self._shape(array.shape), sp.Integer(1))
        return (Term(value, ones, ""),)

    def _multiply(self, array: Array) -> Value:
        a, b = (self.of(arg) for arg in array.args)
        if isinstance(a, Number) and isinstance(b, Number):
            return times(a, b)
        if isinstance(b, Number):
            a, b = b, a
        if isinstance(a, Number):
            if isinstance(b, Array):
                if a.of:
                    raise Refusal("a matrix is scaled by what depends on points", array.place)
                return multiply(a.array, b)
            assert isinstance(b, tuple)
            return tuple(replace(t, front=times(a, t.front)) for t in b)
        if isinstance(a, Array) and isinstance(b, Array):
            return multiply(a, b)
        if not (isinstance(a, tuple) and isinstance(b, tuple)):
            raise Refusal("a matrix times a vector of points, entry by entry", array.place)
        out_terms = []
        for s in a:
            for t in b:
                if s.of != t.of and s.of and t.of:
                    raise Refusal(
                        "the entrywise product of a query and a key is a vector for each pair of "
                        "particles, which no array of two axes holds",
                        array.place,
                    )
                product = multiply(s.vectors, t.vectors)
                out_terms.append(Term(times(s.front, t.front), product, s.of or t.of))
        return tuple(out_terms)

    def _matmul(self, array: Array) -> Value:
        a, b = (self.of(arg) for arg in array.args)
        if isinstance(a, Array) and isinstance(b, Array):
            return matmul(a, b)
        if isinstance(a, Array) and isinstance(b, tuple):
            return tuple(through(t, transpose(a)) for t in b)
        if isinstance(a, tuple) and isinstance(b, Array):
            return tuple(through(t, b) for t in a)
        assert isinstance(a, tuple) and isinstance(b, tuple)
        return reduce(plus, [inner(s, t) for s in a for t in b])

    def _sum(self, array: Array) -> Value:
        value = self.of(array.args[0])
        if isinstance(value, Array):
            return fixed(total(value, *array.data))
        assert isinstance(value, tuple)
        sums = [times(t.front, Number(total(t.vectors, -1, False), t.of)) for t in value]
        return reduce(plus, sums)

    def _function(self, array: Array) -> Value:
        name, body = array.data
        value = self.of(array.args[0])
        if isinstance(value, Number):
            return Number(function(self._body(body), value.array, name), value.of)
        if isinstance(value, Array):
            return function(self._body(body), value, name)
        sides = {t.of for t in value if t.of} | {
            s for t in value if t.front is not None for s in t.front.of
        }
        if len(sides) > 1:
            raise Refusal(
                f"{name} of a vector that mixes query and key is a vector for each pair of "
                "particles, which no array of two axes holds",
                array.place,
            )
        parts = [t.vectors if t.front is None else column(t.front) * t.vectors for t in value]
        whole = function(self._body(body), reduce(add, parts), name)
        return (Term(None, whole, "".join(sides)),)

    def _body(self, body: sp.Lambda) -> sp.Lambda:
        return sp.Lambda(body.variables, body.expr.xreplace(dict(self.symbols)))

    # over the keys

    def _average(self, array: Array) -> Value:
        value, weight = array.args
        if weight.op == "bistochastic":
            return self._bistochastic(weight)
        rest, masks = _without_masks(weight)
        for mask in masks:
            if mask.data in ("<", ">"):
                raise Refusal(
                    "an average over the tokens strictly before or after a token: the "
                    + ("first" if mask.data == "<" else "last")
                    + " token has none; let it see itself (<= or >=), or use integral(...)",
                    array.place,
                )
        logits = None if rest is None else self._logits(rest)
        if logits is not None and logits.of == "qk":
            shut = [self._triangle(*SHUT[m.data], FAR) for m in masks]
            weights = softmax(sum(shut, logits.array))
        else:
            plain = self._pairs(self.number(weight))
            weights = multiply(plain, reciprocal(total(plain, -1, True)))
        current().names[weights] = "w"
        return self._over_keys(value, Number(weights, "qk"), normalised=True)

    def _integral(self, array: Array) -> Value:
        value, weight = array.args
        if weight.op == "bistochastic":
            return self._bistochastic(weight)
        one = Number(lift(1 / self.keys.shape[0]), "")
        own = self.number(weight)
        share = times(one, own) if not is_one(own) else one
        return self._over_keys(value, share, normalised=False)

    def _bistochastic(self, array: Array) -> Value:
        raise Refusal(
            "a bistochastic weight is the limit of an iteration, which is no array expression; "
            "the particle system of such an attention cannot be controlled",
            array.place,
        )

    def _logits(self, weight: Array) -> Number | None:
        """e with weight = c exp(e), c > 0 a number of no point; None if it is none."""
        if weight.op == "function" and weight.data[0] == "exp":
            return self.number(weight.args[0])
        if weight.op == "multiply":
            for one, other in (weight.args, weight.args[::-1]):
                if one.op == "full" and sp.sympify(one.data).is_positive:
                    return self._logits(other)
            left, right = (self._logits(a) for a in weight.args)
            if left is not None and right is not None:
                return plus(left, right)
        return None

    def _pairs(self, number: Number) -> Array:
        """A number with both axes written out."""
        if number.of == "qk":
            return number.array
        left = column(number) if number.of == "q" else number.array
        ones = node("full", (), (self.x.shape[0], self.keys.shape[0]), sp.Integer(1))
        return multiply(ones, left)

    def _over_keys(self, value: Array, share: Number, *, normalised: bool) -> Value:
        inside = self.of(value)
        if isinstance(inside, Number):
            return Number(self._summed(times(share, inside)), "q")
        assert isinstance(inside, tuple)
        out = []
        for term in inside:
            front = times(share, term.front)
            if term.of == "k":
                if "q" in front.of:
                    pulled = matmul(self._pairs(front), term.base)
                    current().names.setdefault(pulled, "mean")
                    out.append(Term(None, pulled, "q", term.right))
                else:
                    weighed = term.base
                    if front.of == "k":
                        weighed = column(front) * weighed
                    mean = total(weighed, 0, False)
                    if front.of == "":
                        mean = multiply(front.array, mean)
                    out.append(Term(None, mean, "", term.right))
            elif normalised and term.front is None:
                out.append(term)
            else:
                out.append(Term(Number(self._summed(front), "q"), term.base, term.of, term.right))
        return tuple(out)

    def _summed(self, number: Number) -> Array:
        return total(self._pairs(number), -1, False)


#: corner of a matrix that a mask keeps, and the one that it shuts; rows are queries
KEPT = {"<=": ("tril", 0), "<": ("tril", -1), ">=": ("triu", 0), ">": ("triu", 1)}
SHUT = {"<=": ("triu", 1), ">=": ("tril", -1)}
#: the logit of a pair that is shut: its exponential is zero, whatever the others are
FAR = sp.Integer(-(10**9))


def _without_masks(weight: Array) -> tuple[Array | None, list[Array]]:
    """The factors of a weight that are no masks, multiplied, and the masks."""
    if weight.op == "mask":
        return None, [weight]
    if weight.op != "multiply":
        return weight, []
    (left, first), (right, second) = (_without_masks(a) for a in weight.args)
    if not first + second:
        return weight, []
    if left is None or right is None:
        return left if right is None else right, first + second
    return multiply(left, right), first + second
