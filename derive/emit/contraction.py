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
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import sympy as sp

from derive.calculus.canonical import components
from derive.calculus.index import Expression, Factors, Index, Tensor, collect, fresh
from derive.calculus.kinks import CORRELATION
from derive.calculus.readable import readable
from derive.emit.graph_code import statements
from derive.emit.merging import Placed, Recipe, Split, placed_matrix, splits
from derive.emit.scalars import factor_text, python

Term = tuple[sp.Expr, tuple[Placed, ...]]

LONGEST = 22  # characters of a name that says how a value was made
RANKS = ("scalar", "vector", "matrix", "array")


@dataclass(frozen=True)
class Statement:
    name: str
    text: str
    cost: int = 0


@dataclass
class Program:
    """Statements shared by all expressions that are lowered into it.

    `words`: products of matrices as their (factor, transposed) in order; `recipes`: their last
    two factors; `column_sums`: of which matrix; `uses`: how often a named array stands in the
    terms of the results; `shared`: matrices without an axis over paths.
    """

    statements: list[Statement] = field(default_factory=list)
    known: dict[object, str] = field(default_factory=dict)
    symmetric: set[str] = field(default_factory=set)
    words: dict[str, tuple[tuple[str, bool], ...]] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    column_sums: dict[str, str] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)
    uses: Counter[str] = field(default_factory=Counter)
    taken: set[str] = field(default_factory=set)
    operations: dict[str, int] = field(default_factory=dict)
    like: str = "V"  # an array of the kernel's own representation

    def assign(self, key: object, wish: str, text: str, cost: int) -> str:
        """Name a value; the same key is computed once.  `cost` is its exponent of m."""
        if key not in self.known:
            name, number = wish, 1
            while name in self.taken:
                number += 1
                name = f"{wish}_{number}"
            self.taken.add(name)
            self.known[key] = name
            self.statements.append(Statement(name, text, cost))
            label = f"m^{cost}"
            self.operations[label] = self.operations.get(label, 0) + 1
        return self.known[key]

    def alone(self, name: str) -> bool:
        """Whether one term uses the value and no statement does."""
        return self.uses[name] == 1 and not self.quoted(name)

    def needed(self, name: str) -> bool:
        return self.uses[name] > 0 or self.quoted(name)

    def quoted(self, name: str) -> bool:
        """Whether a statement uses the value."""
        return any(re.search(rf"\b{name}\b", s.text) for s in self.statements)

    def forget(self, name: str) -> None:
        """Take a statement back that nothing uses any more."""
        (statement,) = [s for s in self.statements if s.name == name]
        self.statements.remove(statement)
        self.taken.discard(name)
        self.symmetric.discard(name)
        self.words.pop(name, None)
        self.recipes.pop(name, None)
        self.column_sums.pop(name, None)
        self.known = {k: n for k, n in self.known.items() if n != name}
        label = f"m^{statement.cost}"
        self.operations[label] -= 1

    def word(self, name: str, flipped: bool = False) -> tuple[tuple[str, bool], ...]:
        """A matrix as a product of factors, or its transpose."""
        found = self.words.get(name, ((name, False),))
        if flipped:
            found = tuple((n, n not in self.symmetric and not f) for n, f in reversed(found))
        return found


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
    _count(terms, program)
    return _build(terms, expression.free, program)


def _count(terms: list[Term], program: Program) -> None:
    program.uses.update(name for _, placed in terms for name, _ in placed)


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
        arrays = [*rest, _eliminate(group, also, free, program)]


