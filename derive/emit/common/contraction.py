"""One product of tensors as array statements, pair by pair in the cheapest order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import sympy as sp

from derive.calculus.gaussian.kinks import CORRELATION
from derive.calculus.index.contraction_order import contracted
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factors, Index, Tensor
from derive.emit.common.graph_code import Told, statements
from derive.emit.common.matrix_products import matmul, matvec
from derive.emit.common.merging import Placed, Recipe
from derive.emit.common.names import local
from derive.emit.common.program import LONGEST, RANKS, Program, in_order
from derive.emit.common.scalars import factor_text, python, symbol_text
from derive.notation.common.arrays import walk


def component(part: Factors, free: tuple[Index, ...], program: Program) -> Placed:
    """Evaluate one component; its legs are the free indices in it."""
    if len(part) == 1 and part[0].tensor.kind == "delta":
        name = program.assign(("delta",), "delta", f"identity({program.like})", 2)
        program.symmetric.add(name)
        return name, part[0].indices
    arrays: list[Placed] = []
    for factor in part:
        name = _named(factor.tensor, program)
        if factor.tensor.symmetric:
            program.symmetric.add(name)
        arrays.append((name, factor.indices))
    return contracted(arrays, free, _Statements(free, program), _chains_first)


def _chains_first(arrays: Sequence[Placed], free: tuple[Index, ...]) -> list[Placed]:
    """Arrays on the dummies that the fewest arrays have come first: chains before stars."""
    held = Counter(i for _, ix in arrays for i in ix if i not in free)
    small = sorted(arrays, key=in_order, reverse=True)
    return sorted(small, key=lambda a: sorted((held[i], i.name) for i in a[1] if i in held))


@dataclass(frozen=True)
class _Statements:
    """What arrays do, as statements of a program."""

    free: tuple[Index, ...]
    program: Program

    def diagonal(self, placed: Placed) -> Placed:
        name, indices = placed
        assert len(indices) == 2, "only matrices have diagonals here"
        new = self.program.assign(("diag", name), f"{name}_diag", f"diagonal({name})", 1)
        return new, indices[:1]

    def total(self, placed: Placed, lone: frozenset[Index]) -> Placed:
        return self._product([placed], set(lone))

    def product(self, first: Placed, second: Placed, legs: tuple[Index, ...], last: bool) -> Placed:
        return self._product([first, second], {*first[1], *second[1]} - {*legs})

    def _product(self, group: list[Placed], summed: set[Index]) -> Placed:
        group = [_oriented(p, summed, self.program) for p in group]
        group.sort(key=in_order, reverse=not summed)
        return product_of(group, summed, self.free, self.program)


def _named(tensor: Tensor, program: Program) -> str:
    """The array behind a tensor; a function of V is computed first."""
    if tensor.kind == "kernel":
        shape, degree, gram = tensor.meaning
        slope = sp.simplify(sp.diff(shape, CORRELATION))
        functions = ", ".join(f"lambda {CORRELATION}: {python(f)}" for f in (shape, slope))
        text = f"of_correlation({gram.name}, {degree}, {functions})"
        return program.assign(("kernel", tensor.name), "pair", text, 2)
    if tensor.kind in ("pattern", "constant") and tensor.meaning is not None:
        given, like, own = tensor.meaning.given, program.like, local(tensor.name)
        if given:  # the field's own name, read as an array
            name = program.rebind(("pattern", own), own, f"constant({own}, {like})")
        else:
            text = f"causal({symbol_text(tensor.dims[0])}, {like})"
            name = program.assign(("pattern", own), "pattern", text, 2)
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
    leaves = {meaning.gram: meaning.tensor.name} | {a: n for n, a in meaning.others}
    dtype = f"{meaning.tensor.name}.dtype"
    names = dict(meaning.names)
    lines, text = statements(meaning.root, names, leaves, dtype, program.given)
    known = {s.name: s.text for s in program.statements}
    if any(name in program.taken and known.get(name) != words for name, words in lines):
        # another function's parts have these names
        lines, text = statements(meaning.root, names, leaves, dtype, program.taken)
    for name, words in lines:
        if name not in program.taken:
            program.assign(("line", name, words), name, words, 2)
    rank = len(tensor.dims)
    wish = "mixing" if rank == 2 else "size"
    cost = 3 if any(a.op == "normals" for a in walk(meaning.root)) else rank
    return program.assign(("response", tensor.name), wish, text, cost)


def responses(expressions: Iterable[Expression]) -> list[str]:
    """What the functions of V in the equations are, a line each: S_1 = softmax(beta * V)."""
    found = {t for e in expressions for t in e.tensors() if t.kind == "response"}
    out = []
    for tensor in sorted(found, key=lambda t: t.name):
        meaning = tensor.meaning
        name = meaning.tensor.name
        names, leaves = dict(meaning.names), {meaning.gram: name}
        lines, text = statements(meaning.root, names, leaves, f"{name}.dtype", printer=Told)
        where = "".join(f", {n} = {words}" for n, words in lines)
        if any(a.op == "normals" for a in walk(meaning.root)):
            where += "; root(V) root(V)^T = V, E over iid normals G (tokens, tokens)"
        out.append(f"{tensor.name} = {text}{where}")
    return out


def _oriented(placed: Placed, dummies: set[Index], program: Program) -> Placed:
    """A symmetric matrix is read with the summed index last."""
    name, indices = placed
    flip = name in program.symmetric and len(indices) == 2 and indices[0] in dummies
    return (name, indices[::-1]) if flip and indices[1] not in dummies else placed


def product_of(
    group: list[Placed], dummies: set[Index], free: tuple[Index, ...], program: Program
) -> Placed:
    """The product of one or two arrays, summed over `dummies`, as a named value."""
    if len(group) == 1 and len(dummies) > 1:  # a partial sum may be there already
        last = group[0][1][-1]
        rows = product_of(group, {last}, free, program)
        return product_of([rows], dummies - {last}, free, program)
    legs = tuple(
        sorted(
            dict.fromkeys(i for _, ix in group for i in ix if i not in dummies),
            key=lambda i: (0, free.index(i), "") if i in free else (1, 0, i.name),
        )
    )
    matrices = matmul(group, dummies, legs, program.symmetric, program.shared)
    if matrices:
        text, legs, word = matrices
    turned = _key(group, legs[::-1], dummies)
    if turned in program.known and len(legs) == 2:
        return program.known[turned], legs[::-1]
    involved = {i for _, ix in group for i in ix}
    if not matrices:
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
    if matrices:
        (left, left_turned), (right, right_turned) = word
        program.recipes[name] = Recipe(left, left_turned, right, right_turned)
        program.words[name] = tuple(w for n, flip in word for w in program.word(n, flip))
        if program.words[name] == program.word(name, True):
            program.symmetric.add(name)
    elif len(legs) == 2 and all(n in program.symmetric and len(ix) == 2 for n, ix in group):
        program.symmetric.add(name)  # entry by entry, on the same two indices
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
    applied = matvec(group, dummies, program.symmetric)
    if applied:
        return applied, f"{first}_{second}"
    order = (*legs, *sorted(dummies))
    text = " * ".join(aligned(p, order, program.symmetric) for p in group)
    if not dummies:
        return text, f"{first}_squared" if first == second else f"{first}_times_{second}"
    axes = tuple(range(-len(dummies), 0))
    if len(order) == 2 and text.count(".mT") == 2:  # down the columns of both
        text = " * ".join(aligned(p, order[::-1], program.symmetric) for p in group)
        axes = (-2,)
    return f"({text}).sum({axes[0] if len(axes) == 1 else axes})", f"{first}_{second}_dot"


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
