"""The particle system of a definition as statements: sums over keys in blocks.

Input: the graph of the definition.  Output: the body of `particle_velocity(x, y, params)`, in the
words of `derive.runtime.common.attention_sums`; None where the definition has no such form.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy as sp

from derive.calculus.index.canonical import components
from derive.calculus.index.defined import Book, depends, placed, spread
from derive.calculus.index.expressions import Expression, collect, single
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, fresh, indices_of
from derive.emit.common import names as words
from derive.emit.gaussian_closure.code import Code
from derive.emit.gaussian_closure.kernels import sizes_of, taken_by
from derive.errors import Refusal
from derive.methods.gaussian_closure.fields import Reader, Rule
from derive.methods.gaussian_closure.names import Names
from derive.notation.closures.model import ClosureTrace
from derive.notation.common.arrays import Array, walk

QUERIES, KEYS = sp.Symbol("queries", positive=True), sp.Symbol("keys", positive=True)
AVERAGES = ("average", "integral")
MASKS = {r: Tensor(f"mask {r}", (), "constant") for r in ("<=", "<", ">=", ">")}
Read = tuple[Expression, tuple[Index, ...]]  # of a node: its expression and its axes


class NoParticles(Exception):
    """The definition has no blocked form."""


@dataclass
class _Reader(Reader):
    """Reads the inside of an average for particles: stacks by head, masks as numbers of a pair."""

    def _select(self, node: Array) -> Read:
        stack = node.args[0]
        axes = tuple(fresh(n) for n in node.shape)
        name = _of_a_head(stack.data, self.names)
        return single(Tensor(name, node.shape, "constant")[axes], axes), axes

    def _function(self, node: Array) -> Read:
        if node.data[0] in ("sin", "cos"):
            # nothing is averaged here: no need of complex exponentials
            name, body = node.data
            argument, axes = self.of(node.args[0])
            rule = Rule(self.book.named(name, body), body)
            return self.defined("ridge", argument, (rule, 0)), axes
        return super()._function(node)

    def _lag(self, node: Array) -> Read:
        raise NoParticles  # the sums over keys know their order, not their distance

    def _mask(self, node: Array) -> Read:
        return single(MASKS[node.data][()], ()), ()


def _of_a_head(stack: str, names: Names) -> str:
    """The local that holds one head's share of a stack."""
    return words.fresh(f"{stack}_h", taken_by(names.model))


