"""Expressions of a closure as statements: contraction order, shared parts, defined tensors.

Input: expressions and a book.  Output: lines of Python in the words of
`derive.runtime.closures.ops`.  Each product is contracted in its cheapest order at nominal sizes;
equal parts are computed once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import sympy as sp

from derive.calculus.arrays.scalar_functions import kinks_of
from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factors, Index, Tensor
from derive.emit.common import scalars
from derive.emit.gaussian_closure.sandwiches import Sandwich, sandwiches
from derive.errors import Refusal

NOMINAL = {"H": 4, "B": 4, "queries": 100, "keys": 100}
LETTERS = "ijklmnpqrstuvwxyzabcdefgo"
WORDS_OF = {
    "inverse": "inverse",
    "det": "det_root",
    "gate": "gate",
    "spectral": "spectral",
    "smooth": "gaussian_mean",
    "exp": "exp",
}
Operand = tuple[str, tuple[Index, ...]]


@dataclass
class Code:
    """Statements under construction; `names` maps tensors to Python names."""

    book: Book
    names: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)  # tensors and symbols that the caller provides
    functions: dict[tuple, str] = field(default_factory=dict)  # scalar functions by (rule, order)
    _seen: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def expression(self, expression: Expression) -> str:
        """Python text of the value; statements it needs are appended."""
        if expression.is_zero:
            raise Refusal("a velocity that vanishes has no closure to derive")
        terms = [
            self._term(part, f, expression.free)
            for c, f in expression.terms
            for part in _real_and_imaginary(c)
        ]
        if len(terms) == 1:
            return terms[0]
        self.words.add("total")
        return f"total({', '.join(terms)})"

    def assign(self, name: str, text: str) -> str:
        """A statement, once for each text."""
        if text.isidentifier():
            return text
        if text in self._seen:
            return self._seen[text]
        fresh, count = name, 2
        while fresh in self._taken:
            fresh, count = f"{name}_{count}", count + 1
        self._taken.add(fresh)
        self._seen[text] = fresh
        self.lines.append(f"{fresh} = {text}")
        return fresh

    def tensor(self, tensor: Tensor) -> str:
        """Name of a tensor; a defined one is computed first."""
        if tensor.kind == "delta":
            self.words.add("identity")
            like = "mean"
            self.used.add("m")
            return self.assign("one", f"identity({like})")
        if tensor not in self.book.of:
            if tensor.name.startswith("mask_"):
                self.words.add("mask")
                self.used.add("theta")
                return self.assign(tensor.name, f'mask("{tensor.name[5:]}", theta)')
            if tensor.kind == "factor":
                self.words.add("factor")
                return self.assign(tensor.name, f"factor({self._covariance(tensor)})")
            self.used.add(tensor.name)
            return self.names.get(tensor.name, tensor.name)
        return self._defined(tensor)

    def _defined(self, tensor: Tensor) -> str:
        meaning = self.book.of[tensor]
        bodies = [self._body(b, meaning.indices) for b in meaning.bodies]
        kind = meaning.kind
        if kind in WORDS_OF:
            self.words.add(WORDS_OF[kind])
        if kind == "reciprocal":
            text = f"1 / {bodies[0]}" if bodies[0].isidentifier() else f"1 / ({bodies[0]})"
        elif kind == "spectral":
            t, body = meaning.data.variables[0], meaning.data.expr
            text = f"spectral({bodies[0]}, lambda {t}: {self._scalar(body)})"
        elif kind in ("ridge", "smooth"):
            function = self.function(*meaning.data)
            text = f"{function}({bodies[0]})"
            if kind == "smooth":
                kinks = kinks_of(meaning.data[0].body)
                at = f", kinks=[{', '.join(scalars.python(k) for k in kinks)}]" if kinks else ""
                text = f"gaussian_mean({function}, {bodies[0]}, {bodies[1]}{at})"
        else:
            text = f"{WORDS_OF[kind]}({', '.join(bodies)})"
        return self.assign(tensor.name, text)

    def _sandwich(self, found: Sandwich) -> str:
        """F g(F^T M F) F^T, smooth in both, where F and g(F^T M F) are not."""
        self.words.add("sandwich")
        function = self.book.of[found.middle].data
        own = self._covariance(found.factor)
        middle = self.assign("t", self.expression(found.body))
        t, body = function.variables[0], function.expr
        name = found.middle.name.replace("D", "E")
        return self.assign(name, f"sandwich({own}, {middle}, lambda {t}: {self._scalar(body)})")

    def _covariance(self, tensor: Tensor) -> str:
        """Name of the covariance that F F^T is."""
        cov = "S" if tensor.name == "F_S" else "key_cov"
        self.used.add(cov)
        return self.names.get(cov, cov)

    def function(self, rule: object, order: int) -> str:
        """Name of a scalar function of the module: the k-th derivative of a rule."""
        key = (rule, order)
        name = f"_{rule.name}" + (f"_{order}" if order else "")  # type: ignore[attr-defined]
        self.functions[key] = name
        return name

    def _body(self, body: Expression, indices: tuple[Index, ...]) -> str:
        if body.is_zero:
            return "0.0"
        return self.assign("t", self.expression(body))

    def _scalar(self, coefficient: sp.Expr) -> str:
        text = scalars.python(coefficient)
        for symbol in coefficient.free_symbols:
            self.used.add(symbol.name)
        for word in ("sqrt", "exp", "log", "tanh", "sin", "cos", "erf", "pi"):
            if f"{word}(" in text or (word == "pi" and coefficient.has(sp.pi)):
                self.words.add(word)
        return text

    def _term(self, coefficient: sp.Expr, factors: Factors, free: tuple[Index, ...]) -> str:
        operands: list[Operand] = []
        left = list(factors)
        for found in sandwiches(factors, self.book):
            left = [f for f in left if f not in found.parts]
            operands.append((self._sandwich(found), found.indices))
        operands += [(self.tensor(f.tensor), f.indices) for f in left]
        present = {i for _, indices in operands for i in indices}
        missing = [i for i in free if i not in present]
        output = tuple(i for i in free if i in present)
        value = self._contracted(operands, output)
        for index in reversed(missing):  # the last axis first: axes count from the end
            self.words.add("along")
            axis = free.index(index) - len(free)
            value = f"along({value}, {self._length(index)}, {axis})"
        return self._scaled(coefficient, value, len(free))

    def _length(self, index: Index) -> str:
        if index.dim.name in ("queries", "keys"):
            return f"{self.names[index.dim.name]}[:, 0]"
        if index.dim.name == "B":
            self.used.add("theta")
            return "theta"
        self.used.add("m")
        return self.names.get("m", "mean")

    def _scaled(self, coefficient: sp.Expr, value: str, rank: int) -> str:
        if coefficient == 1:
            return value
        if coefficient == -1:
            return f"-{value}"
        imaginary = coefficient.coeff(sp.I)
        if imaginary != 0:
            assert sp.expand(coefficient - imaginary * sp.I) == 0, "real or imaginary coefficients"
            self.words.add("i_times")
            return f"i_times({self._scaled(imaginary, value, rank)})"
        text = self._scalar(coefficient)
        if value == "1.0":
            return text
        if coefficient.free_symbols and rank and value:
            self.words.add("contract")
            slots = LETTERS[:rank]
            return f'contract(",{slots}->{slots}", {text}, {value})'
        factor = scalars.factor_text(coefficient)
        return f"{factor} * {value}" if value else factor

    def _contracted(self, operands: list[Operand], output: tuple[Index, ...]) -> str:
        if not operands:
            return "1.0"
        operands = _ordered(operands, output)
        if len(operands) == 1:
            name, indices = operands[0]
            if indices == output:
                return name
            return self._einsum([operands[0]], output)
        for pair, result in _path(operands, output):
            inside = [operands[p] for p in pair]
            last = len(operands) == 2
            wanted = output if last else result
            text = self._einsum(inside, wanted)
            if last:
                return text
            name = self.assign(_joined_name([o[0] for o in inside]), text)
            operands = [o for p, o in enumerate(operands) if p not in pair] + [(name, wanted)]
        raise AssertionError("no path")

    def _einsum(self, inside: list[Operand], output: tuple[Index, ...]) -> str:
        self.words.add("contract")
        letters: dict[Index, str] = {}
        for _, indices in inside:
            for i in indices:
                letters.setdefault(i, LETTERS[len(letters)])
        left = ",".join("".join(letters[i] for i in indices) for _, indices in inside)
        right = "".join(letters[i] for i in output)
        return f'contract("{left}->{right}", {", ".join(n for n, _ in inside)})'


def _real_and_imaginary(coefficient: sp.Expr) -> list[sp.Expr]:
    if not coefficient.has(sp.I):
        return [coefficient]
    imaginary = sp.expand(coefficient).coeff(sp.I)
    rest = sp.expand(coefficient - imaginary * sp.I)
    return [p for p in (rest, imaginary * sp.I) if p != 0]


def _ordered(operands: list[Operand], output: tuple[Index, ...]) -> list[Operand]:
    """Operands as a chain from the output's first index where that is possible."""
    left, out = list(operands), []
    at = output[0] if output else None
    while left:
        hit = next((o for o in left if at is not None and at in o[1]), left[0])
        left.remove(hit)
        out.append(hit)
        onward = [i for i in hit[1] if i not in output and any(i in o[1] for o in left)]
        at = onward[0] if onward else None
    return out


