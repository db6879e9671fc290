"""Turns a definition's graph into index expressions by power series in the small parameter.

Input: a node of the graph, the laws, and how far to go.  Output: an `Expression` whose free
indices stand for the node's axes.

Linear algebra is exact.  A function of an array is expanded about the part of its argument that
stays (a number, or a mean near which it stays), as far as the orders of the powers ask for; a
quotient is a function (1/x) of its denominator, so that every row normalisation goes the same way.
"""

from __future__ import annotations

import math
from fractions import Fraction

import sympy as sp

from derive.calculus.gaussian.kinks import split
from derive.calculus.index.expressions import Expression, collect, single
from derive.calculus.index.factors import (
    UNIT,
    Index,
    Tensor,
    Terms,
    apart,
    delta_tensor,
    fresh,
    indices_of,
)
from derive.calculus.index.joints import joint_tensor
from derive.calculus.limit.bends import bent
from derive.calculus.limit.centred import centred
from derive.calculus.limit.masks import constant_tensor, masks, weighted
from derive.calculus.limit.mixtures import mixture, random_scores
from derive.calculus.limit.opaque import hide
from derive.calculus.limit.order import Law
from derive.calculus.limit.response import is_response, response
from derive.calculus.limit.scaling import Degree
from derive.calculus.limit.taylor import AboutMean, AboutNumber, Start
from derive.calculus.limit.units import unit_means
from derive.errors import Refusal
from derive.notation.common.arrays import Array, walk
from derive.notation.common.scalars import extent
from derive.notation.common.words.elementwise import KINKED
from derive.notation.layers.blocks import root_shift


def axes(array: Array) -> tuple[Index, ...]:
    """The free indices that stand for an array's axes (an axis of size 1 has none)."""
    return tuple(Index(f"@{p}", d) for p, d in enumerate(array.shape) if d != 1)


