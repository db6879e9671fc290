"""From an index expression to array statements: contraction order, shared parts, factoring.

Input: an expression with free indices.  Output: statements (name, text, meaning) that evaluate
it on arrays of shape (..., m, m), and the text of the result.

Every monomial splits into parts joined by dummies; a part is contracted one dummy at a time, the
cheapest first; equal parts are computed once, whatever monomial they come from.  The remaining
polynomial in the parts is factored greedily, and a symmetric result is built from its half.
Nothing larger than the result is ever formed when the parts are matrices.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import sympy as sp

from derive.calculus.canonical import components
from derive.calculus.index import Expression, Factors, Index, Tensor, collect
from derive.calculus.kinks import CORRELATION
from derive.emit.graph_code import statements
from derive.emit.scalars import factor_text, python

Placed = tuple[str, tuple[Index, ...]]  # a named array and its indices
Term = tuple[sp.Expr, tuple[Placed, ...]]


@dataclass(frozen=True)
class Statement:
    name: str
    text: str
    meaning: str


@dataclass
class Program:
    """Statements shared by all expressions that are lowered into it."""

    statements: list[Statement] = field(default_factory=list)
    known: dict[object, str] = field(default_factory=dict)
    symmetric: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    operations: dict[str, int] = field(default_factory=dict)
    like: str = "V"  # an array of the kernel's own representation

    def assign(self, key: object, wish: str, text: str, meaning: str, cost: int) -> str:
        """Name a value; the same key is computed once.  `cost` is its exponent of m."""
        if key not in self.known:
            name, number = wish, 1
            while name in self.taken:
                number += 1
                name = f"{wish}_{number}"
            self.taken.add(name)
            self.known[key] = name
            self.statements.append(Statement(name, text, meaning))
            label = f"m^{cost}"
            self.operations[label] = self.operations.get(label, 0) + 1
        return self.known[key]


def lower(expression: Expression, program: Program) -> str:
    """Text of the expression's value, after the statements that `program` has gained."""
    terms: list[Term] = []
    for coefficient, factors in expression.terms:
        parts = components(factors, expression.free)
        placed = [p for part in parts for p in _contract(part, expression.free, program)]
        terms.append((coefficient, tuple(sorted(placed, key=_order))))
    if len(expression.free) == 2:
        halved = _half(expression, terms, program)
        if halved:
            return halved
    return _build(terms, expression.free, program)


def _order(placed: Placed) -> tuple:
    return (-len(placed[1]), placed[0], tuple(i.name for i in placed[1]))


# --- contraction of one part -----------------------------------------------------------------


def _contract(part: Factors, free: tuple[Index, ...], program: Program) -> list[Placed]:
    """Evaluate one component; its legs are the free indices in it."""
    if len(part) == 1 and part[0].tensor.kind == "delta":
        name = program.assign(("delta",), "delta", f"identity({program.like})", "delta", 2)
        program.symmetric.add(name)
        return [(name, part[0].indices)]
    arrays: list[Placed] = []
    for factor in part:
        name = _named(factor.tensor, program)
        if factor.tensor.symmetric:
            program.symmetric.add(name)
        arrays.append((name, factor.indices))
    arrays = [_diagonal(a, program) for a in arrays]
    while True:
        dummies = {i for _, ix in arrays for i in ix if i not in free}
        if not dummies:
            return arrays
        best = min(dummies, key=lambda d: (_cost(d, arrays), d.name))
        group = [a for a in arrays if best in a[1]]
        rest = [a for a in arrays if best not in a[1]]
        also = {d for d in dummies if all((d in a[1]) == (a in group) for a in arrays)}
        arrays = [*rest, _eliminate(group, also, program)]