def _named(tensor: Tensor, program: Program) -> str:
    """The array behind a tensor; a function of V is computed first."""
    if tensor.kind == "kernel":
        shape, degree, gram = tensor.meaning
        slope = sp.simplify(sp.diff(shape, CORRELATION))
        functions = ", ".join(f"lambda {CORRELATION}: {python(f)}" for f in (shape, slope))
        text = f"of_correlation({gram.name}, {degree}, {functions})"
        return program.assign(("kernel", tensor.name), "pair", text, 2)
    if tensor.kind == "pattern":
        given, like = tensor.meaning.given, program.like
        text = f"constant({tensor.name}, {like})" if given else f"causal({tensor.dims[0]}, {like})"
        wish = tensor.name if given else "pattern"
        name = program.assign(("pattern", tensor.name), wish, text, 2)
        program.shared.add(name)
        return name
    if tensor.kind == "response":
        return _response(tensor, program)
    if tensor.kind == "spread":
        factor, gram = tensor.meaning
        text = f"sqrt(diagonal({gram.name}))"
        if factor != 1:
            text = f"{factor_text(factor)} * {text}"
        return program.assign(("spread", tensor.name), "spread", text, 1)
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
            program.assign(("line", name, words), name, words, 2)
    rank = len(tensor.dims)
    wish = "mixing" if rank == 2 else "size"
    return program.assign(("response", tensor.name), wish, text, rank)


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
        new = program.assign(("diag", name), f"{name}_diag", f"diagonal({name})", 1)
        return new, indices[:1]
    assert len(set(indices)) == len(indices), "only matrices have diagonals here"
    return placed


def _eliminate(
    group: list[Placed], dummies: set[Index], free: tuple[Index, ...], program: Program
) -> Placed:
    """Sum the product of a group over `dummies`; rank-one partners are multiplied in first."""
    group = sorted((_oriented(p, dummies, program) for p in group), key=_order)
    while len(group) > 2:
        # the pair that makes the smallest array
        first, second = min(
            itertools.combinations(reversed(group), 2),
            key=lambda pair: len({*pair[0][1], *pair[1][1]}),
        )
        rest = [p for p in group if p is not first and p is not second]
        group = sorted([_product([first, second], set(), free, program), *rest], key=_order)
    return _product(group, dummies, free, program)


def _oriented(placed: Placed, dummies: set[Index], program: Program) -> Placed:
    """A symmetric matrix is read with the summed index last."""
    name, indices = placed
    flip = name in program.symmetric and len(indices) == 2 and indices[0] in dummies
    return (name, indices[::-1]) if flip and indices[1] not in dummies else placed


def _product(
    group: list[Placed], dummies: set[Index], free: tuple[Index, ...], program: Program
) -> Placed:
    """The product of one or two arrays, summed over `dummies`, as a named value."""
    if len(group) == 1 and len(dummies) > 1:  # a partial sum may be there already
        last = group[0][1][-1]
        rows = _product(group, {last}, free, program)
        return _product([rows], dummies - {last}, free, program)
    legs = tuple(
        sorted(
            dict.fromkeys(i for _, ix in group for i in ix if i not in dummies),
            key=lambda i: (0, free.index(i), "") if i in free else (1, 0, i.name),
        )
    )
    matmul = _matmul(group, dummies, legs, program)
    if matmul:
        text, legs, word = matmul
    turned = _key(group, legs[::-1], dummies)
    if turned in program.known and len(legs) == 2:
        return program.known[turned], legs[::-1]
    involved = {i for _, ix in group for i in ix}
    if not matmul:
        text, wish = _product_text(group, legs, dummies, program)
    else:
        wish = "_".join(n for n, _ in word)
    if len(wish) > LONGEST:
        wish = RANKS[min(len(legs), 3)]
    name = program.assign(_key(group, legs, dummies), wish, text, len(involved))
    if text.endswith(".sum(-2)"):
        program.column_sums[name] = group[0][0]
    if text.startswith("matvec("):
        (matrix, ix), (vector, _) = group
        flip = ix[1] not in dummies and matrix not in program.symmetric
        program.recipes[name] = Recipe(matrix, flip, vector)
    if matmul:
        (left, left_turned), (right, right_turned) = word
        program.recipes[name] = Recipe(left, left_turned, right, right_turned)
        program.words[name] = tuple(w for n, flip in word for w in program.word(n, flip))
        if program.words[name] == program.word(name, True):
            program.symmetric.add(name)
    elif not dummies and all(n in program.symmetric and len(ix) == 2 for n, ix in group):
        program.symmetric.add(name)
    return name, legs


