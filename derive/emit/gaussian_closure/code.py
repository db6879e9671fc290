"""Expressions of a closure as statements: contraction order, shared parts, defined tensors.

Input: expressions and a book.  Output: lines of Python in the words of
`derive.runtime.common.batched_words`, products of matrices in their own, as SDEs and control
problems are written.  Each product is contracted in its cheapest order at nominal sizes; equal
parts are computed once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import sympy as sp

from derive.calculus.arrays.scalar_functions import kinks_of
from derive.calculus.index.contraction_order import contracted
from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factors, Index, Tensor
from derive.emit.common import scalars
from derive.emit.common.matrix_products import matmul, matvec, turned
from derive.emit.common.names import local
from derive.emit.gaussian_closure.sandwiches import Sandwich, sandwiches
from derive.errors import Refusal
from derive.methods.gaussian_closure.fields import Rule
from derive.methods.gaussian_closure.key_nodes import NODES, OF_KEYS, OF_TOKENS

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


def symbols_inside(body: sp.Lambda) -> list[sp.Symbol]:
    """Parameters and sizes in a scalar function, in order of name."""
    return sorted(body.free_symbols, key=str)


@dataclass
class Code:
    """Statements under construction; `names` maps tensors to Python names."""

    book: Book
    names: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)  # tensors and symbols that the caller provides
    functions: dict[tuple[Rule, int], str] = field(
        default_factory=dict
    )  # scalar functions by (rule, order)
    symmetric: set[str] = field(default_factory=set)  # names of matrices
    shared: set[str] = field(default_factory=set)  # names of what all laws of a batch have
    state: frozenset[str] = frozenset()  # sizes of tokens, which the law has too; none: all are
    _seen: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def expression(self, expression: Expression) -> str:
        """Python text of the value; statements it needs are appended."""
        if expression.is_zero:  # of a rate of the mean, or of the covariance
            return "0 * mean" if len(expression.free) == 1 + self._blocks(expression) else "0 * cov"
        terms = [
            self._term(part, f, expression.free)
            for c, f in expression.terms
            for part in _real_and_imaginary(c)
        ]
        if len(terms) == 1:
            return terms[0]
        self.words.add("total")
        return f"total({', '.join(terms)})"

    def _blocks(self, expression: Expression) -> int:
        return sum(i.dim.name == "B" for i in expression.free)

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
            like = self._length(tensor.dims[0])
            name = "one" if like == self.names.get("m", "mean") else f"one_{tensor.dims[0]}"
            return self.assign(name, f"identity({like})")
        if tensor not in self.book.of:
            if tensor.name.startswith("mask_"):
                self.words.add("mask")
                self.used.add("theta")
                return self.assign(tensor.name, f'mask("{tensor.name[5:]}", theta)')
            if tensor.name in (*OF_TOKENS, *OF_KEYS):
                return self._nodes(tensor.name)
            if tensor.name == "lag":
                self.words.add("lag")
                self.used.add("theta")
                return self.assign("lag_", "lag(theta)")
            if tensor.kind == "factor":
                self.words.add("factor")
                return self.assign(tensor.name, f"factor({self._covariance(tensor)})")
            self.used.add(tensor.name)
            return self.names.get(tensor.name, tensor.name)
        return self._defined(tensor)

    def _nodes(self, name: str) -> str:
        """The nodes of a law, or their weights."""
        law = ["m", "S"] if name in OF_TOKENS else ["key_mean", "key_cov"]
        word = "law_nodes" if name in (OF_TOKENS[0], OF_KEYS[0]) else "node_weights"
        law = law if word == "law_nodes" else law[:1]
        self.words.add(word)
        self.used |= {*law}
        return self.assign(name, f"{word}({', '.join(self.names.get(n, n) for n in law)})")

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
            given = self._parameters(meaning.data[0], len(meaning.indices), bodies[0])
            text = f"{function}({', '.join([bodies[0], *given])})"
            if kind == "smooth":
                kinks = kinks_of(meaning.data[0].body)
                if any(k.free_symbols for k in kinks):
                    raise Refusal(
                        f"{meaning.data[0].name} has a kink at {kinks[0]}: the kinks of a function "
                        "stand where its argument has a fixed value; bring the parameter into the "
                        "argument"
                    )
                at = f", kinks=[{', '.join(scalars.python(k) for k in kinks)}]" if kinks else ""
                more = f", given=[{', '.join(given)}]" if given else ""
                text = f"gaussian_mean({function}, {bodies[0]}, {bodies[1]}{at}{more})"
        else:
            text = f"{WORDS_OF[kind]}({', '.join(bodies)})"
        return self.assign(tensor.name, text)

    def _parameters(self, rule: Rule, rank: int, like: str) -> list[str]:
        """What a function takes beside its argument, `like`, an array of `rank` axes."""
        inside = symbols_inside(rule.body)
        self.used |= {s.name for s in inside}
        if inside:
            self.words.add("lifted")
        return [f"lifted({scalars.python(s)}, {rank}, {like})" for s in inside]

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

    def function(self, rule: Rule, order: int) -> str:
        """Name of a scalar function of the module: the k-th derivative of a rule."""
        key = (rule, order)
        if key not in self.functions:
            name = base = f"_{rule.name}" + (f"_{order}" if order else "")
            count = 2
            while name in self.functions.values():  # of another formula
                name, count = f"{base}_v{count}", count + 1
            self.functions[key] = name
        return self.functions[key]

    def _body(self, body: Expression, indices: tuple[Index, ...]) -> str:
        if body.is_zero:
            return "0.0"
        return self.assign("t", self.expression(body))

    def _scalar(self, coefficient: sp.Expr) -> str:
        text = scalars.python(coefficient)
        for symbol in coefficient.free_symbols:
            self.used.add(symbol.name)
        for word in ("sqrt", "exp", "log", "tanh", "sin", "cos", "erf", "arctan", "pi"):
            if f"{word}(" in text or (word == "pi" and coefficient.has(sp.pi)):
                self.words.add(word)
        return text

    def _term(self, coefficient: sp.Expr, factors: Factors, free: tuple[Index, ...]) -> str:
        operands: list[Operand] = []
        left = list(factors)
        for found in sandwiches(factors, self.book):
            left = [f for f in left if f not in found.parts]
            operands.append((self._sandwich(found), found.indices))
        for f in left:
            name = self.tensor(f.tensor)
            if f.tensor.symmetric:
                self.symmetric.add(name)
            if f.tensor.kind == "constant":
                self.shared.add(name)
            operands.append((name, f.indices))
        present = {i for _, indices in operands for i in indices}
        missing = [i for i in free if i not in present]
        output = tuple(i for i in free if i in present)
        value = self._contracted(operands, output)
        for index in reversed(missing):  # the last axis first: axes count from the end
            self.words.add("along")
            axis = free.index(index) - len(free)
            value = f"along({value}, {self._length(index.dim)}, {axis})"
        return self._scaled(coefficient, value, len(free))

    def _length(self, dim: sp.Symbol) -> str:
        """An array whose last axis has the size, or the size itself."""
        if dim.name in ("queries", "keys"):
            return f"{self.names[dim.name]}[:, 0]"
        if dim.name == "B":
            self.used.add("theta")
            return "theta"
        if dim == NODES:
            return self._nodes("token_weights")
        if self.state and dim.name not in self.state:
            self.used.add(dim.name)
            return local(dim.name)
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
        if " @ " in value:  # the number after the product, which XLA then knows again elsewhere
            value = f"({value})"
        return f"{factor} * {value}" if value else factor

    def _contracted(self, operands: list[Operand], output: tuple[Index, ...]) -> str:
        if not operands:
            return "1.0"
        value, indices = contracted(operands, output, self)
        if indices == output:
            return value
        if len(output) == 2 and indices == output[::-1]:
            return turned(value if value.isidentifier() else f"({value})")
        return self._einsum([(value, indices)], output)

    def diagonal(self, placed: Operand) -> Operand:
        """As it is: `contract` reads a diagonal itself."""
        return placed

    def total(self, placed: Operand, lone: Collection[Index]) -> Operand:
        """As it is: `contract` sums within a product."""
        return placed

    def product(
        self, first: Operand, second: Operand, legs: tuple[Index, ...], last: bool
    ) -> Operand:
        """A statement for a part of a product; the text alone of a whole one."""
        text, legs, name = self._pair([first, second], legs)
        if not last:
            text = self.assign(name, text)
            if {first[0], second[0]} <= self.shared:
                self.shared.add(text)
        return text, legs

    def _pair(
        self, pair: list[Operand], legs: tuple[Index, ...]
    ) -> tuple[str, tuple[Index, ...], str]:
        """A product of two in words of matrices where there are some, its indices, a name for it.

        Real and complex arrays meet in `contract` alone.
        """
        summed = {i for _, indices in pair for i in indices} - {*legs}
        matrices = (
            None if self._is_complex else matmul(pair, summed, legs, self.symmetric, self.shared)
        )
        if matrices:
            text, legs, factors = matrices
            return text, legs, _joined_name([n for n, _ in factors])
        name = _joined_name([n for n, _ in pair])
        applied = matvec(sorted(pair, key=lambda p: -len(p[1])), summed, self.symmetric)
        if applied is None and all(len(indices) == 1 for _, indices in pair):
            placed = sorted(pair, key=lambda p: [legs.index(i) for i in p[1] if i in legs])
            word = {(0, 1): "dot", (2, 0): "outer"}.get((len(legs), len(summed)))
            applied = word and f"{word}({', '.join(n for n, _ in placed)})"
        if applied is None:
            return self._einsum(pair, legs), legs, name
        self.words.add(applied.partition("(")[0])
        return applied, legs, name

    @property
    def _is_complex(self) -> bool:
        return any(c.has(sp.I) for m in self.book.of.values() for b in m.bodies for c, _ in b.terms)

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


def _joined_name(names: list[str]) -> str:
    """A name for a product: its letters, as long as they stay short."""
    joined = "".join(n.replace("mean", "m").replace("cov", "S") for n in names)
    joined = joined.replace("_", "")
    return joined if joined.isidentifier() and len(joined) <= 12 else "t"