def _named(tensor: Tensor, program: Program) -> str:
    """The array behind a tensor; a function of V is computed first."""
    if tensor.kind == "kernel":
        shape, degree, gram = tensor.meaning
        slope = sp.simplify(sp.diff(shape, CORRELATION))
        functions = ", ".join(f"lambda {CORRELATION}: {python(f)}" for f in (shape, slope))
        text = f"of_correlation({gram.name}, {degree}, {functions})"
        return program.assign(("kernel", tensor.name), "pair", text, tensor.name, 2)
    if tensor.kind == "pattern":
        given, like = tensor.meaning.given, program.like
        text = f"constant({tensor.name}, {like})" if given else f"causal({tensor.dims[0]}, {like})"
        wish = tensor.name if given else "pattern"
        return program.assign(("pattern", tensor.name), wish, text, tensor.name, 2)
    if tensor.kind == "response":
        return _response(tensor, program)
    if tensor.kind == "spread":
        factor, gram = tensor.meaning
        text = f"{factor_text(factor)} * sqrt(diagonal({gram.name}))"
        return program.assign(("spread", tensor.name), "spread", text, tensor.name, 1)
    return tensor.name


def _response(tensor: Tensor, program: Program) -> str:
    """A nonlinear function of V, written out as in the definition."""
    meaning = tensor.meaning
    leaves = {meaning.gram: meaning.tensor.name}
    dtype = f"{meaning.tensor.name}.dtype"
    lines, text = statements(meaning.root, {}, leaves, dtype)
    known = {s.name: s.text for s in program.statements}
    if any(name in program.taken and known.get(name) != words for name, words in lines):
        # another function's parts have these names
        lines, text = statements(meaning.root, {}, leaves, dtype, program.taken)
    for name, words in lines:
        if name not in program.taken:
            program.assign(("line", name, words), name, words, tensor.name, 2)
    rank = len(tensor.dims)
    wish = "mixing" if rank == 2 else "size"
    return program.assign(("response", tensor.name), wish, text, tensor.name, rank)


def responses(expressions: Iterable[Expression]) -> list[str]:
    """What the functions of V in the equations are, a line each: S_1 = softmax(beta * V)."""
    found = {t for e in expressions for t in e.tensors() if t.kind == "response"}
    out = []
    for tensor in sorted(found, key=lambda t: t.name):
        meaning = tensor.meaning
        name = meaning.tensor.name
        lines, text = statements(meaning.root, {}, {meaning.gram: name}, f"{name}.dtype")
        where = "".join(f", {n} = {words}" for n, words in lines)
        out.append(f"{tensor.name} = {text}{where}")
    return out


def _cost(dummy: Index, arrays: list[Placed]) -> tuple[int, int]:
    group = [a for a in arrays if dummy in a[1]]
    involved = {i for _, ix in group for i in ix}
    return len(involved), len(group)


def _diagonal(placed: Placed, program: Program) -> Placed:
    name, indices = placed
    if len(indices) == 2 and indices[0] == indices[1]:
        new = program.assign(("diag", name), f"{name}_diag", f"diagonal({name})", "diagonal", 1)
        return new, indices[:1]
    assert len(set(indices)) == len(indices), "only matrices have diagonals here"
    return placed


def _eliminate(group: list[Placed], dummies: set[Index], program: Program) -> Placed:
    """Sum the product of a group over `dummies`; rank-one partners are multiplied in first."""
    group = sorted((_oriented(p, dummies, program) for p in group), key=_order)
    while len(group) > 2:
        # the pair that makes the smallest array
        first, second = min(
            itertools.combinations(reversed(group), 2),
            key=lambda pair: len({*pair[0][1], *pair[1][1]}),
        )
        rest = [p for p in group if p is not first and p is not second]
        group = sorted([_merge(first, second, program), *rest], key=_order)
    legs = tuple(dict.fromkeys(i for _, ix in group for i in ix if i not in dummies))
    key, wish, text, meaning = _product_text(group, legs, dummies, program)
    involved = {i for _, ix in group for i in ix}
    name = program.assign(key, wish, text, meaning, len(involved))
    return name, legs