@dataclass
class Writer:
    """Statements of one scope; nested functions are written in place."""

    names: Names
    book: Book
    functions: dict[tuple[Rule, int], str]
    lines: list[str] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    sums: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    result: str = ""
    count: int = 0

    def of(self, node: Array) -> str:
        """Text of a node's value, (queries, axis)."""
        if not any(n.op in AVERAGES for n in walk(node)):
            return self._plain(node)
        if node.op == "add":
            self.words.add("total")
            return f"total({self.of(node.args[0])}, {self.of(node.args[1])})"
        if node.op == "multiply":
            scalar = next((a for a in node.args if a.op == "full"), None)
            if scalar is None:
                raise NoParticles
            other = node.args[1] if node.args[0] is scalar else node.args[0]
            code = self._code()
            text = code._scalar(scalar.data)
            self._merge(code)
            shown = text if text.startswith("(1 / ") and text.count("(") == 1 else f"({text})"
            return f"{shown} * {self.of(other)}"
        if node.op == "matmul" and node.args[1].ndim == 1:
            reader = _Reader(self.names, self.book)
            matrix, axes = reader.of(node.args[0])
            inner = self._assign(self.of(node.args[1]))
            link, n, i = fresh(axes[1].dim), Index("n", QUERIES), fresh(axes[0].dim)
            array = Tensor(inner, (QUERIES, axes[1].dim), "constant")
            product = placed(matrix, {axes[0]: i, axes[1]: link}) * single(
                array[n, link], (n, link)
            )
            return self._lower(spread(product.summed(link), (n, i)), self._code())
        if node.op == "sum_over":
            return self._heads(node)
        if node.op in AVERAGES:
            return self._average(node)
        raise NoParticles

    def _code(self) -> Code:
        names = {"queries": "xb", "keys": "yb", "m": "xb"}
        code = Code(self.book, names, functions=self.functions, state=sizes_of(self.names.model))
        code._taken = {"x", "y", "xb", "yb", "params"} | taken_by(self.names.model)
        return code

    def _merge(self, code: Code) -> None:
        self.words |= code.words
        self.used |= code.used
        self.lines += code.lines

    def _lower(self, expression: Expression, code: Code) -> str:
        text = code.expression(expression)
        code.used -= {line.split(" = ")[0].strip() for line in self.lines}
        self._merge(code)
        return text

    def _assign(self, text: str) -> str:
        if text.isidentifier():
            return text
        name = self._numbered("inner")
        self.lines.append(f"{name} = {text}")
        return name

    def _numbered(self, label: str) -> str:
        self.count += 1
        return words.fresh(f"{label}_{self.count}", taken_by(self.names.model))

    def _plain(self, node: Array) -> str:
        """A part without averages: an expression of x."""
        reader = _Reader(self.names, self.book)
        value, axes = reader.of(node)
        n, i = Index("n", QUERIES), fresh(axes[0].dim) if axes else None
        free = (n, i) if i is not None else (n,)
        placed_value = placed(value, {axes[0]: i}) if i is not None else value
        code = self._code()
        code.names |= {"x": "x", "queries": "x", "keys": "y", "m": "x"}
        return self._lower(self._with_points(placed_value, free, "x", "y"), code)

    def _with_points(
        self, expression: Expression, free: tuple[Index, ...], x: str, y: str
    ) -> Expression:
        """x[i] becomes x[n, i], y[j] becomes y[k, j]; definitions inside too."""
        n, k = Index("n", QUERIES), Index("k", KEYS)

        def moved(f: Factor) -> Factor:
            if f.tensor == self.names.x:
                return Tensor(x, (QUERIES, f.tensor.dims[-1]), "constant")[n, f.indices[-1]]
            if f.tensor == self.names.y:
                return Tensor(y, (KEYS, f.tensor.dims[-1]), "constant")[k, f.indices[-1]]
            meaning = self.book.of.get(f.tensor)
            if meaning is None:
                return f
            more = tuple(
                p
                for p, v in ((n, self.names.x), (k, self.names.y))
                if any(depends(b, v, self.book) for b in meaning.bodies)
            )
            if not more:
                return f
            bodies = [self._with_points(b, (*more, *b.free), x, y) for b in meaning.bodies]
            made = self.book.tensor(meaning.kind, (*more, *meaning.indices), bodies, meaning.data)
            return made[(*more, *f.indices)]

        products = [(c, tuple(moved(f) for f in fs)) for c, fs in expression.terms]
        return collect(free, products)

    def _heads(self, node: Array) -> str:
        inner = type(self)(self.names, self.book, self.functions, count=self.count)
        result = inner.of(node.args[0])
        stacks = sorted(
            {a.args[0].data for a in walk(node.args[0]) if a.op == "select" and a.data == node.data}
        )
        name, of = self._numbered("head"), {s: _of_a_head(s, self.names) for s in stacks}
        self.lines.append(f"def {name}(h):")
        self.lines += [f"    {of[s]} = {s}[h]" for s in stacks]
        self.lines += [f"    {line}" for line in inner.lines] + [f"    return {result}", ""]
        self.words |= inner.words | {"total"}
        self.sums |= inner.sums
        self.used |= (inner.used - set(of.values())) | set(stacks)
        return f"total(*({name}(h) for h in range({stacks[0]}.shape[0])))"

    def _function(self, label: str, arguments: str, expression: Expression) -> str:
        name = self._numbered(label)
        code = self._code()
        result = code.expression(expression)
        self.words |= code.words
        self.used |= code.used - {"xb", "yb"}
        self.lines.append(f"def {name}({arguments}):")
        self.lines += [f"    {line}" for line in code.lines] + [f"    return {result}", ""]
        return name

    def _average(self, node: Array) -> str:
        reader = _Reader(self.names, self.book)
        value, axes = reader.of(node.args[0])
        kernel = node.args[1]
        coupled = kernel.op == "bistochastic"
        weight = reader.scalar_of(kernel.args[0] if coupled else kernel)
        weight, relation = self._unmasked(weight)
        value, more = self._unmasked(value)
        if more is not None and (node.op == "average" or relation not in (None, more)):
            raise NoParticles
        mask = self._mask(relation or more)
        i = fresh(axes[0].dim) if axes else fresh(self.names.model.state_dim)
        if not axes:
            raise NoParticles
        value = placed(value, {axes[0]: i})
        parts = self._separated(value, i)
        score = self._score(weight, node.op == "average" or coupled)
        pure = len(parts) == 1 and parts[0][0] is None
        if coupled:
            if score is None or not pure or mask:
                raise NoParticles
            shown = self._value(parts[0][1], i)
            self.sums.add("sinkhorn_average")
            return f"sinkhorn_average(x, y, {score}, {shown})"
        if score is not None and pure and node.op == "average":
            self.sums.add("weighted_average")
            return f"weighted_average(x, y, {score}, {self._value(parts[0][1], i)}{mask})"
        sums = []
        for extra, plain in parts:
            whole = weight if extra is None else weight * extra
            shown = self._value(plain, i)
            self.sums.add("weighted_sum")
            sums.append(f"weighted_sum(x, y, {self._weight(whole)}, {shown}{mask})")
        self.words.add("total")
        top = sums[0] if len(sums) == 1 else f"total({', '.join(sums)})"
        if node.op == "integral":
            return top
        one = f"weighted_sum(x, y, {self._weight(weight)}, lambda yb: yb[:, :1] * 0 + 1{mask})"
        return f"({top}) / ({one})"

    def _separated(self, value: Expression, i: Index) -> list[tuple[Expression | None, Expression]]:
        """Terms as (number of the pair or None, vector of the key)."""
        found: dict[Expression | None, list[tuple[sp.Expr, Factors]]] = {}
        for c, factors in value.terms:
            vector = next((p for p in components(factors, ()) if i in indices_of(p)), ())
            rest: tuple[Factor, ...] = ()
            for part in components(tuple(f for f in factors if f not in vector), ()):
                # a number of the key goes with its vector
                if depends(collect((), [(sp.Integer(1), part)]), self.names.x, self.book):
                    rest += part
                else:
                    vector += part
            if not vector or depends(collect((i,), [(c, vector)]), self.names.x, self.book):
                raise NoParticles
            extra = collect((), [(sp.Integer(1), rest)]) if rest else None
            found.setdefault(extra, []).append((c, vector))
        return [(extra, collect((i,), products)) for extra, products in found.items()]

    def _value(self, vector: Expression, i: Index) -> str:
        k = Index("k", KEYS)
        return self._function("value", "yb", self._with_points(vector, (k, i), "xb", "yb"))

    def _score(self, weight: Expression, relative: bool) -> str | None:
        """The exponent of a weight that is one exponential; terms without y cancel."""
        if len(weight.terms) != 1 or weight.terms[0][0] != 1:
            return None
        factors = weight.terms[0][1]
        if not factors or any(f.tensor.kind != "exp" for f in factors):
            return None
        if indices_of(factors):  # a sum of exponentials, of the features of a feature map say
            return None
        from derive.calculus.index.defined import plus

        exponent = plus(*(self.book.of[f.tensor].body(f.indices) for f in factors))
        if any(c.has(sp.I) for c, _ in exponent.terms):
            return None
        if relative:
            terms = [(c, f) for c, f in exponent.terms if any(g.tensor == self.names.y for g in f)]
            exponent = collect(exponent.free, terms)
        n, k = Index("n", QUERIES), Index("k", KEYS)
        return self._function("score", "xb, yb", self._with_points(exponent, (n, k), "xb", "yb"))

    def _weight(self, weight: Expression) -> str:
        n, k = Index("n", QUERIES), Index("k", KEYS)
        if any(c.has(sp.I) for c, _ in weight.terms):
            raise NoParticles
        return self._function("weight", "xb, yb", self._with_points(weight, (n, k), "xb", "yb"))

    def _unmasked(self, expression: Expression) -> tuple[Expression, str | None]:
        """The expression without the one mask that all its terms carry, and that mask."""
        shut = set(MASKS.values())
        kept = [
            (c, tuple(f for f in factors if f.tensor not in shut))
            for c, factors in expression.terms
        ]
        carried = {frozenset(f.tensor for f in fs) & shut for _, fs in expression.terms}
        plain = collect(expression.free, kept)
        masks = carried.pop() if len(carried) == 1 else frozenset() if not carried else shut
        if len(masks) > 1 or any(depends(plain, m, self.book) for m in shut):
            raise NoParticles
        return plain, next((r for r, m in MASKS.items() if m in masks), None)

    def _mask(self, relation: str | None) -> str:
        if relation is None:
            return ""
        if relation == "<=":
            self.sums.add("causal")
            return ", mask=causal"
        return f", mask=lambda i, j: j {relation} i"


def particle_body(traced: ClosureTrace, functions: dict[tuple[Rule, int], str]) -> Writer | None:
    """A writer whose lines and `result` make the function, or None."""
    model = traced.model
    if model.cross or model.second:
        return None
    writer = Writer(Names(model, block=False), Book(), functions)
    try:
        result = writer.of(traced.velocity)
    except (NoParticles, Refusal, KeyError):
        return None
    writer.result = result
    return writer
