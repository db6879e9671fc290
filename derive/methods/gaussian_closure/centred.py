"""Does a law of mean zero keep its mean?  It does where the velocity is odd in x.

Input: the velocity under a centred law.  Output: nothing, or a Refusal.  Under N(0, S) an odd
velocity has mean zero; where the mean is known in closed form, it decides.
"""

from __future__ import annotations

from math import prod

import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Tensor
from derive.calculus.written.meanings import expression_text
from derive.errors import Refusal
from derive.methods.gaussian_closure.names import Names
from derive.methods.gaussian_closure.rates import Rates
from derive.methods.gaussian_closure.result import CLOSED


def require_kept(velocity: Expression, rates: Rates, names: Names, book: Book) -> None:
    """Raises Refusal where the mean may leave zero."""
    if not names.model.centred or parity(velocity, names.x, book) == -1:
        return
    if rates.route == CLOSED and rates.mean.is_zero:
        return
    shown = (
        f"its rate is {expression_text(rates.mean, names.stacks)}"
        if rates.route == CLOSED
        else "the velocity is not odd in x, and its mean has no closed form"
    )
    raise Refusal(
        f'law="centred", but the velocity does not keep a mean of zero: {shown}; leave law out',
        names.model.place,
    )


def parity(expression: Expression, variable: Tensor, book: Book) -> int | None:
    """1 of what is even in a vector, -1 of what is odd, None where neither is seen."""
    found = set()
    for _, factors in expression.terms:
        signs = [_sign(f.tensor, variable, book) for f in factors]
        found.add(None if None in signs else prod(s for s in signs if s is not None))
    if not found:
        return 1
    return found.pop() if len(found) == 1 else None


def _sign(tensor: Tensor, variable: Tensor, book: Book) -> int | None:
    if tensor == variable:
        return -1
    if tensor not in book.of:
        return 1
    meaning = book.of[tensor]
    inside = [parity(b, variable, book) for b in meaning.bodies]
    if all(p == 1 for p in inside):
        return 1
    if meaning.kind == "reciprocal":
        return inside[0]
    if meaning.kind not in ("ridge", "smooth") or inside[0] != -1 or inside[1:] not in ([], [1]):
        return None
    rule, order = meaning.data
    s = sp.Symbol("s", real=True)
    here, there = rule.body(s), rule.body(-s)
    signs = [k for k in (1, -1) if sp.simplify(there - k * here) == 0]
    return signs[0] * (-1) ** int(order) if signs else None


__all__ = ["parity", "require_kept"]
