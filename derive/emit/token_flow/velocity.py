"""The velocity of all tokens as statements: sums over keys in blocks, where the text has that form.

Input: the graph of the definition.  Output: a writer whose lines and `result` make the function.
What is averaged is summed in blocks (`derive.runtime.common.attention_sums`); what is done with
the averages, of whatever form, is written on arrays (n, ...).  None where an average is of no
blocked form: then the expression itself is lowered, with memory of the order n^2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from derive.calculus.index.defined import Book, placed, spread
from derive.calculus.index.expressions import single
from derive.calculus.index.factors import Index, Tensor, fresh
from derive.emit.gaussian_closure.particles import AVERAGES, QUERIES, NoParticles, Writer, _Reader
from derive.errors import Refusal
from derive.methods.gaussian_closure.fields import Rule
from derive.methods.gaussian_closure.names import Names
from derive.methods.token_flow.fields import TokenReader
from derive.notation.closures.model import ClosureTrace
from derive.notation.common.arrays import Array, walk

ROW = Index("n", QUERIES)


@dataclass
class _Outer(_Reader):
    """Reads what is done with averages: each is an array of its own, tokens are rows."""

    arrays: dict[int, str] = field(default_factory=dict)
    _function = TokenReader._function  # functions of averages are read as those of tokens

    def _query(self, node: Array):  # type: ignore[no-untyped-def]
        axes = self._axes(node)
        own = (ROW, *axes)
        return single(Tensor("x", (QUERIES, *node.shape), "constant")[own], own), axes

    def _average(self, node: Array):  # type: ignore[no-untyped-def]
        axes = self._axes(node)
        own = (ROW, *axes)
        array = Tensor(self.arrays[id(node)], (QUERIES, *node.shape), "constant")
        return single(array[own], own), axes

    def _integral(self, node: Array):  # type: ignore[no-untyped-def]
        return self._average(node)

    def _sum_over(self, node: Array):  # type: ignore[no-untyped-def]
        if any(n.op in AVERAGES for n in walk(node)):
            raise NoParticles
        return super()._sum_over(node)


class FlowWriter(Writer):
    """Averages of any place in the text; the first place that `Writer` has no form for is read
    as a function of the averages in it."""

    def of(self, node: Array) -> str:
        kept = list(self.lines)
        try:
            return super().of(node)
        except NoParticles:
            if node.op in AVERAGES:
                raise
        self.lines = kept
        return self._outer(node)

    def _outer(self, node: Array) -> str:
        found = [n for n in _outermost(node) if n.op in AVERAGES]
        arrays = {}
        for average in found:
            if average.ndim != 1:
                raise NoParticles
            arrays[id(average)] = self._assign(super().of(average))
        value, axes = _Outer(self.names, self.book, arrays=arrays).of(node)
        if len(axes) != 1:
            raise NoParticles
        i = fresh(axes[0].dim)
        code = self._code()
        code.names |= {"x": "x", "queries": "x", "keys": "y"}
        return self._lower(spread(placed(value, {axes[0]: i}), (ROW, i)), code)


def _outermost(node: Array) -> list[Array]:
    """Averages that stand in no other, each once, in order."""
    if node.op in AVERAGES:
        return [node]
    found = [n for arg in node.args for n in _outermost(arg)]
    return list({id(n): n for n in found}.values())


def blocked(traced: ClosureTrace, functions: dict[tuple[Rule, int], str]) -> Writer | None:
    """The statements of velocity(x, y), or None."""
    writer = FlowWriter(Names(traced.model, block=False), Book(), functions)
    try:
        writer.result = writer.of(traced.velocity)
    except (NoParticles, Refusal, KeyError):
        return None
    return writer