def _oriented(placed: Placed, dummies: set[Index], program: Program) -> Placed:
    """A symmetric matrix is read with the summed index last."""
    name, indices = placed
    flip = name in program.symmetric and len(indices) == 2 and indices[0] in dummies
    return (name, indices[::-1]) if flip and indices[1] not in dummies else placed


def _merge(first: Placed, second: Placed, program: Program) -> Placed:
    legs = tuple(sorted({*first[1], *second[1]}))
    key, wish, text, meaning = _product_text([first, second], legs, set(), program)
    return program.assign(key, wish, text, meaning, len(legs)), legs


def _product_text(
    group: list[Placed], legs: tuple[Index, ...], dummies: set[Index], program: Program
) -> tuple[object, str, str, str]:
    names: dict[Index, str] = {}
    for index in [*legs, *(i for _, ix in group for i in ix)]:
        names.setdefault(index, "abcdefgh"[len(names)])
    pattern = "; ".join(f"{n}[{','.join(names[i] for i in ix)}]" for n, ix in group)
    key = (pattern, "".join(names[i] for i in legs))
    meaning = (
        f"[{','.join(names[i] for i in legs)}] = "
        + (f"sum_{{{','.join(sorted(names[d] for d in dummies))}}} " if dummies else "")
        + " ".join(f"{n}[{','.join(names[i] for i in ix)}]" for n, ix in group)
    )
    if len(group) == 1:
        ((name, indices),) = group
        axes = sorted(indices.index(d) - len(indices) for d in dummies)
        axis = str(axes[0]) if len(axes) == 1 else f"({', '.join(map(str, axes))})"
        side = "_total" if len(axes) > 1 else "_sum" if axes[0] == -1 else "_column_sum"
        return (
            key,
            f"{name}{side}" if legs or len(axes) > 1 else f"{name}_total",
            (f"{name}.sum({axis})"),
            meaning,
        )
    product = _matmul(group, dummies, program.symmetric)
    if product:
        text, order = product
        wish = "_".join(n for n, _ in group)
        return key, wish, text if order == legs else f"({text}).mT", meaning
    order = (*legs, *sorted(dummies))
    text = " * ".join(aligned(p, order) for p in group)
    wish = "_".join(n for n, _ in group) + ("_dot" if dummies else "")
    if dummies:
        axes = tuple(range(-len(dummies), 0))
        text = f"({text}).sum({axes[0] if len(axes) == 1 else axes})"
    return key, wish, text, meaning


def _matmul(
    group: list[Placed], dummies: set[Index], symmetric: set[str]
) -> tuple[str, tuple[Index, ...]] | None:
    if len(group) != 2 or len(dummies) != 1 or any(len(ix) != 2 for _, ix in group):
        return None
    (dummy,) = dummies
    (first, ix), (second, jx) = group
    outer = [next(i for i in pair if i != dummy) for pair in (ix, jx)]
    if outer[0] == outer[1]:
        return None
    left = first if ix[1] == dummy or first in symmetric else f"{first}.mT"
    right = second if jx[0] == dummy or second in symmetric else f"{second}.mT"
    return f"{left} @ {right}", (outer[0], outer[1])


def aligned(placed: Placed, order: tuple[Index, ...]) -> str:
    """An array read with its axes in `order`, missing ones as axes of size one."""
    name, indices = placed
    if not indices:
        return f"{name}[..., {', '.join(['None'] * len(order))}]" if order else name
    positions = [order.index(i) for i in indices]
    text = name
    if positions != sorted(positions):
        ranked = sorted(range(len(positions)), key=lambda k: positions[k])
        text = f"{name}.mT" if len(positions) == 2 else f"permuted({name}, {tuple(ranked)})"
    if len(indices) == len(order):
        return text
    where = [":" if i in indices else "None" for i in order]
    return f"{text}[..., {', '.join(where)}]"


