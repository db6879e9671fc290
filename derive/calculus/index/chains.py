"""Writes index expressions in matrix notation: V S K^T Q m instead of sums over indices.

Input: an expression over at most one block index and one or two coordinates.  Output: text or
LaTeX.  A product that is no chain of matrices is written with its indices.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factor, Factors, Index, Tensor


@dataclass(frozen=True)
class Style:
    transpose: str
    join: str
    latex: bool


TEXT = Style("^T", " ", False)
LATEX = Style(r"^{\top}", " ", True)
STACKS = ("H", "B")
GREEK = ("tau", "rho", "nu")


def text(expression: Expression) -> str:
    return _sum(expression, TEXT)


def latex(expression: Expression) -> str:
    return _sum(expression, LATEX)


def _sum(expression: Expression, style: Style) -> str:
    if expression.is_zero:
        return "0"
    out = []
    for position, (coefficient, factors) in enumerate(expression.terms):
        negative = coefficient.as_coeff_Mul()[0].is_negative
        size = -coefficient if negative else coefficient
        sign = "-" if negative else "+" if position else ""
        body = _term(factors, expression.free, style)
        front = _coefficient(size, style) if size != 1 or not body else ""
        out.append(f"{sign} {front}{style.join if front and body else ''}{body}".strip())
    return " ".join(out)


def _coefficient(size: sp.Expr, style: Style) -> str:
    plain = sp.latex(size) if style.latex else sp.sstr(size)
    if size.is_Add:
        return rf"\left({plain}\right)" if style.latex else f"({plain})"
    return plain


def _term(factors: Factors, free: tuple[Index, ...], style: Style) -> str:
    """Chains joined; stack indices (heads, blocks) as subscripts, summed ones named."""
    stacks = _stacks(factors, free)
    coordinates = [i for i in free if i not in stacks]
    left = list(factors)
    pieces = []
    if coordinates:
        chain = _chain(
            coordinates[0], coordinates[1] if len(coordinates) > 1 else None, left, stacks
        )
        if chain is None and len(coordinates) > 1:
            one = _chain(coordinates[0], None, left, stacks)
            two = _chain(coordinates[1], None, left, stacks) if one is not None else None
            if one is None or two is None:
                return _indexed(factors, free, style)
            head = style.join.join(_name(f, t, stacks, style) for f, t in one)
            # the second vector stands transposed: reversed chain, each factor transposed
            tail = style.join.join(_name(f, not t, stacks, style) for f, t in reversed(two))
            pieces.append(f"{head} {tail}")
        elif chain is None:
            return _indexed(factors, free, style)
        else:
            pieces.append(style.join.join(_name(f, t, stacks, style) for f, t in chain))
    scalars = []
    while left:
        start = next((f for f in left if len(_slots(f, stacks)) <= 1), None)
        if start is None:
            return _indexed(factors, free, style)
        left.remove(start)
        slots = _slots(start, stacks)
        if not slots:
            scalars.append(_name(start, False, stacks, style))
            continue
        chain = _chain(slots[0], None, left, stacks)
        if chain is None:
            return _indexed(factors, free, style)
        inner = style.join.join(_name(f, t, stacks, style) for f, t in chain)
        scalars.append(f"{_name(start, True, stacks, style)} {inner}")
    bracket = (lambda s: rf"\left({s}\right)") if style.latex else (lambda s: f"({s})")
    scalars = [bracket(s) if " " in s else s for s in scalars]
    if not coordinates and len(scalars) == 1:
        scalars = [scalars[0].removeprefix("(").removesuffix(")")] if not style.latex else scalars
    summed = sorted({n for i, n in stacks.items() if i not in free})
    names = ", ".join(rf"\{n}" if style.latex and n in GREEK else n for n in summed)
    front = (rf"\sum_{{{names}}}" if style.latex else f"sum_{{{names}}}") if summed else ""
    return style.join.join(p for p in (front, *scalars, *pieces) if p)


def _stacks(factors: Factors, free: tuple[Index, ...]) -> dict[Index, str]:
    """Names of head and block indices: they stand as subscripts."""
    out: dict[Index, str] = {}
    letters = {"H": iter("hgf"), "B": iter(("tau", "rho", "nu"))}
    for i in (*free, *(i for f in factors for i in f.indices)):
        if i.dim.name in STACKS and i not in out:
            out[i] = i.name if i in free else next(letters[i.dim.name])
    return out


def _slots(factor: Factor, stacks: dict[Index, str]) -> list[Index]:
    return [i for i in factor.indices if i not in stacks]


def _chain(
    start: Index, end: Index | None, left: list[Factor], stacks: dict[Index, str]
) -> list[tuple[Factor, bool]] | None:
    """Follow the factors from one index to the end; takes them out of `left` if it succeeds."""
    work, at, out = list(left), start, []
    while at != end:
        hit = next((f for f in work if at in _slots(f, stacks)), None)
        if hit is None:
            return None
        slots = _slots(hit, stacks)
        work.remove(hit)
        if len(slots) == 1:
            if end is not None:
                return None
            out.append((hit, False))
            left[:] = work
            return out
        if len(slots) != 2 or slots[0] == slots[1]:
            return None
        turned = slots[0] != at
        out.append((hit, turned))
        at = slots[0] if turned else slots[1]
    left[:] = work
    return out


def _name(factor: Factor, transposed: bool, stacks: dict[Index, str], style: Style) -> str:
    tensor = factor.tensor
    base = tensor_name(tensor, style)
    below = [stacks[i] for i in factor.indices if i in stacks]
    if below:
        words = [rf"\{b}" if style.latex and b in GREEK else b for b in below]
        if style.latex and "_" in base:
            base = f"{{{base}}}"
        base += f"_{{{' '.join(words)}}}" if style.latex else "[" + ",".join(below) + "]"
    turn = transposed and not (
        tensor.symmetric or tensor.kind in ("covariance", "delta", "spectral")
    )
    return base + style.transpose if turn else base


def tensor_name(tensor: Tensor, style: Style) -> str:
    if tensor.kind == "delta":
        return "I"
    if not style.latex:
        return tensor.name
    if tensor.name == "theta":
        return r"\theta"
    # subscripts only: a superscript would collide with the transpose
    head, _, tail = tensor.name.partition("_")
    base = head if len(head) == 1 else rf"\mathrm{{{head}}}"
    if not tail:
        return base
    return rf"{base}_{{{tail}}}" if len(tail) == 1 else rf"{base}_{{\mathrm{{{tail}}}}}"


def _indexed(factors: Factors, free: tuple[Index, ...], style: Style) -> str:
    from derive.calculus.index.text import index_names

    names = index_names(free, factors)
    parts = []
    for f in factors:
        slots = [names[i] for i in f.indices]
        if style.latex:
            name = tensor_name(f.tensor, style)
            parts.append(f"{{{name}}}_{{{' '.join(slots)}}}" if slots else name)
        else:
            parts.append(f"{f.tensor.name}[{','.join(slots)}]")
    return style.join.join(parts)


def meaning(tensor: Tensor, book: Book, style: Style) -> tuple[str, str]:
    """Both sides of a defined tensor's equation."""
    d = book.of[tensor]
    bodies = [_sum(b, style) for b in d.bodies]
    left = tensor_name(tensor, style)
    if d.indices:
        if style.latex and "_" in left:
            left = f"{{{left}}}"
        left += (
            f"_{{{' '.join(i.name for i in d.indices)}}}"
            if style.latex
            else ("[" + ",".join(i.name for i in d.indices) + "]")
        )
    L = style.latex
    inverse = r"\left(I + " if L else "(I + "
    close = r"\right)" if L else ")"
    forms = {
        "exp": lambda: rf"\exp\left({bodies[0]}\right)" if L else f"exp({bodies[0]})",
        "inverse": lambda: f"{inverse}{bodies[0]}{close}^{{-1}}" if L else f"(I + {bodies[0]})^-1",
        "det": lambda: (
            rf"\det\left(I + {bodies[0]}\right)^{{-1/2}}" if L else f"det(I + {bodies[0]})^(-1/2)"
        ),
        "reciprocal": lambda: rf"\frac{{1}}{{{bodies[0]}}}" if L else f"1/({bodies[0]})",
        "gate": lambda: (
            rf"\frac{{w}}{{\sum w}},\; w = {bodies[1]} \exp\left({bodies[0]}\right)"
            if L
            else f"w / sum w, w = {bodies[1]} exp({bodies[0]})"
        ),
    }
    if d.kind in forms:
        return left, forms[d.kind]()
    if d.kind == "spectral":
        t, body = d.data.variables[0], d.data.expr
        if L:
            return left, rf"g({bodies[0]}),\; g({t}) = {sp.latex(body)}"
        return left, f"g({bodies[0]}), g({t}) = {body}"
    rule, order = d.data
    primes = f"^{{({order})}}" if L and order else "'" * order
    f = rf"\mathrm{{{rule.name}}}{primes}" if L else rule.name + primes
    if d.kind == "ridge":
        return left, f"{f}({bodies[0]})"
    if L:
        return left, rf"\mathbb{{E}}\,{f}(s),\; s \sim N\left({bodies[0]},\, {bodies[1]}\right)"
    return left, f"E {f}(s), s ~ N({bodies[0]}, {bodies[1]})"


def meaning_text(tensor: Tensor, book: Book) -> str:
    left, right = meaning(tensor, book, TEXT)
    return f"{left} = {right}"
