"""The exact reduced chain of a network: V' from V through m x m random blocks.

Input: the trace of one layer.  Output: `Reduction`, the layer's graph rewritten on frames, or the
reason why the layer has none.

A Gaussian matrix looks the same in every orthonormal frame.  So every growing dimension is read
in a frame built from what lives in it: the state fills the first block of the width; a weight
adds, for each block of rows that meets it, independent normals on the blocks already there and
one new block, the triangular factor of a Wishart matrix (Bartlett).  Products over growing
dimensions become sums over blocks, and the cost of a layer no longer depends on the width.

The step of the SDE is the same chain at n = 1/dt with Gaussian factors: a Wishart factor with nu
degrees of freedom becomes t I + S/2 (S symmetric, Cov = delta delta + delta delta swapped,
t^2 = nu - (m + 1)/4: mean nu I exactly), and a dimension that the limit does not depend on is
taken to infinity, where its factor is a multiple of the identity.  Functions are cut to second
order (`derive.methods.covariance_sde.truncate`).

Not supported: functions or sums along a growing dimension (they see the frame), a weight used
from both sides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy as sp

from derive.calculus.index.factors import Tensor
from derive.calculus.limit.order import Law
from derive.calculus.limit.response import is_response
from derive.calculus.limit.series import Expansion
from derive.methods.covariance_sde.powers import finer_powers
from derive.methods.covariance_sde.truncate import truncated
from derive.notation.common.arrays import (
    Array,
    Shape,
    add,
    function,
    lift,
    matmul,
    multiply,
    node,
    scale,
    show_shape,
    total,
    transpose,
    walk,
)
from derive.notation.common.words.elementwise import KINKED
from derive.notation.layers.blocks import BlockLaw
from derive.notation.layers.model import Trace

Blocks = dict[tuple[int, ...], Array]


@dataclass(frozen=True)
class Chain:
    """One reduced layer: `output` is V' as a graph on `factor` (L, with L L^T = V) and blocks."""

    output: Array
    factor: Array
    blocks: tuple[tuple[str, Array], ...]
    names: dict[Array, str]


@dataclass(frozen=True)
class Reduction:
    """`exact`: equal in law to the finite network; `step`: its shape as a step of the SDE."""

    exact: Chain
    step: Chain | None


def step_law(chain: Chain, law: Law) -> tuple[Law, dict[Array, Tensor]]:
    """The laws under which a step is averaged: Gaussian blocks, L L^T = V."""
    token = law.gram.dims[0]
    tensors = {block: block_tensor(name, block) for name, block in chain.blocks}
    own = replace(
        law,
        gaussian=tuple(tensors.values()),
        state=Tensor("L", (token, token), "factor"),
        gram_weight=sp.Integer(1),
        _degrees={},
    )
    return own, tensors


class _NoFrame(Exception):
    pass


def reduce_chain(traced: Trace, law: Law) -> tuple[Reduction | None, str]:
    """The reduction, or None and the reason."""
    try:
        exact = _Frames(traced, law, step=False).chain()
        return Reduction(exact, _step(traced, law)), ""
    except _NoFrame as reason:
        return None, f"no reduced chain: {reason}"