def _size(indices: Iterable[Index]) -> int:
    out = 1
    for i in indices:
        out *= NOMINAL.get(i.dim.name, 5 if i.dim.name.startswith("d_") else 8)
    return out


def _path(operands: list[Operand], output: tuple[Index, ...]):  # type: ignore[no-untyped-def]
    """Cheapest pairwise order, as positions into the shrinking list with each result's indices."""
    numbered: dict[Index, int] = {}
    for _, indices in operands:
        for i in indices:
            numbered.setdefault(i, len(numbered))
    plan = _best(
        tuple(frozenset(numbered[i] for i in indices) for _, indices in operands),
        frozenset(numbered[i] for i in output),
        tuple(_size([i]) for i in numbered),
    )
    work = list(range(len(operands)))
    current: list[Operand] = list(operands)
    ids = [frozenset([n]) for n in work]
    for left, right in plan:
        a, b = ids.index(left), ids.index(right)
        pair = (min(a, b), max(a, b))
        rest = [o for p, o in enumerate(current) if p not in pair]
        kept = set(output).union(*(o[1] for o in rest)) if rest else set(output)
        first, second = current[pair[0]], current[pair[1]]
        result = tuple(dict.fromkeys(i for i in (*first[1], *second[1]) if i in kept))
        yield pair, result
        merged = ids[pair[0]] | ids[pair[1]]
        current = [*rest, ("", result)]
        ids = [x for p, x in enumerate(ids) if p not in pair] + [merged]