def _key(group: list[Placed], legs: tuple[Index, ...], dummies: set[Index]) -> object:
    """What a product is, whatever its indices are called."""
    names: dict[Index, str] = {}
    for index in [*legs, *(i for _, ix in group for i in ix)]:
        names.setdefault(index, "abcdefgh"[len(names)])
    pattern = "; ".join(f"{n}[{','.join(names[i] for i in ix)}]" for n, ix in group)
    return pattern, "".join(names[i] for i in legs)


def _product_text(
    group: list[Placed], legs: tuple[Index, ...], dummies: set[Index], program: Program
) -> tuple[str, str]:
    """Text of a product that is not one of two matrices, and a name for it."""
    if len(group) == 1:
        ((name, indices),) = group
        (axis,) = [indices.index(d) - len(indices) for d in dummies]
        side = "_sum" if axis == -1 else "_column_sum"
        if not legs:
            name, side = name.removesuffix("_sum"), "_total"
        return f"{group[0][0]}.sum({axis})", name + side
    (first, ix), (second, jx) = group
    if dummies and len(ix) == 2 and len(jx) == 1 and dummies == set(jx):
        turned = ix[1] not in dummies and first not in program.symmetric
        return f"matvec({first}{'.mT' if turned else ''}, {second})", f"{first}_{second}"
    order = (*legs, *sorted(dummies))
    text = " * ".join(aligned(p, order, program.symmetric) for p in group)
    if not dummies:
        return text, f"{first}_squared" if first == second else f"{first}_times_{second}"
    axes = tuple(range(-len(dummies), 0))
    if len(order) == 2 and text.count(".mT") == 2:  # down the columns of both
        text = " * ".join(aligned(p, order[::-1], program.symmetric) for p in group)
        axes = (-2,)
    return f"({text}).sum({axes[0] if len(axes) == 1 else axes})", f"{first}_{second}_dot"


Matmul = tuple[str, tuple[Index, ...], tuple[tuple[str, bool], ...]]


def _matmul(
    group: list[Placed], dummies: set[Index], legs: tuple[Index, ...], program: Program
) -> Matmul | None:
    """A product of two matrices: text, legs and factors, in the order that transposes least.

    A transposed matrix on the left is the dear one: batched products then leave the fast path.
    One that all paths share stands better on the right: then it is one large product.
    """
    if len(group) != 2 or len(dummies) != 1 or any(len(ix) != 2 for _, ix in group):
        return None
    (dummy,) = dummies
    if len(legs) != 2:
        return None
    found: list[tuple[tuple[int, int], Matmul]] = []
    for (first, ix), (second, jx) in (group, group[::-1]):
        outer = tuple(next(i for i in pair if i != dummy) for pair in (ix, jx))
        left = ix[1] != dummy and first not in program.symmetric
        right = jx[0] != dummy and second not in program.symmetric
        text = f"{first}{'.mT' if left else ''} @ {second}{'.mT' if right else ''}"
        dear = 16 * left + 4 * right + 3 * (first in program.shared) + 2 * (outer != legs)
        cost = (dear, len(found))
        found.append((cost, (text, outer, ((first, left), (second, right)))))
    return min(found)[1]


