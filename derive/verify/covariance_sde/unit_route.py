"""A second route to drift and diffusion, for layers whose units are independent: quadrature.

Input: the trace of a block, numbers for its parameters and dimensions, a covariance V_0.
Output: n E[V' - V] and n Cov[V'] at V_0 for any real width n, and their limits.

Nothing of the calculus takes part, and no power series in the weights is needed, so functions may
have kinks where their pre-activations vanish.  The definition's graph is run on NumPy arrays, with
the number n apart from the sizes of the arrays.  What is used of it is found by running it, and
checked against the definition's text at a whole width with every unit in place:

- X' = A + sum_j B_j W_j with output weights W_j, so that given A and B the n columns of X' are
  independent normals with means A_k and the covariance sum_j B_j B_j^T;
- B_j B_j^T is a sum over hidden units with weights of their own, one unit is a function of a few
  normals, and so is what attention does to A and B;
- where Q K^T joins keys whose number grows, Q Q^T is as good as its mean, and logits are normal.

The average over these normals is a Gauss rule, in the cones between the kinks where there are any;
eps = n^(-1/2) goes to zero by Cauchy's integral over a circle (see `continuation`), and at a real
eps on it the same averages are taken of the text.

Not supported: units that see one another, heads side by side, kinks elsewhere than at zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from derive.verify.covariance_sde.cones import Rule, cone_rule, hermite_rule, product
from derive.verify.covariance_sde.continuation import Continued, kinked
from derive.verify.covariance_sde.second_route import NotCovered, RouteError, Size

Given = Mapping[int, np.ndarray]
Moments = tuple[np.ndarray, np.ndarray]
_NODES = 120_000  # largest rule


@dataclass(frozen=True)
class Limits:
    """The limits, the coefficients of n^(-1/2), and what the interpolation leaves uncertain.

    Shapes (m, m) and (m, m, m, m); `error` is relative to the largest entry, of the limits alone.
    `exact`: the moments were those of the layer at every width, so that the coefficients are too.
    """

    drift: np.ndarray
    diffusion: np.ndarray
    first_drift: np.ndarray
    first_diffusion: np.ndarray
    error: float
    exact: bool = True


@dataclass(frozen=True)
class _Group:
    """Weights that are averaged together, and the output weights that they feed."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    unit: Axis | None = None  # the class of the axis of hidden units


