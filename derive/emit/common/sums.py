"""A polynomial in placed arrays as text: common factors first, then equal ones added."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import sympy as sp

from derive.calculus.index.factors import Index, fresh
from derive.calculus.index.readable import readable
from derive.emit.common.contraction import aligned, product_of
from derive.emit.common.merging import Placed, Recipe, Split, placed_matrix, splits
from derive.emit.common.program import RANKS, Program, Term, in_order
from derive.emit.common.scalars import factor_text, fraction, python


def sum_text(terms: list[Term], order: tuple[Index, ...], program: Program) -> str:
    """Greedy factored text of a sum of coefficient * product of placed arrays.

    A factor that lives on fewer indices than the result is a statement of its own, so that it is
    computed at its own size.
    """
    if not terms:
        return "0"
    common = _common([c for c, _ in terms])
    if common != 1 and len(terms) > 1:
        rest = [(sp.expand(_over(c, common)), p) for c, p in terms]
        return scaled(common, [_closed(_part(rest, order, program))])
    if len(terms) == 1:
        ((coefficient, placed),) = terms
        return scaled(coefficient, [aligned(p, order, program.symmetric) for p in placed])
    merged = _merged(terms, program)
    if merged:
        return sum_text(merged, order, program)
    counts: dict[Placed, int] = {}
    for _, placed in terms:
        for one in set(placed):
            counts[one] = counts.get(one, 0) + 1
    best = max(counts, key=lambda p: (counts[p], len(p[1]), _reverse(p)), default=None)
    if best is None or counts[best] < 2:
        return joined(sum_text([t], order, program) for t in terms)
    inside = [(c, _without(p, best)) for c, p in terms if best in p]
    outside = [t for t in terms if best not in t[1]]
    inner = _closed(_part(inside, order, program))
    # the smaller array first: coefficients then multiply few entries
    pulled = f"{inner} * {aligned(best, order, program.symmetric)}"
    return joined([pulled, sum_text(outside, order, program)]) if outside else pulled


def _splits(term: Term, program: Program) -> list[tuple[Placed, Split]]:
    """Factors that can be taken off the term's products: the other arrays must not be on them."""
    out = []
    for placed in term[1]:
        name, legs = placed
        if not program.alone(name):
            continue
        out += [(placed, s) for s in _summed(term, placed, program)]
        if name not in program.recipes:
            continue
        others = {i for _, ix in _without(term[1], placed) for i in ix}
        for split in splits(placed, program.recipes[name], name in program.symmetric):
            if others <= ({split.rest_leg} if split.rest_leg else set()) and len(legs) < 3:
                out.append((placed, split))
    return out


def _summed(term: Term, placed: Placed, program: Program) -> list[Split]:
    """A column sum read as a product with a row of ones, beside arrays on another index."""
    name, legs = placed
    others = {i for _, ix in _without(term[1], placed) for i in ix}
    if len(legs) != 1 or len(others) != 1 or legs[0] in others:
        return []
    matrix = program.column_sums.get(name)
    recipe = program.recipes.get(name)
    if recipe is not None and recipe.right in program.column_sums:
        whole = Recipe(
            program.column_sums[recipe.right], False, recipe.left, not recipe.left_turned
        )
        matrix = next((n for n, r in program.recipes.items() if r == whole), None)
    if matrix is None:
        return []
    return [Split("right", matrix, False, legs[0], "", False, *others)]


def _merged(terms: list[Term], program: Program) -> list[Term] | None:
    """The terms with two or more products by one factor replaced by the product of their sum."""
    groups: dict[tuple[Any, ...], list[tuple[int, Placed, Split]]] = {}
    for position, term in enumerate(terms):
        for placed, split in _splits(term, program):
            key = (*split.key, split.rest_leg)
            if all(p != position for p, _, _ in groups.get(key, [])):
                groups.setdefault(key, []).append((position, placed, split))
    kept = [g for g in groups.values() if any(s.rest for _, _, s in g)]
    best = max(kept, key=len, default=[])
    if len(best) < 2:
        return None
    split = best[0][2]
    inner = fresh(next(i for _, placed, _ in best for i in placed[1]).dim)
    inside = []
    for position, placed, one in best:
        coefficient, arrays = terms[position]
        rest = _without(arrays, placed) + _factor(one, inner)
        inside.append((coefficient, tuple(sorted(rest, key=in_order))))
    for name in dict.fromkeys(placed[0] for _, placed, _ in best):
        program.forget(name)
    for name in [n for n in program.column_sums if not program.needed(n)]:
        program.forget(name)
    legs = tuple(i for i in (split.rest_leg, inner) if i)
    turned = [ix == legs[::-1] for _, t in inside for n, ix in t if n not in program.symmetric]
    if 2 * sum(turned) > len(turned):
        legs = legs[::-1]
    common = _common([c for c, _ in inside])
    text = sum_text([(_over(c, common), a) for c, a in inside], legs, program)
    name = program.assign(("sum", text), RANKS[len(legs)], text, len(legs))
    leg = split.leg
    assert leg is not None
    ends = (leg, inner) if split.side == "left" else (inner, leg)
    group = [(name, legs), placed_matrix(split.common, split.turned, *ends)]
    free = tuple(i for i in (leg, split.rest_leg) if i)
    if split.side == "right":
        free = free[::-1]
    product = product_of(sorted(group, key=in_order), {inner}, free, program)
    program.uses[product[0]] += 1
    taken = {p for p, _, _ in best}
    return [(common, (product,)), *(t for p, t in enumerate(terms) if p not in taken)]