def aligned(
    placed: Placed, order: tuple[Index, ...], symmetric: Collection[str] = frozenset()
) -> str:
    """An array read with its axes in `order`, missing ones as axes of size one."""
    name, indices = placed
    if not indices:
        return f"{name}[..., {', '.join(['None'] * len(order))}]" if order else name
    positions = [order.index(i) for i in indices]
    text = name
    if positions != sorted(positions) and name not in symmetric:
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
    upper = _upright(upper, a, b, program)
    _count(upper + same, program)
    same, joining = _divided(same, upper, program)
    text = _build(upper + joining, expression.free, program)
    half = program.assign(("half", text), "half", text, 2)
    whole = f"{half} + {half}.mT"
    return f"{_build(same, expression.free, program)} + {whole}" if same else whole


def _upright(upper: list[Term], a: Index, b: Index, program: Program) -> list[Term]:
    """Terms of which the transposes are added, each read with the fewest matrices transposed.

    Terms with vectors are turned together: they may have them in common.
    """

    def score(placed: tuple[Placed, ...]) -> int:
        return sum(
            (1 if ix == (b, a) else -1)
            for n, ix in placed
            if len(ix) == 2 and n not in program.symmetric
        )

    bound = {p for p, (_, t) in enumerate(upper) if any(len(ix) == 1 for _, ix in t)}
    together = sum(score(upper[p][1]) for p in bound) > 0
    return [
        (c, _flipped(t, a, b, program.symmetric))
        if (together if p in bound else score(t) > 0)
        else (c, t)
        for p, (c, t) in enumerate(upper)
    ]


def _flipped(
    placed: tuple[Placed, ...], a: Index, b: Index, symmetric: Collection[str]
) -> tuple[Placed, ...]:
    other = {a: b, b: a}
    flipped = (
        (n, ix if n in symmetric and len(ix) == 2 else tuple(other.get(i, i) for i in ix))
        for n, ix in placed
    )
    return tuple(sorted(flipped, key=_order))


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
        return scaled(coefficient, [aligned(p, order, program.symmetric) for p in placed])
    merged = _merged(terms, program)
    if merged:
        return _build(merged, order, program)
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
    pulled = f"{inner} * {aligned(best, order, program.symmetric)}"
    return joined([pulled, _build(outside, order, program)]) if outside else pulled


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
    groups: dict[tuple, list[tuple[int, Placed, Split]]] = {}
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
        inside.append((coefficient, tuple(sorted(rest, key=_order))))
    for name in dict.fromkeys(placed[0] for _, placed, _ in best):
        program.forget(name)
    for name in [n for n in program.column_sums if not program.needed(n)]:
        program.forget(name)
    legs = tuple(i for i in (split.rest_leg, inner) if i)
    turned = [ix == legs[::-1] for _, t in inside for n, ix in t if n not in program.symmetric]
    if 2 * sum(turned) > len(turned):
        legs = legs[::-1]
    common = _common([c for c, _ in inside])
    text = _build([(c / common, a) for c, a in inside], legs, program)
    name = program.assign(("sum", text), RANKS[len(legs)], text, len(legs))
    leg = split.leg
    assert leg is not None
    ends = (leg, inner) if split.side == "left" else (inner, leg)
    group = [(name, legs), placed_matrix(split.common, split.turned, *ends)]
    free = tuple(i for i in (leg, split.rest_leg) if i)
    if split.side == "right":
        free = free[::-1]
    product = _product(sorted(group, key=_order), {inner}, free, program)
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


def _divided(
    same: list[Term], upper: list[Term], program: Program
) -> tuple[list[Term], list[Term]]:
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
        return _build(terms, order, program)
    if not any(placed for _, placed in terms):
        return _build(terms, own, program)
    common = _common([c for c, _ in terms])
    text = _build([(c / common, p) for c, p in terms], own, program)
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
    top, bottom = sp.fraction(coefficient, exact=True)
    if top == 1 and bottom != 1 and _closed(ordered[0]) == ordered[0]:
        below = python(bottom)
        ordered[0] += f" / {below}" if re.fullmatch(r"[\w*]+", below) else f" / ({below})"
        coefficient = sp.Integer(1)
    front = [] if coefficient == 1 else [factor_text(coefficient)]
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