class UnitLayer:
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

    def _shape(self, k: int, units: int, rows: int, columns: int) -> tuple[int, ...]:
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
                sizes = [_number(dim, self.sizes(n), self.traced) for n in (7.0, 8.0)]
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
        self.plain = _Group(
            tuple(k for k in inputs if held[k] is None),
            tuple(k for k, c in self.inner.items() if c not in used),
        )
        if self.columns and self.plain.inputs:
            raise NotCovered(
                "no weight stands last in a product with the layer's columns, so that they are no "
                "independent copies (heads side by side)"
            )
        self.units = [
            _Group(
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

    def _weights(self, given: Given, count: int, columns: int) -> list[np.ndarray]:
        """Weights that vanish except for those given."""
        return [
            given[k] if k in given else np.zeros((count, *self._shape(k, 1, self.m, columns)))
            for k in range(len(self.arrays))
        ]

    def skip(self, eps: complex, given: Given, count: int) -> np.ndarray:
        """eps A at V_0, (count, m, m): its columns beyond the tokens vanish."""
        return self.run(eps, self.factor, self._weights(given, count, self.m))

    def branch(
        self, eps: complex, group: _Group, given: Given, count: int, base: np.ndarray | None = None
    ) -> np.ndarray:
        """The columns of B of one unit, or of the whole of a plain group: (count, m, columns).

        `base`: the layer with no output weights, where it is known.
        """
        if base is None:
            base = self.skip(eps, given, count)
        out = [np.zeros((count, self.m, 0))]
        for k in group.outputs:
            axis = self._side(k)
            rows = self._shape(k, 1, self.m, self.m)[1 - axis]
            for first in range(0, rows, self.m):  # B W = B for W = I, a few rows at a time
                taken = range(first, min(rows, first + self.m))
                weights = self._weights(given, count, self.m)
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
                sizes = [_number(dim, self.sizes(n), self.traced) for n in (7.0, 8.0)]
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
            shape = list(self._shape(k, n, n, n))
            for axis in range(array.ndim):
                if self.axes.of(array, axis) in {*self.unit_classes, *self.keys}:
                    shape[axis] = round(_number(array.shape[axis], self.sizes(n), self.traced))
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
            for i in range(round(self._copies(n, group))):
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

    def _of_unit(self, k: int, weight: np.ndarray, group: _Group, i: int) -> np.ndarray:
        for axis in range(self.arrays[k].ndim):
            if self.axes.of(self.arrays[k], axis) == group.unit:
                weight = np.take(weight, [i], axis=axis + 1)
        return weight

    def _copies(self, n: Any, group: _Group) -> Any:
        """How many hidden units of a kind there are."""
        k = group.inputs[0]
        (dim,) = [
            d
            for i, d in enumerate(self.arrays[k].shape)
            if self.axes.of(self.arrays[k], i) == group.unit
        ]
        return _number(dim, self.sizes(n), self.traced)

    # ---- averages

    def _nodes(self, group: _Group, fewer: bool) -> tuple[Given, np.ndarray]:
        """Nodes for the inputs of a group, as arrays, and weights."""
        shapes = [(k, self._shape(k, 1, self.m, 1)) for k in group.inputs]
        sizes = [math.prod(s) for _, s in shapes]
        if sum(sizes) > 4:
            raise NotCovered(f"an average over {sum(sizes)} normals at once is too large")
        bent = [k in self.bent for k, _ in shapes]
        plain = sum(s for s, b in zip(sizes, bent, strict=True) if not b)
        # the more normals, the fewer nodes of each; a second weight of a unit is a smooth gate
        normals = 8 if any(bent) else 32 if plain <= 2 else 10
        angles, radii = (14, 6) if len(shapes) > 1 else (24, 12)
        if fewer:
            normals, angles, radii = normals - normals // 5, angles - 4, radii - 2
        if any(b and s != self.m for b, s in zip(bent, sizes, strict=True)):
            raise NotCovered("a hidden unit has more weights than one for each of the tokens")
        rules = [
            cone_rule(self.factor, angles, radii) if b else hermite_rule(s, normals)
            for s, b in zip(sizes, bent, strict=True)
        ]
        if math.prod(len(w) for _, w in rules) > _NODES:
            raise NotCovered("a hidden unit with several kinked weights is too large an average")
        x, w = product(rules)
        parts = np.split(x, np.cumsum(sizes)[:-1], axis=1) if shapes else []
        return {k: p.reshape(-1, *s) for (k, s), p in zip(shapes, parts, strict=True)}, w

    def moments(self, eps: complex, fewer: bool = False, reading: str = "graph") -> Moments:
        """n E[V' - V] (m, m) and n Cov[V'] (m, m, m, m) at V_0 and n = eps^-2.

        With keys, up to terms that vanish as n grows: Q Q^T is its mean, so that logits are normal,
        and of several kinked entries each is averaged alone (products of two are smaller).
        """
        self.reading = reading
        frozen = [p[0] for p in self.keys.values()]
        self.graph.growing = frozenset(self.arrays[k] for k in frozen)
        try:
            self.graph.masks = {a: np.zeros((self.m, self.m)) for a, _ in self.logits}
            base = self._moments(eps, fewer)
            mean, spread = base
            for array, drawn in self.logits:
                for entry in np.ndindex(self.m, self.m):
                    self.graph.masks[array] = np.zeros((self.m, self.m))
                    self.graph.masks[array][entry] = 1
                    self._rule = self._half_space(array, drawn, entry, fewer)
                    one = self._moments(eps, fewer)
                    mean, spread = mean + one[0] - base[0], spread + one[1] - base[1]
                self.graph.masks[array] = np.zeros((self.m, self.m))
            return mean, spread
        finally:
            self.reading, self.graph.growing, self.graph.masks = "graph", frozenset(), {}
            self._rule = None

    _rule: Rule | None = None

    def _half_space(self, array: Array, drawn: int, entry: tuple[int, ...], fewer: bool) -> Rule:
        """A rule for the weight `drawn` that is split where one entry of a function's argument
        vanishes, which must be linear in that weight."""
        size = self.m**2
        basis = np.concatenate([np.eye(size), self.rng.standard_normal((1, size))])
        given = self._frozen(len(basis), 1.0) | {drawn: basis.reshape(-1, self.m, self.m)}
        weights = self._weights(given, len(basis), self.m)
        states = np.broadcast_to(self.factor, (len(basis), self.m, self.m))
        leaves = dict(zip(self.arrays, weights, strict=True))
        found = self.graph.argument(array, 0.3, states, leaves)
        slopes = np.array([x[entry] for x in found])
        if abs(slopes[-1] - basis[-1] @ slopes[:-1]) > 1e-9 * np.max(np.abs(slopes)):
            raise NotCovered(f"the argument of {array.data[0]} is not linear in the last weight")
        first, _ = np.linalg.qr(np.column_stack([slopes[:-1], np.eye(size)[:, : size - 1]]))
        points = 5 if fewer else 6
        x, w = product([cone_rule(np.eye(1), 2, points + 2), hermite_rule(size - 1, points)])
        return x @ first.T, w

    def _frozen(self, count: int, ratio: Any) -> dict[int, np.ndarray]:
        """eps times the weights Q at their mean square, Q Q^T = (number of keys) I."""
        root = np.sqrt(ratio) * np.eye(self.m)
        return {q: np.broadcast_to(root, (count, self.m, self.m)) for q, _ in self.keys.values()}

    def _of_keys(self, eps: complex, fewer: bool) -> tuple[Given, np.ndarray]:
        """Nodes for the weights of logits: Q fixed, K drawn."""
        ((kind, (query, key)),) = self.keys.items()
        size = self.m**2
        x, w = self._rule or hermite_rule(size, 6 if fewer else 7)
        axis = [self.axes.of(self.arrays[query], i) for i in (0, 1)].index(kind)
        keys = _number(self.arrays[query].shape[axis], self.sizes(eps**-2), self.traced)
        given = self._frozen(len(w), keys * eps**2)
        return given | {key: x.reshape(-1, self.m, self.m)}, w

    def _moments(self, eps: complex, fewer: bool) -> Moments:
        n = eps**-2
        if self.columns:
            (group,) = self.units
            given, w = self._nodes(group, fewer)
            x = self.column(eps, given)
            mean, spread = _mean_and_covariance(_outer(x[:, :, None]), w)
            return n * (mean - self.V0), spread
        given, w = self._of_keys(eps, fewer) if self.keys else self._nodes(self.plain, fewer)
        base = self.skip(eps, given, len(w))
        skip = _outer(base)
        drawn = _outer(self.branch(eps, self.plain, given, len(w), base))
        mean, spread = _mean_and_covariance(skip + drawn, w)  # of E[V' | A, B]
        inner, own = _mean_and_covariance(drawn, w)  # of C = sum_j B_j B_j^T
        cross = np.einsum("k,kac,kbd->acbd", w, skip, drawn)
        for group in self.units:
            given, u = self._nodes(group, fewer)
            unit, away = _mean_and_covariance(_outer(self.branch(eps, group, given, len(u))), u)
            copies = self._copies(n, group)
            mean, spread = mean + copies * unit, spread + copies * away
            inner, own = inner + copies * unit, own + copies * away
            cross = cross + np.einsum("k,kac,bd->acbd", w, skip, copies * unit)
        # given A and B there are n columns, independent, each with the covariance C
        both = own + np.einsum("ac,bd->acbd", inner, inner)
        columns = np.einsum("acbd->abcd", both) + np.einsum("adbc->abcd", both)
        for order in ("acbd", "adbc", "bcad", "bdac"):
            columns = columns + np.einsum(f"{order}->abcd", cross)
        return n * (mean - self.V0), n * spread + columns


def _outer(x: np.ndarray) -> np.ndarray:
    """x x^T, without conjugation."""
    return x @ x.swapaxes(-1, -2)


def _number(dim: sp.Expr, sizes: Mapping[str, Any], traced: Trace) -> Any:
    """The size of a dimension where the width may be any number."""
    if isinstance(dim, Share):
        return sizes[dim.whole.name] / sizes[dim.count.name]
    return sizes[dim.name]


def unit_route(
    traced: Trace,
    params: Mapping[str, float],
    V0: np.ndarray,
    free: Mapping[str, Size] | None = None,
    *,
    text: bool = True,
) -> Limits:
    """Drift and diffusion of a block at `V0` (m, m), positive definite, without any symbol.

    **Arguments:** `free`: sizes of the other dimensions, numbers or functions of the width.
    `text`: the block is the whole layer, so that its text can be run too.

    Raises `RouteError`, with the reason, for layers that it does not cover, and where neither the
    quadrature nor Cauchy's integral settles.
    """
    try:
        layer = UnitLayer(traced, params, V0, free, text=text)
    except RouteError:
        raise
    except (ValueError, TypeError) as problem:
        raise NotCovered(f"the definition does not run on other arrays: {problem}") from problem
    size = float(np.max(np.abs(V0)))
    shift = int(2 * traced.model.pace) - 2
    found, errors = [_limits(layer.moments, _RADII[0], shift)], [math.inf]
    # two circles that agree: the larger they are, the fewer digits are lost to n
    for radius in _RADII[1:]:
        found.append(_limits(layer.moments, radius, shift))
        errors.append(_distance(found[-2], found[-1], size))
        if errors[-1] < 1e-10:
            break
    best = int(np.argmin(errors))
    limits, eps = found[best], _RADII[best]
    at = layer.moments(eps)
    if _off(at, layer.moments(eps, fewer=True)) > 1e-9 * size:
        raise NotCovered(
            "the average over one unit does not settle: a function is not smooth between the "
            "points where its argument vanishes"
        )
    if not errors[best] < 1e-8:
        raise NotCovered(
            "n E[V' - V] and n Cov[V'] are no power series in n^(-1/2) (off by "
            f"{errors[best]:.0e}): a function has a pole near zero, or a root of n in the text "
            "has another branch there"
        )
    if not limits.error < 1e-9 * size:
        raise RouteError(
            "the moments of V' - V in a unit of time grow with n (a coefficient of a positive "
            f"power is {limits.error:.1g}): there is no limit on this clock"
        )
    # of single entries of logits the text knows nothing; it is compared at a whole width
    if text and not layer.keys and _off(at, layer.moments(eps, reading="text")) > 1e-9 * size:
        raise RouteError(f"graph and text differ at the width {eps**-2:.0f}")
    return replace(limits, error=errors[best], exact=not layer.keys)


def _off(one: Moments, two: Moments) -> float:
    return max(float(np.max(np.abs(p - q))) for p, q in zip(one, two, strict=True))


def has_units(
    traced: Trace, params: Mapping[str, float], V0: np.ndarray, free: Mapping[str, Size]
) -> bool:
    """Whether the route covers a block, and the block sums over hidden units."""
    try:
        return bool(UnitLayer(traced, params, V0, free, text=False).units)
    except (ValueError, TypeError):
        return False


_RADII = (0.2, 0.12, 0.07, 0.04, 0.025, 0.015)
_POINTS = 24  # of Cauchy


def _limits(moments: Callable[[complex], Moments], radius: float, shift: int) -> Limits:
    """Cauchy's integrals over a circle of eps; conjugate values on its lower half.

    On the clock n^p a limit is the coefficient of eps^shift, shift = 2 p - 2, in n E[V' - V] and
    n Cov[V'].  `error` is the largest coefficient of a lower power, which a limit does not have.
    """
    angles = np.exp(2j * np.pi * np.arange(_POINTS // 2 + 1) / _POINTS)
    values = [moments(complex(radius * z)) for z in angles]
    share = np.full(len(angles), 2.0 / _POINTS)
    share[[0, -1]] = 1 / _POINTS

    def coefficient(power: int, part: int) -> np.ndarray:
        weight = share * angles**-power / radius**power
        return np.real(np.tensordot(weight, np.array([v[part] for v in values]), 1))

    lower = range(min(-2, shift - 1), shift)
    growth = max(float(np.max(np.abs(coefficient(p, k)))) for p in lower for k in (0, 1))
    drift, diffusion = (coefficient(shift, k) for k in (0, 1))
    above = [coefficient(shift + 1, k) for k in (0, 1)]
    return Limits(drift, diffusion, above[0], above[1], growth)


def _distance(one: Limits, two: Limits, size: float) -> float:
    """Relative, of the limits; what is a thousand times smaller than V counts as that large."""
    pairs = ((one.drift, two.drift, size), (one.diffusion, two.diffusion, size**2))
    return max(float(np.max(np.abs(p - q)) / max(np.max(np.abs(q)), 1e-3 * s)) for p, q, s in pairs)


def _mean_and_covariance(sample: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of (count, m, m) under the weights: (m, m) and (m, m, m, m)."""
    mean = np.tensordot(w, sample, 1)
    away = sample - mean
    flat = away.reshape(len(w), -1)
    return mean, ((flat * w[:, None]).T @ flat).reshape(*mean.shape * 2)