@lru_cache(maxsize=4096)
def _best(sets: tuple[frozenset[int], ...], output: frozenset[int], sizes: tuple[int, ...]):  # type: ignore[no-untyped-def]
    """Dynamic programme over subsets of operands (greedy above eight)."""
    n = len(sets)
    if n > 8:
        return _greedy(sets, output, sizes)
    everything = (1 << n) - 1

    def kept(subset: int) -> frozenset[int]:
        outside: set[int] = set(output)
        inside: set[int] = set()
        for p in range(n):
            (inside if subset >> p & 1 else outside).update(sets[p])
        return frozenset(inside & outside)

    keep = {s: kept(s) for s in range(1, everything + 1)}
    cost: dict[int, float] = {1 << p: 0.0 for p in range(n)}
    split: dict[int, int] = {}
    for subset in sorted(range(1, everything + 1), key=lambda s: (s.bit_count(), s)):
        if subset in cost:
            continue
        best = math.inf
        half = (subset - 1) & subset
        while half:
            other = subset ^ half
            if half < other:
                own = cost[half] + cost[other]
                if own < best:
                    own += math.prod(sizes[i] for i in keep[half] | keep[other])
                if own < best:
                    best, split[subset] = own, half
            half = (half - 1) & subset
        cost[subset] = best

    def members(subset: int) -> frozenset[int]:
        return frozenset(p for p in range(n) if subset >> p & 1)

    order: list[tuple[frozenset[int], frozenset[int]]] = []

    def visit(subset: int) -> None:
        if subset in split:
            half = split[subset]
            visit(half)
            visit(subset ^ half)
            order.append((members(half), members(subset ^ half)))

    visit(everything)
    return order


def _greedy(sets: tuple[frozenset[int], ...], output: frozenset[int], sizes: tuple[int, ...]):  # type: ignore[no-untyped-def]
    current = [(frozenset([p]), s) for p, s in enumerate(sets)]
    order = []
    while len(current) > 1:

        def price(pair: tuple[int, int], current: list = current) -> tuple:
            a, b = current[pair[0]][1], current[pair[1]][1]
            return (not a & b, math.prod(sizes[i] for i in a | b), pair)

        i, j = min(itertools.combinations(range(len(current)), 2), key=price)
        order.append((current[i][0], current[j][0]))
        rest = [c for p, c in enumerate(current) if p not in (i, j)]
        outside = output.union(*(c[1] for c in rest))
        joined = (current[i][1] | current[j][1]) & outside
        current = [*rest, (current[i][0] | current[j][0], joined)]
    return order


def _joined_name(names: list[str]) -> str:
    """A name for a product: its letters, as long as they stay short."""
    joined = "".join(n.replace("mean", "m").replace("cov", "S") for n in names)
    joined = joined.replace("_", "")
    return joined if joined.isidentifier() and len(joined) <= 12 else "t"