def _factor(split: Split, inner: Index) -> tuple[Placed, ...]:
    """What is left of a product, its open index `inner`."""
    if not split.rest:
        return ()
    if split.rest_leg is None:
        return ((split.rest, (inner,)),)
    ends = (split.rest_leg, inner) if split.side == "right" else (inner, split.rest_leg)
    return (placed_matrix(split.rest, split.rest_turned, *ends),)


def divided(same: list[Term], upper: list[Term], program: Program) -> tuple[list[Term], list[Term]]:
    """Symmetric terms; those that share a factor with a term of the half join it, by halves."""
    keys = {
        (split.key, _without(term[1], placed))
        for term in upper
        for placed, split in _splits_of_any(term, program)
    }
    stay, join = [], []
    for term in same:
        found = _splits_of_any(term, program)
        if any((split.key, _without(term[1], placed)) in keys for placed, split in found):
            join.append((term[0] / 2, term[1]))
        else:
            stay.append(term)
    return stay, join


def _splits_of_any(term: Term, program: Program) -> list[tuple[Placed, Split]]:
    return [
        (placed, split)
        for placed in term[1]
        if placed[0] in program.recipes and program.alone(placed[0])
        for split in splits(placed, program.recipes[placed[0]], placed[0] in program.symmetric)
    ]


def _closed(text: str) -> str:
    """Text that may stand as a factor: in brackets if it is a sum."""
    depth = 0
    for before, char in zip(" " + text, text, strict=False):
        depth += (char in "([") - (char in ")]")
        if depth == 0 and char in "+-" and before == " ":
            return f"({text})"
    return f"({text})" if text.startswith("-") else text


def _part(terms: list[Term], order: tuple[Index, ...], program: Program) -> str:
    """A sub-sum, as a statement of its own if it carries fewer indices than `order`."""
    carried = {i for _, placed in terms for _, ix in placed for i in ix}
    own = tuple(i for i in order if i in carried)
    if len(own) == len(order) or len(terms) == 1:
        return sum_text(terms, order, program)
    if not any(placed for _, placed in terms):
        return sum_text(terms, own, program)
    common = _common([c for c, _ in terms])
    text = sum_text([(_over(c, common), p) for c, p in terms], own, program)
    wish = RANKS[min(len(own), 3)]
    name = program.assign(("part", text), wish, text, len(own))
    return scaled(common, [aligned((name, own), order)])


def scaled(coefficient: sp.Expr, arrays: list[str]) -> str:
    """coefficient * arrays; the coefficient first, so that it meets the smallest array."""
    coefficient = readable(coefficient)
    if not arrays:
        return python(coefficient)
    sign = ""
    if coefficient.as_coeff_Mul()[0] < 0:
        sign, coefficient = "-", readable(-coefficient)
    counts = {a: arrays.count(a) for a in arrays}
    powers = [
        a if k == 1 else f"{a}**{k}" if a.isidentifier() else " * ".join([a] * k)
        for a, k in counts.items()
    ]
    ordered = sorted(powers, key=lambda a: (a.count(":"), a.count("None")))
    top, bottom = fraction(coefficient)
    if top == 1 and bottom != 1 and _closed(ordered[0]) == ordered[0]:
        below = python(bottom)
        ordered[0] += f" / {below}" if re.fullmatch(r"[\w*]+", below) else f" / ({below})"
        coefficient = sp.Integer(1)
    front = [] if coefficient == 1 else [factor_text(coefficient)]
    return sign + " * ".join([*front, *ordered])


def _reverse(placed: Placed) -> tuple[Any, ...]:
    return tuple(-ord(c) for c in placed[0]), tuple(i.name for i in placed[1])


def _without(placed: tuple[Placed, ...], one: Placed) -> tuple[Placed, ...]:
    position = placed.index(one)
    return placed[:position] + placed[position + 1 :]


def joined(texts: Iterable[str]) -> str:
    out = ""
    for text in sorted(texts, key=lambda t: t.startswith("-")):
        if not out:
            out = text
        elif text.startswith("-"):
            out += f" - {text[1:]}"
        else:
            out += f" + {text}"
    return out


def _over(coefficient: sp.Expr, common: sp.Expr) -> sp.Expr:
    """The quotient, cancelled factor by factor: where `common` holds a sum, an expanded
    coefficient would keep it below every term, and the next factor taken out would be larger."""
    return sp.factor_terms(coefficient) / common


def _common(coefficients: list[sp.Expr]) -> sp.Expr:
    """The largest monomial that divides every coefficient."""
    powers = None
    for c in map(sp.factor_terms, coefficients):
        own: dict[sp.Expr, sp.Expr] = {}
        if not c.is_Add:
            for base, exponent in c.as_powers_dict().items():
                if not base.is_number:
                    own[base] = exponent
        if powers is None:
            powers = own
        else:
            powers = {
                base: min(e, own[base])
                if (e > 0) == (own[base] > 0) and e > 0
                else max(e, own[base])
                for base, e in powers.items()
                if base in own and (e > 0) == (own[base] > 0)
            }
    return sp.Mul(*(b**e for b, e in sorted((powers or {}).items(), key=lambda i: str(i[0]))))
