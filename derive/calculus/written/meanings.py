"""What a defined tensor means, in words of matrices: P_1 = (I + 2 S K^T K)^-1.

Input: a tensor of a book.  Output: both sides of its equation, as text or as LaTeX.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sympy as sp

from derive.calculus.index.defined import Book, Definition, placed
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Index, Tensor
from derive.calculus.index.slices import LETTERS, OTHERS
from derive.calculus.written import symbols
from derive.calculus.written.dialect import TEXT, Dialect
from derive.calculus.written.short_form import short_form
from derive.calculus.written.spelling import Words

FIRST = {"B": ("s",)}  # before the letters of summed positions


def meaning(
    tensor: Tensor,
    book: Book,
    stacks: Collection[sp.Symbol],
    dialect: Dialect = TEXT,
    avoid: Iterable[str] = (),
) -> tuple[str, str]:
    """Both sides; `stacks` and `avoid` as for `short_form`."""
    own = book.of[tensor]
    names = _named(own.indices)
    places = [names[i].name for i in own.indices if i.dim in stacks]
    writer, taken = Words(dialect, set(avoid)), set(avoid)
    name = writer.letter(tensor)
    left = writer.at(name, places) if places else name
    bodies, where = [], list[str]()
    for body in own.bodies:
        form = short_form(placed(body, names), dialect, taken, stacks)
        bodies.append(" ".join(form.lines))
        where += form.where
        taken |= {row.partition(" = ")[0] for row in form.where}
    right = _right(own, bodies, places, writer)
    if where:
        word = r"\text{ where }" if dialect.is_latex else "where"
        right += f", {word} " + (r",\; " if dialect.is_latex else "; ").join(where)
    return left, right


def _named(indices: Sequence[Index]) -> dict[Index, Index]:
    """Names that a reader knows: s and tau for positions, h for heads."""
    used: set[str] = set()
    out = {}
    for index in indices:
        dim = index.dim.name
        letters = (*FIRST.get(dim, ()), *LETTERS.get(dim, OTHERS))
        name = next(n for n in letters if n not in used)
        used.add(name)
        out[index] = Index(name, index.dim)
    return out


def _right(own: Definition, bodies: list[str], places: list[str], writer: Words) -> str:
    tex, inside = writer.dialect.is_latex, writer.dialect.brackets.format
    first = bodies[0]
    shifted = inside(f"I {first}" if first.startswith("- ") else f"I + {first}")
    if own.kind == "exp":
        return (r"\exp" if tex else "exp") + inside(first)
    if own.kind == "inverse":
        return shifted + (r"^{-1}" if tex else "^-1")
    if own.kind == "det":
        return rf"\det{shifted}^{{-1/2}}" if tex else f"det{shifted}^(-1/2)"
    if own.kind == "reciprocal":
        return rf"\frac{{1}}{{{first}}}" if tex else f"1/({first})"
    if own.kind == "gate":
        weight = writer.at("w", places)
        key = places[-1]
        over = rf"\sum_{{{symbols.index_name(key)}}}" if tex else f"sum_{{{key}}}"
        share = rf"\frac{{{weight}}}{{{over} {weight}}},\;" if tex else f"{weight}/{over} {weight},"
        times = r" \exp" if tex else " * exp"
        return f"{share} {weight} = {bodies[1]}{times}{inside(first)}"
    if own.kind == "spectral":
        t, body = own.data.variables[0], own.data.expr
        then = rf",\; g({t}) = {sp.latex(body)}" if tex else f", g({t}) = {body}"
        return f"g{inside(first)}{then}"
    rule, order = own.data
    primes = f"^{{({order})}}" if tex and order else "'" * order
    name = rule.name.replace("_", r"\_")
    f = rf"\mathrm{{{name}}}{primes}" if tex else rule.name + primes
    formula = _formula(rule, tex)
    if own.kind == "ridge":
        return f + inside(first) + formula
    law = r"\mathbb{E}\,%s(s),\; s \sim N" if tex else "E %s(s), s ~ N"
    return law % f + inside(f"{first}, {bodies[1]}") + formula


def _formula(rule: Any, tex: bool) -> str:
    """What a composed function is; its name alone, tanh_tanh say, tells it from no other."""
    if "_" not in rule.name:
        return ""
    s = sp.Symbol("s")
    body = rule.body(s)
    name = rule.name.replace("_", r"\_")
    return rf",\; \mathrm{{{name}}}(s) = {sp.latex(body)}" if tex else f", {rule.name}(s) = {body}"


def expression_text(expression: Expression, stacks: Collection[sp.Symbol] = ()) -> str:
    """An expression as one line of text, with what its symbols stand for."""
    form = short_form(expression, stacks=stacks)
    where = f", where {'; '.join(form.where)}" if form.where else ""
    return " ".join(form.lines) + where
