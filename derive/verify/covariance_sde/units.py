"""One block of a layer as a function of single units, its structure found by running it.

Input: the trace of a block, numbers for its parameters, a covariance V_0.  Output: `Units`: the
skip A and the branches B_j of X' = A + sum_j B_j W_j for given weights of one unit, at any real or
complex width, after the parts have been compared with the whole layer at a whole width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from derive.draws import generator
from derive.notation.common import numeric
from derive.notation.common.arrays import Array, walk
from derive.notation.common.batch import Batch
from derive.notation.common.scalars import Share
from derive.notation.layers.model import Trace
from derive.verify.covariance_sde.axes import Axes, Axis
from derive.verify.covariance_sde.continuation import Continued, kinked
from derive.verify.covariance_sde.second_route import NotCovered, Size

Given = Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Group:
    """Weights that are averaged together, and the output weights that they feed."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    unit: Axis | None = None  # the class of the axis of hidden units


class Units:
    """One block with every number n of its text free, as functions of single units."""

    def __init__(
        self,
        traced: Trace,
        params: Mapping[str, float],
        V0: np.ndarray,
        free: Mapping[str, Size] | None = None,
        *,
        text: bool = True,
    ) -> None:
        """`text`: run the definition's text (the block is the whole layer), not its graph."""
        self.traced, self.params, self.text = traced, params, text
        self.V0 = np.asarray(V0, dtype=float)
        self.m = len(self.V0)
        self.factor = np.linalg.cholesky(self.V0)
        self.free = dict(free or {})
        model = traced.model
        if model.clock != model.width:
            raise NotCovered("the width is fixed: units are no independent copies")
        if (2 * model.pace).denominator != 1:
            raise NotCovered(f"the clock {model.clock_text} is no power of the root of the width")
        self.arrays = [a for _, a in traced.weights]
        self.axes = Axes(traced)
        self.own = self.axes.of(traced.state, 1)
        self.averages = any(
            a.op == "sum" and self.axes.of(a.args[0], a.data[0]) == self.own
            for a in walk(traced.output)
        )
        self.graph = Continued(traced, params, self.sizes)
        self.reading = "graph"
        self.rng = generator(11)
        self.keys: dict[Axis, tuple[int, int]] = {}
        self._sort()
        self.keys = self._find_keys()
        self._require_whole_width()
        self._find_kinks()

    # ---- running the definition

    def run(self, eps: complex, state: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
        """eps X' for a batch of weights (count, rows, columns); `state` is eps X.

        The graph at eps, or, while `self.reading` is "text", the text at n = eps^-2; the sizes of
        the arrays are free in either.
        """
        states = np.broadcast_to(state, (len(weights[0]), *state.shape))
        if self.reading == "graph":
            leaves = dict(zip(self.arrays, weights, strict=True))
            return eps * self.graph.run(eps, states, leaves)
        new = numeric.run(
            self.traced.model.function,
            Batch.of(states / eps),
            dims=self.sizes(eps**-2),
            params=self.params,
            weights=[Batch.of(w) for w in weights],
        )
        return eps * np.asarray(new)

    def sizes(self, n: Any) -> dict[str, Any]:
        model, out = self.traced.model, {}
        for dim in model.dims:
            size = self.free.get(dim.name, 1)
            out[dim.name] = size(n) if callable(size) else size
        out[model.width.name], out[model.state_dims[0].name] = n, self.m
        return out

    def shape(self, k: int, units: int, rows: int, columns: int) -> tuple[int, ...]:
        """Sizes of weight k's arrays: `rows` of the state, `units` of each kind of hidden unit."""
        out = []
        for axis, dim in enumerate(self.arrays[k].shape):
            kind = self.axes.of(self.arrays[k], axis)
            if kind == self.own:
                # the state's columns on the way in, the new state's on the way out
                out.append(columns if (k, axis) in self.outward else rows)
            elif kind in self.unit_classes:
                out.append(units)
            elif kind in self.keys:
                out.append(self.m)
            else:
                sizes = [number_of(dim, self.sizes(n), self.traced) for n in (7.0, 8.0)]
                if sizes[0] != sizes[1]:
                    raise NotCovered(
                        f"{self.traced.weights[k][0]} has an axis {dim} that grows with the width, "
                        "and is no sum over hidden units"
                    )
                out.append(int(sizes[0]))
        return tuple(out)

    # ---- the structure

    def _sort(self) -> None:
        """Find the output weights, their hidden units, and the groups of the other weights."""
        self.outward: set[tuple[int, int]] = set()
        self.unit_classes: set[Axis] = set()
        self.inner: dict[int, Axis] = {}
        for k, array in enumerate(self.arrays):
            for axis in (1, 0):
                mine = array.ndim == 2 and self.axes.of(array, axis) == self.own
                if k not in self.inner and mine and self._is_output(k, axis):
                    self.outward.add((k, axis))
                    self.inner[k] = self.axes.of(array, 1 - axis)
        inputs = [k for k in range(len(self.arrays)) if k not in self.inner]
        self.columns = not self.inner
        if self.columns:  # the units are the columns of the new state
            self.unit_classes = {self.own}
            self.outward = {(k, self.arrays[k].ndim - 1) for k in inputs}
        else:
            self.unit_classes = {c for c in self.inner.values() if c != self.own}
        held = {k: self._unit_of(k) for k in inputs}
        used = {c for c in held.values() if c is not None}
        self.plain = Group(
            tuple(k for k in inputs if held[k] is None),
            tuple(k for k, c in self.inner.items() if c not in used),
        )
        if self.columns and self.plain.inputs:
            raise NotCovered(
                "no weight stands last in a product with the layer's columns, so that they are no "
                "independent copies (heads side by side)"
            )
        self.units = [
            Group(
                tuple(k for k in inputs if held[k] == c),
                tuple(k for k in self.inner if self.inner[k] == c),
                c,
            )
            for c in dict.fromkeys(held.values())
            if c is not None
        ]

    def _unit_of(self, k: int) -> Axis | None:
        axes = range(self.arrays[k].ndim)
        found = [self.axes.of(self.arrays[k], i) for i in (axes[-1:] if self.columns else axes)]
        return next((c for c in found if c in self.unit_classes), None)

    def _is_output(self, k: int, axis: int) -> bool:
        """X'(W R) - X'(0) = (X'(W) - X'(0)) R for every matrix R on this axis of weight k."""
        token = self.m + 2
        kinds: dict[Axis, int] = {self.own: token}
        shapes = [
            [kinds.setdefault(self.axes.of(a, i), 2 + i) for i in range(a.ndim)]
            for a in self.arrays
        ]
        weights = [self.rng.standard_normal((1, *s)) for s in shapes]
        turn = self.rng.standard_normal((token, token))
        moved = weights[k] @ turn if axis else turn.T @ weights[k]
        state = self.rng.standard_normal((self.m, token))
        zero, one, two = (
            self.run(0.4, state, [w if j == k else u for j, u in enumerate(weights)])
            for w in (0 * weights[k], weights[k], moved)
        )
        size = float(np.max(np.abs(two - zero)))
        off = float(np.max(np.abs((one - zero) @ turn - (two - zero))))
        return size > 1e-9 and off < 1e-9 * size

    def weights(self, given: Given, count: int, columns: int) -> list[np.ndarray]:
        """Weights that vanish except for those given."""
        return [
            given[k] if k in given else np.zeros((count, *self.shape(k, 1, self.m, columns)))
            for k in range(len(self.arrays))
        ]

    def skip(self, eps: complex, given: Given, count: int) -> np.ndarray:
        """eps A at V_0, (count, m, m): its columns beyond the tokens vanish."""
        return self.run(eps, self.factor, self.weights(given, count, self.m))

    def branch(
        self, eps: complex, group: Group, given: Given, count: int, base: np.ndarray | None = None
    ) -> np.ndarray:
        """The columns of B of one unit, or of the whole of a plain group: (count, m, columns).

        `base`: the layer with no output weights, where it is known.
        """
        if base is None:
            base = self.skip(eps, given, count)
        out = [np.zeros((count, self.m, 0))]
        for k in group.outputs:
            axis = self._side(k)
            rows = self.shape(k, 1, self.m, self.m)[1 - axis]
            for first in range(0, rows, self.m):  # B W = B for W = I, a few rows at a time
                taken = range(first, min(rows, first + self.m))
                weights = self.weights(given, count, self.m)
                for column, row in enumerate(taken):
                    weights[k][(slice(None), *((row, column) if axis else (column, row)))] = 1.0
                moved = self.run(eps, self.factor, weights) - base
                out.append(moved[:, :, : len(taken)] / eps)
        return np.concatenate(out, axis=-1)

    def column(self, eps: complex, given: Given) -> np.ndarray:
        """One column of X' (count, m), for layers whose columns are the units."""
        weights = [given[k] for k in range(len(self.arrays))]
        return self.run(eps, self.factor, weights)[:, :, 0] / eps

    def _side(self, k: int) -> int:
        (axis,) = [i for j, i in self.outward if j == k]
        return axis

    def _find_keys(self) -> dict[Axis, tuple[int, int]]:
        """Axes that grow and join two weights Q and K, where the layer knows only Q K^T."""
        held: dict[Axis, list[int]] = {}
        for k in self.plain.inputs:
            for axis, dim in enumerate(self.arrays[k].shape):
                kind = self.axes.of(self.arrays[k], axis)
                sizes = [number_of(dim, self.sizes(n), self.traced) for n in (7.0, 8.0)]
                if kind != self.own and sizes[0] != sizes[1]:
                    held.setdefault(kind, []).append(k)
        out = {}
        for kind, pair in held.items():
            if len(pair) != 2 or not self._is_product(kind, pair):
                names = ", ".join(self.traced.weights[k][0] for k in pair)
                raise NotCovered(f"an axis of {names} grows, and is neither hidden units nor keys")
            out[kind] = (pair[0], pair[1])
        return out

    def _is_product(self, kind: Axis, pair: list[int]) -> bool:
        """Q M and K M^-T are as good as Q and K, for every matrix M."""
        kinds: dict[Axis, int] = {self.own: self.m + 2, kind: 3}
        weights = []
        for array in self.arrays:
            shape = [kinds.setdefault(self.axes.of(array, i), 2) for i in range(array.ndim)]
            weights.append(self.rng.standard_normal((1, *shape)))
        turn = self.rng.standard_normal((3, 3))
        moved = list(weights)
        for k, M in zip(pair, (turn, np.linalg.inv(turn).T), strict=True):
            last = self.axes.of(self.arrays[k], -1) == kind
            moved[k] = weights[k] @ M if last else M.T @ weights[k]
        state = self.rng.standard_normal((self.m, self.m + 2))
        one, two = (self.run(0.4, state, w) for w in (weights, moved))
        return float(np.max(np.abs(one - two))) < 1e-9 * float(np.max(np.abs(one)))

    def _find_kinks(self) -> None:
        """Weights whose pre-activations have kinks, and functions of logits that have."""
        self.bent: set[int] = set()
        self.logits: list[tuple[Array, int]] = []
        place = {a: k for k, a in enumerate(self.arrays)}
        for array in walk(self.traced.output):
            if not kinked(array):
                continue
            inside = {place[a] for a in walk(array.args[0]) if a in place}
            pair = next((p for p in self.keys.values() if set(p) == inside), None)
            if any(inside <= set(g.inputs) and len(inside) == 1 for g in self.units):
                self.bent |= inside
            elif pair is not None and array.ndim == 2 and len(self.plain.inputs) == 2:
                self.logits.append((array, pair[1]))
            else:
                names = ", ".join(sorted(self.traced.weights[k][0] for k in inside))
                raise NotCovered(
                    f"{array.data[0]} has its kink where a function of {names} vanishes, which "
                    "cuts no cones: checked by quadrature at L1 and by the text at L5"
                )

    # ---- the whole layer at a whole width

    def _require_whole_width(self) -> None:
        """The parts, put together, are the layer at a whole width with all its units.

        Of the parts the graph is run, of the whole the text where there is one.
        """
        n = self.m + 2
        weights = []
        for k, array in enumerate(self.arrays):
            shape = list(self.shape(k, n, n, n))
            for axis in range(array.ndim):
                if self.axes.of(array, axis) in {*self.unit_classes, *self.keys}:
                    shape[axis] = round(number_of(array.shape[axis], self.sizes(n), self.traced))
            weights.append(self.rng.standard_normal((1, *shape)))
        state = np.zeros((self.m, n))
        state[:, : self.m] = self.factor
        eps = n**-0.5
        try:
            self.reading = "text" if self.text else "graph"
            whole = self.run(eps, state, weights)[0]
        finally:
            self.reading = "graph"
        parts = self._assembled(eps, n, weights)
        if np.max(np.abs(whole - parts)) > 1e-10 * np.max(np.abs(whole)):
            raise NotCovered(
                "the layer is not A + B W with hidden units that do not see one another: its "
                "parts miss the whole"
            )

    def _assembled(self, eps: float, n: int, weights: Sequence[np.ndarray]) -> np.ndarray:
        """eps X' (m, n) from the parts."""
        total = np.zeros((self.m, n), dtype=complex)
        rows = [self._rows(k, w) for k, w in enumerate(weights)]
        given = {k: rows[k] for k in self.plain.inputs}
        if self.columns:
            (group,) = self.units
            for i in range(n):
                total[:, i] = eps * self.column(eps, {k: rows[k][..., [i]] for k in group.inputs})
            return total
        total[:, : self.m] = self.skip(eps, given, 1)[0]
        found = [(self.branch(eps, self.plain, given, 1)[0], self.plain, 0)]
        for group in self.units:
            for i in range(round(self.copies(n, group))):
                one = {k: self._of_unit(k, rows[k], group, i) for k in group.inputs}
                found.append((self.branch(eps, group, one, 1)[0], group, i))
        for b, group, i in found:
            for k in group.outputs:
                out = rows[k][0] if self._side(k) else rows[k][0].T
                used = out[[i]] if group.unit is not None else out
                total, b = total + eps * b[:, : len(used)] @ used, b[:, len(used) :]
        return total

    def _rows(self, k: int, weight: np.ndarray) -> np.ndarray:
        """The entries of a weight that the state's columns meet."""
        for axis in range(self.arrays[k].ndim):
            if self.axes.of(self.arrays[k], axis) == self.own and (k, axis) not in self.outward:
                weight = np.take(weight, range(self.m), axis=axis + 1)
        return weight

    def _of_unit(self, k: int, weight: np.ndarray, group: Group, i: int) -> np.ndarray:
        for axis in range(self.arrays[k].ndim):
            if self.axes.of(self.arrays[k], axis) == group.unit:
                weight = np.take(weight, [i], axis=axis + 1)
        return weight

    def copies(self, n: Any, group: Group) -> Any:
        """How many hidden units of a kind there are."""
        k = group.inputs[0]
        (dim,) = [
            d
            for i, d in enumerate(self.arrays[k].shape)
            if self.axes.of(self.arrays[k], i) == group.unit
        ]
        return number_of(dim, self.sizes(n), self.traced)


def number_of(dim: sp.Expr, sizes: Mapping[str, Any], traced: Trace) -> Any:
    """The size of a dimension where the width may be any number."""
    if isinstance(dim, Share):
        return sizes[dim.whole.name] / sizes[dim.count.name]
    return sizes[dim.name]