class Expansion:
    """Expands nodes of one graph, each once.

    `reach` is the largest order that is kept, `most` the largest degree in the weights.  Where the
    graph is expanded for one `root` alone, its parts go no further than that asks for.  The mean of
    the state over its units is zero, or with `means` a tensor of its own (see `units`).
    """

    def __init__(
        self,
        law: Law,
        weights: dict[Array, Tensor],
        reach: Fraction | int,
        most: float = math.inf,
        root: Array | None = None,
        means: bool = False,
    ) -> None:
        self.means = means
        self.law, self.weights, self.reach, self.most = law, weights, Fraction(reach), most
        self._reaches = {} if root is None else self._asked(root)
        self._done: dict[Array, Expression] = {}

    def of(self, array: Array) -> Expression:
        if array not in self._done:
            # on the sphere sizes are numbers, and functions of them too
            sized = self.law.gram.meaning == UNIT and len(axes(array)) < 2
            whole = response(array, self.law) if is_response(array) and not sized else None
            if whole is not None:
                tensor, free = whole, axes(array)
                self._done[array] = collect(free, [(sp.Integer(1), (tensor[free],))])
            elif scores := self._loud_scores(array):
                tensor, free = mixture(array, scores, self.weights, self.law), axes(array)
                self._done[array] = collect(free, [(sp.Integer(1), (tensor[free],))])
            else:
                self._done[array] = getattr(self, f"_{array.op}")(array)
        return self._done[array]

    def _asked(self, root: Array) -> dict[Array, Fraction]:
        """How far each part goes: behind a small number its product goes less far."""
        out = {root: self.reach}
        for array in reversed(walk(root)):
            own, passes = out[array], array.op in ("add", "transpose", "sum", "composite")
            for arg in array.args:
                wanted = own if passes else self.reach
                if (factor := _number_before(array)) is not None:
                    wanted = min(self.reach, own - self.law.order(factor, ()))
                out[arg] = max(out.get(arg, wanted), wanted)
        return out

    def _loud_scores(self, array: Array) -> dict[Array, Expression]:
        """Scores of order one in which the array is a function of weights, if it is one."""
        found = {s: self.of(s) for s in random_scores(array, self.law)}
        loud = (
            self.law.order(c, f, e.free) <= 0 and any(self.law.is_random(x.tensor) for x in f)
            for e in found.values()
            for c, f in e.terms
        )
        return found if any(loud) else {}

    def at(self, array: Array, shape: tuple[sp.Expr, ...]) -> Expression:
        """The node broadcast to `shape`, its free indices renamed to that shape's axes."""
        shift = len(shape) - array.ndim
        if not shift:
            return self.of(array)
        names = {i: Index(f"@{int(i.name[1:]) + shift}", i.dim) for i in axes(array)}
        return self.of(array).renamed(names)

    def _state(self, array: Array) -> Expression:
        free = axes(array)
        return collect(free, [(sp.Integer(1), (self.law.state[free],))])

    def _gaussian(self, array: Array) -> Expression:
        free = axes(array)
        return collect(free, [(sp.Integer(1), (self.weights[array][free],))])

    def _block(self, array: Array) -> Expression:
        """A block of a reduced chain: iid normals, or the Gaussian root t I + S/2."""
        free, tensor = axes(array), self.weights[array]
        drawn = (tensor[free],)
        if not tensor.symmetric:
            return collect(free, [(sp.Integer(1), drawn)])
        diagonal = (delta_tensor(array.shape[0])[free],)
        root = sp.sqrt(root_shift(array.data, array.shape[0]))
        return collect(free, [(root, diagonal), (sp.Rational(1, 2), drawn)])

    def _eye(self, array: Array) -> Expression:
        free = axes(array)
        return collect(free, [(sp.Integer(1), (delta_tensor(array.shape[0])[free],))])

    def _full(self, array: Array) -> Expression:
        scaling = self.law.scaling
        growing = scaling.proportional | scaling.free
        return collect(axes(array), [(hide(array.data, scaling.width, growing), ())])

    def _constant(self, array: Array) -> Expression:
        free = axes(array)
        return collect(free, [(sp.Integer(1), (constant_tensor(array)[free],))])

    def _add(self, array: Array) -> Expression:
        free = axes(array)
        terms = [t for a in array.args for t in self.at(a, array.shape).terms]
        return collect(free, terms)

    def _multiply(self, array: Array) -> Expression:
        left, right = (self.at(a, array.shape) for a in array.args)
        return self._product(left, right, array)

    def _product(
        self, left: Expression, right: Expression, array: Array, *over: Index
    ) -> Expression:
        """A product of the array's shape, summed over indices; the small is never multiplied out.

        By Hoelder a product is at most as large as its two parts together, and by Cauchy and
        Schwarz a sum over a growing index gains two orders at most.
        """
        law, free, reach = self.law, axes(array), self._reaches.get(array, self.reach)
        room = reach + 2 * sum(law.joins(i.dim) for i in over)
        sizes = [(law.order(c, f, left.free), law.weights_in(f)) for c, f in left.terms]
        products: Terms = []
        for d, g in right.terms:
            size, weights = law.order(d, g, right.free), law.weights_in(g)
            own = apart(g, right.free)
            for (c, f), (other, held_there) in zip(left.terms, sizes, strict=True):
                if size + other <= room and weights + held_there <= self.most:
                    held = indices_of(f) | indices_of(own)
                    alone = [extent(i.dim) for i in over if i not in held]
                    products.append((sp.Mul(c, d, *alone), f + own))
        return law.up_to(law.gram_of(collect(free, products)), reach)

    def _transpose(self, array: Array) -> Expression:
        first, second = (Index(f"@{array.ndim - k}", array.args[0].shape[-k]) for k in (2, 1))
        swapped = {
            first: Index(second.name, first.dim),
            second: Index(first.name, second.dim),
        }
        return collect(axes(array), self.of(array.args[0]).renamed(swapped).terms)

    def _matmul(self, array: Array) -> Expression:
        left, right = array.args
        joined = fresh(left.shape[-1])
        # positions of the axes of either side in the result; rows stay rows
        matrix = right.ndim > 1
        shifts = (array.ndim - matrix - left.ndim + 1, array.ndim - right.ndim)
        inner = (left.ndim - 1, right.ndim - 2 if matrix else 0)
        sides = []
        for side, shift, last in zip((left, right), shifts, inner, strict=True):
            names = {}
            for p, dim in enumerate(side.shape):
                if p == last:
                    names[Index(f"@{p}", dim)] = joined
                elif dim != 1:
                    names[Index(f"@{p}", dim)] = Index(f"@{p + shift}", dim)
            sides.append(self.of(side).renamed(names))
        first, second = sides
        return self._product(first, second, array, joined)

    def _sum(self, array: Array) -> Expression:
        (inner,), (axis, keepdims) = array.args, array.data
        out = self.of(inner)
        if inner.shape[axis] == 1:
            return out
        out = out.summed(Index(f"@{axis}", inner.shape[axis]))
        if inner.shape[axis] == self.law.state.dims[1]:
            out = unit_means(out, self.law, self.means)
        if not keepdims:
            names = {
                i: Index(f"@{int(i.name[1:]) - 1}", i.dim)
                for i in axes(inner)
                if int(i.name[1:]) > axis
            }
            out = out.renamed(names)
        return self.law.gram_of(collect(axes(array), out.terms))

    def _concatenate(self, array: Array) -> Expression:
        (heads,) = array.args
        share = heads.shape[2]
        h, i = fresh(share.count), fresh(share)
        rows, columns = Index("@0", array.shape[0]), Index("@1", array.shape[1])
        names = dict(zip(axes(heads), (h, rows, i), strict=True))
        place = single(joint_tensor(share)[h, i, columns], (h, i, columns))
        return self._product(self.of(heads).renamed(names), place, array, h, i)

    def _composite(self, array: Array) -> Expression:
        return self.of(array.args[1])

    def _function(self, array: Array) -> Expression:
        name, body = array.data
        pieces = split(body) if body.expr.has(*KINKED) else None
        if pieces is not None:
            argument = self.of(array.args[0])
            return self._keep(collect(axes(array), bent(array, argument, *pieces, self.law)))
        if name == "exp":
            patterns, others = masks(array.args[0])
            if patterns:
                return self.of(weighted(patterns, others, array))
        start, rest = self._split(array, name)
        free = axes(array)
        out = start.derivative(0)
        power = collect(free, [(sp.Integer(1), ())])
        step = 0
        while not power.is_zero and not rest.is_zero:
            step += 1
            power = self._product(power, rest, array)
            if power.is_zero:
                break
            term = power * start.derivative(step).scaled(1 / sp.factorial(step))
            out = out + self._keep(collect(free, term.terms))
        return out

    def _split(self, array: Array, name: str) -> tuple[Start, Expression]:
        """Where the argument stays, and the rest, which must be small."""
        argument = self.of(array.args[0])
        start, rest, loud = [], [], []
        terms = [
            (c, f)
            for whole, f in argument.terms
            for c in (sp.Add.make_args(whole) if not f else (whole,))
        ]
        for coefficient, factors in terms:
            order = self.law.order(coefficient, factors, argument.free)
            if order > 0:
                rest.append((coefficient, factors))
            elif not factors and order == 0:
                start.append(coefficient)
            else:
                loud.append((coefficient, factors))
        if loud:
            return self._about_mean(array, argument)
        return AboutNumber(array, argument.free, sp.Add(*start)), collect(argument.free, rest)

    def _about_mean(self, array: Array, argument: Expression) -> tuple[Start, Expression]:
        """An argument that is large or random: its mean, if it stays near that, and the rest.

        Only the largest terms are averaged; the others are small beside them.  A power x^p may be
        taken of large arguments, in units of their size; other functions need
        arguments of order one.
        """
        law, free = self.law, argument.free
        (x,), body = array.data[1].variables, array.data[1].expr
        power = body.as_base_exp()[1] if body.as_base_exp()[0] == x else None
        orders = [law.order(c, f, free) for c, f in argument.terms]
        loudest = min(orders)
        loud = [t for t, o in zip(argument.terms, orders, strict=True) if o == loudest]
        mean = law.mean(collect(free, loud))
        degrees = [d for c, _ in mean.terms if (d := law.scaling.degree(c)) is not None]
        top = max(degrees, default=Degree(Fraction(0), Fraction(0)))
        if (
            any(law.joins(i.dim) for i in free)
            or any(f.tensor == law.state for _, fs in mean.terms for f in fs)
            or (power is None and max(top) != 0)
        ):
            raise self._not_small(array, argument)
        rest = [t for t, o in zip(argument.terms, orders, strict=True) if o > loudest]
        for coefficient, factors in loud:
            if any(law.is_random(f.tensor) for f in factors):
                whole = (coefficient, (centred(factors, free, law),))
                size = law.order(*whole, free)
                if size <= -2 * max(top) or min(top) != max(top):
                    raise self._not_small(array, argument)
                rest.append(whole)
        lead, later = self._leading(mean, top)
        rest += later
        if not lead:
            return AboutNumber(array, free, sp.Integer(0)), collect(free, rest)
        scale = sp.Integer(1)
        if power is not None:
            growing = (law.scaling.width, *law.scaling.proportional)
            scale = lead[0][0].as_independent(*growing)[1]
            lead = [(sp.cancel(c / scale), f) for c, f in lead]
            rest = [(c / scale, f) for c, f in rest]
        else:
            lead = [(law.scaling.leading(c, 0), f) for c, f in lead]
        size = scale ** (power or 0)
        if not any(f for _, f in lead):
            number = AboutNumber(array, free, sp.Add(*(c for c, _ in lead)), size)
            return number, collect(free, rest)
        if any(c.has(law.scaling.width, *law.scaling.proportional) for c, _ in lead):
            raise self._not_small(array, argument)
        found = AboutMean(array, lead, free, law, size)
        if found.factor(0) is None:
            raise self._not_small(array, argument)
        return found, collect(free, rest)

    def _leading(self, mean: Expression, top: Degree) -> tuple[Terms, Terms]:
        """The terms of the highest degree, and those below."""
        lead: Terms = []
        later: Terms = []
        for coefficient, factors in mean.terms:
            kept: list[sp.Expr] = []
            left: list[sp.Expr] = []
            for term in sp.Add.make_args(sp.expand(coefficient)):
                degree = self.law.scaling.degree(term)
                (kept if degree == top else left).append(term)
            if kept:
                lead.append((sp.Add(*kept), factors))
            if left:
                later.append((sp.Add(*left), factors))
        return lead, later

    def _not_small(self, array: Array, argument: Expression) -> Refusal:
        """The reason why an argument has no power series."""
        law, name = self.law, array.data[0]
        random = [
            (o, c, f) for c, f in argument.terms if (o := law.order(c, f, argument.free)) <= 0 and f
        ]
        order, _, factors = min(random, key=lambda t: t[0])
        kind = "random" if any(law.is_random(f.tensor) for f in factors) else "not a number"
        size = "of order one" if order == 0 else f"of order n^{-order / 2}"
        used = {s for c, _ in law.mean(argument).terms for s in c.free_symbols} | {
            i.dim for f in factors for i in f.indices
        }
        free = sorted(str(d) for d in used & law.scaling.free)
        hint = "".join(
            f'. How large it is hangs on {d}: say dims("{d}: ..., proportional to the width") or '
            '"..., fixed"'
            for d in free
        )
        patterns = sorted({f.tensor.name for f in factors if f.tensor.kind == "pattern"})
        if patterns:
            hint += (
                f". A fixed bias is written by its pattern: softmax(logits + log({patterns[0]})) - "
                f"{patterns[0]}, the rows of {patterns[0]} summing to one"
            )
        return Refusal(
            f"the argument of {name} is {kind} and {size}, not small: its expectation "
            "is no power series in 1/sqrt(width); scale the argument so that it vanishes "
            f"with the width (a shaped nonlinearity){hint}",
            array.place,
        )

    def _keep(self, expression: Expression) -> Expression:
        return self.law.up_to(self.law.gram_of(expression), self.reach)


def _number_before(array: Array) -> sp.Expr | None:
    """The number with which a node multiplies an array."""
    scaled = array.op == "multiply" and array.args[0].op == "full"
    return array.args[0].data if scaled and not array.args[0].shape else None