def _step(traced: Trace, law: Law) -> Chain | None:
    """The chain as a step of the SDE; None where functions have no power series about a number.

    Several softmaxes have polynomials of many terms, which the congruence does without.  Steps with
    dt^(1/4) and the like would be consistent and slow to be; off the clock depth /
    width the layer at width 1/dt is no step of length dt.
    """
    nodes = walk(traced.output)
    kinks = any(a.op == "function" and a.data[1].expr.has(*KINKED) for a in nodes)
    several = sum(a.op == "composite" for a in nodes) > 1  # the congruence costs less to check
    if (
        kinks
        or several
        or law.scaling.pace != 1
        or finer_powers(traced.output, law.scaling.width)
        or any(a.op == "constant" or is_response(a) for a in nodes)
    ):
        return None
    step = _Frames(traced, law, step=True).chain()
    law_of_step, tensors = step_law(step, law)
    expansion = Expansion(law_of_step, tensors, 4)

    def order(array: Array) -> int:
        terms = expansion.of(array).terms
        return int(min((law_of_step.order(c, f) for c, f in terms), default=0) // 1)

    return replace(step, output=truncated(step.output, order), names={})


class _Frames:
    """Frames of the growing dimensions, and the layer's nodes read in them."""

    def __init__(self, traced: Trace, law: Law, step: bool) -> None:
        self.traced, self.law, self.step = traced, law, step
        self.token, self.width = law.state.dims
        self.factor = node("state", (), (self.token, self.token), "L")
        self.frames: dict[sp.Symbol, int] = {}
        self.rows: dict[tuple[Array, int], Blocks] = {}
        self.sides: dict[Array, int] = {}
        self.named: dict[Array, str] = {}
        self.weight_names = {a: name for name, a in traced.weights}
        self.done: dict[Array, Blocks] = {}

    def chain(self) -> Chain:
        self.frames[self.width] = 1
        out = self.read(self.traced.output)
        squares = [matmul(y, transpose(y)) for _, y in sorted(out.items())]
        output = squares[0]
        for square in squares[1:]:
            output = add(output, square)
        output = scale(1 / self.width, output)
        blocks = [a for a in walk(output) if a.op == "block"]
        pairs = sorted((self.named[a], a) for a in blocks)
        return Chain(output, self.factor, tuple(pairs), self.named)

    def read(self, array: Array) -> Blocks:
        if array not in self.done:
            if array.ndim > 2:
                raise _NoFrame(f"an array of shape {show_shape(array.shape)} has an axis of heads")
            blocks = getattr(self, f"_{array.op}")(array)
            self.done[array] = blocks
            name = self.traced.names.get(array)
            for key, value in blocks.items():
                if name and value.args:
                    suffix = "_".join(str(k) for k in key) if len(blocks) > 1 else ""
                    self.named.setdefault(value, f"{name}_{suffix}" if suffix else name)
        return self.done[array]

    def growing(self, shape: Shape) -> list[int]:
        return [p for p, d in enumerate(shape) if d.free_symbols and self.law.scaling.grows(d)]

    def plain(self, array: Array) -> None:
        """Refuse what looks along a growing dimension other than by products."""
        axes = self.growing(array.shape)
        if axes:
            raise _NoFrame(
                f"{array.op} at line {array.place.line if array.place else '?'} acts on single "
                f"entries along {array.shape[axes[0]]}"
            )

    def _state(self, array: Array) -> Blocks:
        return {(0,): scale(sp.sqrt(self.width), self.factor)}

    def _gaussian(self, array: Array) -> Blocks:
        if self.growing(array.shape):
            raise _NoFrame(f"{self.weight_names[array]} is used outside a product")
        return {(): self._block(self.weight_names[array], BlockLaw("gaussian"), array.shape)}

    def _eye(self, array: Array) -> Blocks:
        self.plain(array)
        return {(): array}

    _full = _constant = _eye

    def _add(self, array: Array) -> Blocks:
        out: Blocks = {}
        for arg in array.args:
            if len(self.growing(arg.shape)) != len(self.growing(array.shape)):
                self.plain(array)
            for key, value in self.read(arg).items():
                out[key] = add(out[key], value) if key in out else value
        return out

    def _multiply(self, array: Array) -> Blocks:
        left, right = array.args
        if self.growing(left.shape) and self.growing(right.shape):
            self.plain(array)
        first, second = self.read(left), self.read(right)
        return {p or q: multiply(x, y) for p, x in first.items() for q, y in second.items()}

    def _transpose(self, array: Array) -> Blocks:
        inner = array.args[0]
        flip = len(self.growing(inner.shape)) == 2
        return {
            (key[::-1] if flip else key): transpose(value)
            for key, value in self.read(inner).items()
        }

    def _sum(self, array: Array) -> Blocks:
        (inner,), (axis, keepdims) = array.args, array.data
        if axis in self.growing(inner.shape):
            self.plain(inner)
        return {k: total(v, axis, keepdims) for k, v in self.read(inner).items()}

    def _function(self, array: Array) -> Blocks:
        self.plain(array)
        name, body = array.data
        return {(): function(body, self.read(array.args[0])[()], name)}

    def _concatenate(self, array: Array) -> Blocks:
        return self.read(array.args[0])  # an array of heads, which has no frame

    def _composite(self, array: Array) -> Blocks:
        self.plain(array)
        argument = self.read(array.args[0])[()]
        meaning = self.read(array.args[1])[()]
        return {(): node("composite", (argument, meaning), array.shape, array.data)}

    def _matmul(self, array: Array) -> Blocks:
        left, right = array.args
        inner = left.shape[-1]
        if not self.law.scaling.grows(inner):
            return {
                (*p, *q): matmul(x, y)
                for p, x in self.read(left).items()
                for q, y in self.read(right).items()
            }
        weight, flipped = (right, False) if right.op != "transpose" else (right.args[0], True)
        if weight.op == "gaussian":
            return self._times_weight(self.read(left), weight, flipped)
        mirror, flip = (left, False) if left.op != "transpose" else (left.args[0], True)
        if mirror.op == "gaussian":
            turned = {k[::-1]: transpose(v) for k, v in self.read(right).items()}
            found = self._times_weight(turned, mirror, not flip)
            return {k[::-1]: transpose(v) for k, v in found.items()}
        out: Blocks = {}
        for p, x in self.read(left).items():
            for q, y in self.read(right).items():
                if p[-1] == q[0]:
                    key, value = (*p[:-1], *q[1:]), matmul(x, y)
                    out[key] = add(out[key], value) if key in out else value
        return out

    def _times_weight(self, left: Blocks, weight: Array, flipped: bool) -> Blocks:
        name = self.weight_names[weight]
        side = int(flipped)
        if self.sides.setdefault(weight, side) != side:
            raise _NoFrame(f"{name} is used from both sides")
        if weight.ndim == 1:
            raise _NoFrame(f"{name} is a vector with which tokens are weighed")
        out: Blocks = {}
        for key, value in sorted(left.items()):
            for (column,), block in self._row(weight, key[-1], side).items():
                place, product = (*key[:-1], column), self._product(value, block)
                out[place] = add(out[place], product) if place in out else product
        return out

    def _product(self, value: Array, block: Array) -> Array:
        if block.op == "full":  # a multiple of the identity
            return scale(block.data, value)
        return matmul(value, block)

    def _row(self, weight: Array, row: int, side: int) -> Blocks:
        """The blocks of a weight's row in the frame of its other dimension."""
        if (weight, row) in self.rows:
            return self.rows[weight, row]
        name = self.weight_names[weight]
        target = weight.shape[1 - side]
        if not self.law.scaling.grows(target):
            if target != self.token and target in self.law.scaling.fixed:
                raise _NoFrame(f"{name} ends in the fixed dimension {target}")
            raise _NoFrame(f"{name} ends in the dimension {target}")
        used = self.frames.get(target, 0)
        shape = (self.token, self.token)
        label = f"{name}_" if row == 0 else f"{name}_{row}_"
        blocks: Blocks = {
            (c,): self._block(f"{label}{c}", BlockLaw("gaussian"), shape) for c in range(used)
        }
        if self.step and target in self.law.scaling.free and used == 0:
            blocks[(used,)] = lift(sp.sqrt(target))
        else:
            root = BlockLaw("wishart_root", target, used)
            blocks[(used,)] = self._block(f"{label}{used}", root, shape)
        self.frames[target] = used + 1
        self.rows[weight, row] = blocks
        return blocks

    def _block(self, name: str, law: BlockLaw, shape: Shape) -> Array:
        block = node("block", (), shape, law)
        self.named[block] = name
        return block


def block_tensor(name: str, block: Array) -> Tensor:
    """The Gaussian tensor behind a block: iid, or the symmetric part of a root."""
    return Tensor(name, block.shape, "gaussian", symmetric=block.data.kind == "wishart_root")