# --- the polynomial in the parts --------------------------------------------------------------


def _half(expression: Expression, terms: list[Term], program: Program) -> str | None:
    """A symmetric result from its half: S + U + U^T."""
    a, b = expression.free
    partner: dict[int, int] = {}
    swapped = {
        collect((a, b), [(sp.Integer(1), _swap(f, a, b))]).terms[0][1]: p
        for p, (_, f) in enumerate(expression.terms)
    }
    for p, (c, f) in enumerate(expression.terms):
        q = swapped.get(f)
        if q is None or sp.expand(expression.terms[q][0] - c) != 0:
            return None
        partner[p] = q
    upper = [terms[p] for p, q in partner.items() if p < q]
    if not upper:
        return None
    same = [terms[p] for p, q in partner.items() if p == q]
    text = _build(upper, expression.free, program)
    half = program.assign(("half", text), "half", text, "half of the symmetric part", 2)
    whole = f"{half} + {half}.mT"
    return f"{_build(same, expression.free, program)} + {whole}" if same else whole


def _swap(factors: Factors, a: Index, b: Index) -> Factors:
    return tuple(f.rename({a: b, b: a}) for f in factors)


def _build(terms: list[Term], order: tuple[Index, ...], program: Program) -> str:
    """Greedy factored text of a sum of coefficient * product of placed arrays.

    A factor that lives on fewer indices than the result is a statement of its own, so that it is
    computed at its own size.
    """
    if not terms:
        return "0"
    common = _common([c for c, _ in terms])
    if common != 1 and len(terms) > 1:
        rest = [(sp.expand(c / common), p) for c, p in terms]
        return scaled(common, [_closed(_part(rest, order, program))])
    if len(terms) == 1:
        ((coefficient, placed),) = terms
        return scaled(coefficient, [aligned(p, order) for p in placed])
    counts: dict[Placed, int] = {}
    for _, placed in terms:
        for one in set(placed):
            counts[one] = counts.get(one, 0) + 1
    best = max(counts, key=lambda p: (counts[p], len(p[1]), _reverse(p)), default=None)
    if best is None or counts[best] < 2:
        return joined(_build([t], order, program) for t in terms)
    inside = [(c, _without(p, best)) for c, p in terms if best in p]
    outside = [t for t in terms if best not in t[1]]
    inner = _closed(_part(inside, order, program))
    # the smaller array first: coefficients then multiply few entries
    pulled = f"{inner} * {aligned(best, order)}"
    return joined([pulled, _build(outside, order, program)]) if outside else pulled


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
        return _build(terms, order, program)
    text = _build(terms, own, program)
    if not own and not any(placed for _, placed in terms):
        return text
    wish = ("scalar", "vector", "matrix", "array")[min(len(own), 3)]
    name = program.assign(("part", text), wish, text, "common factor", len(own))
    return aligned((name, own), order)


def scaled(coefficient: sp.Expr, arrays: list[str]) -> str:
    """coefficient * arrays; the coefficient first, so that it meets the smallest array."""
    if not arrays:
        return python(coefficient)
    sign = ""
    if coefficient.as_coeff_Mul()[0] < 0:
        sign, coefficient = "-", -coefficient
    top, bottom = sp.fraction(coefficient, exact=True)
    if top == 1 and bottom != 1 and len(arrays) == 1 and _closed(arrays[0]) == arrays[0]:
        below = python(bottom)
        return f"{sign}{arrays[0]} / {below if below.isalnum() else f'({below})'}"
    front = [] if coefficient == 1 else [factor_text(coefficient)]
    ordered = sorted(arrays, key=lambda a: (a.count(":"), a.count("None")))
    return sign + " * ".join([*front, *ordered])


def _reverse(placed: Placed) -> tuple:
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


def _common(coefficients: list[sp.Expr]) -> sp.Expr:
    """The largest monomial that divides every coefficient."""
    powers = None
    for c in coefficients:
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
