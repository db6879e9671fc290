"""A velocity field as an index expression: reading the graph, integrating over the keys.

Input: the graph of a definition and the law of its keys.  Output: the velocity, an expression in
x, the parameters and the law, over one free index.

Not supported here: bistochastic couplings (`derive.methods.gaussian_closure.coupling`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from derive.calculus.gaussian.tilt import NoTilt, _standard, average, indices_of_expression
from derive.calculus.index.defined import Book, depends, placed, plus, spread, union
from derive.calculus.index.expressions import Expression, collect, scalar, single
from derive.calculus.index.factors import Factors, Index, Tensor, fresh, indices_of
from derive.errors import Refusal
from derive.methods.gaussian_closure.coupling import conditional
from derive.methods.gaussian_closure.key_nodes import over_nodes
from derive.methods.gaussian_closure.names import Names
from derive.methods.gaussian_closure.profiles import composed, product_of_one
from derive.notation.closures.model import ClosureTrace
from derive.notation.common.arrays import Array


@dataclass(frozen=True)
class Rule:
    """A scalar function by name and formula."""

    name: str
    body: sp.Lambda


@dataclass
class Reader:
    """Node by node to expressions; every result has its axes, heads and masks as free indices."""

    names: Names
    book: Book
    heads: dict[str, Index] = field(default_factory=dict)
    # what stands for f(s) when s depends on a key; by default f itself
    ridge_as: Callable[[Rule, Expression, Reader], Expression] | None = None
    replaced: int = 0

    def of(self, node: Array) -> tuple[Expression, tuple[Index, ...]]:
        """Expression of a node, and the indices of its axes in order."""
        return getattr(self, f"_{node.op}")(node)

    def scalar_of(self, node: Array) -> Expression:
        return self.of(node)[0]

    def _axes(self, node: Array) -> tuple[Index, ...]:
        return tuple(fresh(n) for n in node.shape)

    def _query(self, node: Array):  # type: ignore[no-untyped-def]
        axes = self._axes(node)
        own = (self.names.s, *axes) if len(self.names.x.dims) == 2 else axes
        return single(self.names.x[own], own), axes

    def _key(self, node: Array):  # type: ignore[no-untyped-def]
        axes = self._axes(node)
        of = self.names.z if node.data == "z" else self.names.y
        return single(of[axes], axes), axes

    def _constant(self, node: Array):  # type: ignore[no-untyped-def]
        axes = self._axes(node)
        return single(Tensor(node.data, node.shape, "constant")[axes], axes), axes

    def _select(self, node: Array):  # type: ignore[no-untyped-def]
        stack = node.args[0]
        head = self.heads[node.data.name]
        axes = self._axes(node)
        own = (head, *axes)
        return single(Tensor(stack.data, stack.shape, "constant")[own], own), axes

    def _full(self, node: Array):  # type: ignore[no-untyped-def]
        axes = self._axes(node)
        return scalar(node.data, axes), axes

    def _eye(self, node: Array):  # type: ignore[no-untyped-def]
        axes = self._axes(node)
        delta = Tensor("delta", (axes[0].dim, axes[1].dim), "delta", symmetric=True)
        return single(delta[axes], axes), axes

    def _transpose(self, node: Array):  # type: ignore[no-untyped-def]
        inner, axes = self.of(node.args[0])
        return inner, (*axes[:-2], axes[-1], axes[-2])

    def _add(self, node: Array):  # type: ignore[no-untyped-def]
        (a, b), axes = self._aligned(node)
        return plus(a, b), axes

    def _multiply(self, node: Array):  # type: ignore[no-untyped-def]
        one = product_of_one(node)
        if one is not None:
            return self._applied(*one, node)
        (a, b), axes = self._aligned(node)
        return a * b, axes

    def _aligned(self, node: Array):  # type: ignore[no-untyped-def]
        """Two operands with their axes identified (NumPy's rule)."""
        axes = self._axes(node)
        out = []
        for arg in node.args:
            value, own = self.of(arg)
            target = axes[len(axes) - len(own) :]
            out.append(placed(value, dict(zip(own, target, strict=True))))
        return out, axes

    def _matmul(self, node: Array):  # type: ignore[no-untyped-def]
        a, left = self.of(node.args[0])
        b, right = self.of(node.args[1])
        if len(right) > 2 or len(left) > 2:
            raise Refusal("@ joins matrices and vectors; take one of a stack with [h]", node.place)
        link = fresh(left[-1].dim)
        inner = 0 if len(right) == 1 else len(right) - 2
        rest = right[:inner] + right[inner + 1 :]
        product = placed(a, {left[-1]: link}) * placed(b, {right[inner]: link})
        return product.summed(link), (*left[:-1], *rest)

    def _sum(self, node: Array):  # type: ignore[no-untyped-def]
        inner, axes = self.of(node.args[0])
        axis, keep = node.data
        if keep:
            raise Refusal("keepdims has no use in a velocity field", node.place)
        return inner.summed(axes[axis]), axes[:axis] + axes[axis + 1 :]

    def _composite(self, node: Array):  # type: ignore[no-untyped-def]
        return self.of(node.args[1])

    def _mask(self, node: Array):  # type: ignore[no-untyped-def]
        own = (self.names.s, self.names.tau)
        return single(self.names.mask(node.data)[own], own), ()

    def _lag(self, node: Array):  # type: ignore[no-untyped-def]
        own = (self.names.s, self.names.tau)
        return single(self.names.lag[own], own), ()

    def _sum_over(self, node: Array):  # type: ignore[no-untyped-def]
        head = Index(f"h{len(self.heads)}" if self.heads else "h", node.data.dim)
        self.heads[node.data.name] = head
        inner, axes = self.of(node.args[0])
        del self.heads[node.data.name]
        return spread(inner, union(inner.free, (head,))).summed(head), axes

    def _function(self, node: Array):  # type: ignore[no-untyped-def]
        base, name, body = composed(node)
        if name == "exp_power" and not self._needs_ridge(base, body, node):
            base, (name, body) = node.args[0], node.data
        return self._applied(base, name, body, node)

    def _applied(self, base: Array, name: str, body: sp.Lambda, node: Array):  # type: ignore[no-untyped-def]
        """A function of a node, entry by entry."""
        argument, axes = self.of(base)
        if not argument.tensors():
            value = sp.Add(*(c for c, _ in argument.terms))
            return scalar(body(value), argument.free), axes
        if name == "exp":
            return self._exponential(argument), axes
        if name in ("sin", "cos"):
            up = self._exponential(argument.scaled(sp.I))
            down = self._exponential(argument.scaled(-sp.I))
            if name == "cos":
                return plus(up, down).scaled(sp.Rational(1, 2)), axes
            return plus(up, -down).scaled(1 / (2 * sp.I)), axes
        moving = (self.names.x, *self.names.keys, self.names.lag)
        if not any(depends(argument, v, self.book) for v in moving):
            raise Refusal(f"{name} of a matrix is not part of a velocity field", node.place)
        rule = Rule(self.book.named(name, body), body)
        if self.ridge_as is not None and self._keyed(argument):
            self.replaced += 1
            return self.ridge_as(rule, argument, self), axes
        return self.defined("ridge", argument, (rule, 0)), axes

    def _keyed(self, argument: Expression) -> bool:
        return any(depends(argument, v, self.book) for v in self.names.keys)

    def _needs_ridge(self, base: Array, body: sp.Lambda, node: Array) -> bool:
        """Is exp of a polynomial in s no exponential of a quadratic function of x or of y?

        Raises Refusal where it grows so fast that Gaussian integrals diverge.
        """
        exponent = sp.Poly(sp.expand_log(sp.log(body.expr), force=True), *body.variables)
        argument = self.of(base)[0]
        both = depends(argument, self.names.x, self.book) and self._keyed(argument)
        if exponent.degree() < 2 or (exponent.degree() == 2 and not both):
            return False
        if exponent.degree() % 2 or not exponent.LC().is_negative:
            raise Refusal(
                "the Gaussian integral of the weight diverges, or may: exp of "
                f"{exponent.as_expr()} in s = an affine function of tokens, which is unbounded; "
                "the leading power must be even and its coefficient negative",
                node.place,
            )
        return True

    def _exponential(self, argument: Expression) -> Expression:
        return self.defined("exp", argument, None)

    def defined(self, kind: str, argument: Expression, data: object) -> Expression:
        used = indices_of_expression(argument)
        own = tuple(n for n in argument.free if n in used)
        tensor = self.book.tensor(kind, *_standard(own, (argument,)), data)
        return single(tensor[own], own)

    def _integral(self, node: Array):  # type: ignore[no-untyped-def]
        value, axes = self.of(node.args[0])
        if node.args[1].op == "bistochastic":
            return self._coupled(value, node), axes
        weight = self.scalar_of(node.args[1])
        return self._over_keys(value * weight, node), axes

    def _average(self, node: Array):  # type: ignore[no-untyped-def]
        value, axes = self.of(node.args[0])
        if node.args[1].op == "bistochastic":
            return self._coupled(value, node), axes
        before = self.replaced
        weight = self.scalar_of(node.args[1])
        if self.replaced != before:
            raise NoTilt("the velocity is a quotient of integrals")
        top = self._raw(value * weight, node)
        bottom = self._raw(weight, node)
        return quotient(top, bottom, self.names, self.book), axes

    def _raw(self, integrand: Expression, node: Array) -> Expression:
        """Average over the keys of every block, weights theta included, blocks still free."""
        tau = self.names.tau
        if self.names.model.positional:
            free = union(integrand.free, (tau,))
            integrand = spread(integrand, free) * single(self.names.theta[(tau,)], (tau,))
        try:
            for law in self.names.key_laws():
                integrand = average(integrand, law, self.book)
            return integrand
        except NoTilt as problem:
            model = self.names.model
            if model.positional or model.second or self.ridge_as is not None:
                raise Refusal(f"undecided: {problem}", node.place) from None
        try:
            return over_nodes(integrand, self.names, self.book)
        except NoTilt as problem:
            raise Refusal(f"undecided: {problem}", node.place) from None

    def _over_keys(self, integrand: Expression, node: Array) -> Expression:
        out = self._raw(integrand, node)
        return out.summed(self.names.tau) if self.names.tau in out.free else out

    def _coupled(self, value: Expression, node: Array) -> Expression:
        """Integral against a bistochastic weight: the mean of the value given x."""
        if self.names.model.second:
            raise Refusal("undecided: a bistochastic weight beside two keys", node.place)
        kernel = self.scalar_of(node.args[1].args[0])
        law = conditional(kernel, self.names, self.book, node.place)
        try:
            return average(value, law, self.book)
        except NoTilt as problem:
            raise Refusal(f"undecided: {problem}", node.place) from None

    def _bistochastic(self, node: Array):  # type: ignore[no-untyped-def]
        raise Refusal(
            "a bistochastic weight stands as the weight of one integral or average: "
            "integral(V @ y, bistochastic(exp(...))), times a number",
            node.place,
        )


def quotient(top: Expression, bottom: Expression, names: Names, book: Book) -> Expression:
    """top / bottom (blocks still free), common factors cancelled.

    Where `bottom` is one product w, every term of `top` that holds w is rest * w: a rest without
    the block index cancels against sum w; otherwise sum (rest * w) / sum w stays, with w / sum w a
    gate (if w is an exponential of x) or w times the reciprocal of its sum.
    """
    tau = names.tau
    total = bottom.summed(tau) if tau in bottom.free else bottom
    if len(bottom.terms) == 1:
        coefficient, factors = bottom.terms[0]
        single_valued = all(i in bottom.free for i in indices_of(factors))
        left = _divided(top, coefficient, factors, bottom) if single_valued else None
        if left is not None:
            if tau not in left.free:
                return left
            whole = [(c, f) for c, f in left.terms if tau not in indices_of(f)]
            mixed = [(c, f) for c, f in left.terms if tau in indices_of(f)]
            outer = tuple(i for i in left.free if i != tau)
            out = collect(outer, whole)
            if mixed:
                share = _share(coefficient, factors, bottom, total, names, book)
                out = plus(out, (collect(left.free, mixed) * share).summed(tau))
            return spread(out, outer)
    own = tuple(i for i in total.free if i in indices_of_expression(total))
    tensor = book.tensor("reciprocal", *_standard(own, (total,)))
    over = top.summed(tau) if tau in top.free else top
    return over * single(tensor[own], own)


def _share(
    coefficient: sp.Expr,
    factors: Factors,
    bottom: Expression,
    total: Expression,
    names: Names,
    book: Book,
) -> Expression:
    """w / sum of w over the blocks."""
    tau = names.tau
    exponentials = [f for f in factors if f.tensor.kind == "exp"]
    plain = tuple(f for f in factors if f.tensor.kind != "exp")
    known = not any(depends(single(f, f.indices), names.x, book) for f in plain)
    if exponentials and known:
        own = tuple(i for i in bottom.free if i != tau and i in indices_of(factors))
        exponent = plus(*(book.of[f.tensor].body(f.indices) for f in exponentials))
        exponent = spread(exponent, (*own, tau))
        weight = collect((*own, tau), [(coefficient, plain)])
        gate = book.tensor("gate", *_standard((*own, tau), (exponent, weight)))
        return single(gate[(*own, tau)], (*own, tau))
    own = tuple(i for i in total.free if i in indices_of_expression(total))
    tensor = book.tensor("reciprocal", *_standard(own, (total,)))
    return bottom * single(tensor[own], own)


def _divided(
    top: Expression, coefficient: sp.Expr, factors: tuple[Any, ...], bottom: Expression
) -> Expression | None:
    """Every term of `top` holds the factors: take them out; None if one does not."""
    out = []
    for c, f in top.terms:
        left = list(f)
        for factor in factors:
            if factor not in left:
                return None
            left.remove(factor)
        out.append((c / coefficient, tuple(left)))
    return collect(union(top.free, bottom.free), out)


def velocity_of(traced: ClosureTrace, names: Names, book: Book, **options) -> Expression:  # type: ignore[no-untyped-def]
    value, axes = Reader(names, book, **options).of(traced.velocity)
    i = Index("i", names.model.state_dim)
    value = placed(value, dict(zip(axes, (i,), strict=True)))
    block = (names.s,) if names.model.positional and names.block else ()
    value = value.summed(*(n for n in value.free if n not in (*block, i, names.s)))
    return spread(value, (*block, i))
