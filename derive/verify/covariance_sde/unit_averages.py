"""Averages over the single units of a block: its moments at any width, real or complex.

Input: the units of a block.  Output: n E[V' - V] and n Cov[V'], by Gauss rules over the few normals
that one unit is a function of, in the cones between the kinks where there are any.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from derive.notation.common.arrays import Array
from derive.verify.covariance_sde.cones import Rule, cone_rule, hermite_rule, product
from derive.verify.covariance_sde.second_route import NotCovered
from derive.verify.covariance_sde.units import Given, Group, Units, number_of

Moments = tuple[np.ndarray, np.ndarray]
_NODES = 120_000  # largest rule


class UnitLayer(Units):
    """One block with every number n of its text free, and its moments."""

    def _nodes(self, group: Group, fewer: bool) -> tuple[Given, np.ndarray]:
        """Nodes for the inputs of a group, as arrays, and weights."""
        shapes = [(k, self.shape(k, 1, self.m, 1)) for k in group.inputs]
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
                    rule = self._half_space(array, drawn, entry, fewer)
                    one = self._moments(eps, fewer, rule)
                    mean, spread = mean + one[0] - base[0], spread + one[1] - base[1]
                self.graph.masks[array] = np.zeros((self.m, self.m))
            return mean, spread
        finally:
            self.reading, self.graph.growing, self.graph.masks = "graph", frozenset(), {}

    def _half_space(self, array: Array, drawn: int, entry: tuple[int, ...], fewer: bool) -> Rule:
        """A rule for the weight `drawn` that is split where one entry of a function's argument
        vanishes, which must be linear in that weight."""
        size = self.m**2
        basis = np.concatenate([np.eye(size), self.rng.standard_normal((1, size))])
        given = self._frozen(len(basis), 1.0) | {drawn: basis.reshape(-1, self.m, self.m)}
        weights = self.weights(given, len(basis), self.m)
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

    def _of_keys(self, eps: complex, fewer: bool, rule: Rule | None) -> tuple[Given, np.ndarray]:
        """Nodes for the weights of logits: Q fixed, K drawn, by a rule of its own if given."""
        ((kind, (query, key)),) = self.keys.items()
        size = self.m**2
        x, w = rule or hermite_rule(size, 6 if fewer else 7)
        axis = [self.axes.of(self.arrays[query], i) for i in (0, 1)].index(kind)
        keys = number_of(self.arrays[query].shape[axis], self.sizes(eps**-2), self.traced)
        given = self._frozen(len(w), keys * eps**2)
        return given | {key: x.reshape(-1, self.m, self.m)}, w

    def _moments(self, eps: complex, fewer: bool, rule: Rule | None = None) -> Moments:
        n = eps**-2
        if self.columns:
            (group,) = self.units
            given, w = self._nodes(group, fewer)
            x = self.column(eps, given)
            mean, spread = _mean_and_covariance(_outer(x[:, :, None]), w)
            return n * (mean - self.V0), spread
        given, w = self._of_keys(eps, fewer, rule) if self.keys else self._nodes(self.plain, fewer)
        base = self.skip(eps, given, len(w))
        skip = _outer(base)
        drawn = _outer(self.branch(eps, self.plain, given, len(w), base))
        mean, spread = _mean_and_covariance(skip + drawn, w)  # of E[V' | A, B]
        inner, own = _mean_and_covariance(drawn, w)  # of C = sum_j B_j B_j^T
        cross = np.einsum("k,kac,kbd->acbd", w, skip, drawn)
        for group in self.units:
            given, u = self._nodes(group, fewer)
            unit, away = _mean_and_covariance(_outer(self.branch(eps, group, given, len(u))), u)
            copies = self.copies(n, group)
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


def _mean_and_covariance(sample: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of (count, m, m) under the weights: (m, m) and (m, m, m, m)."""
    mean = np.tensordot(w, sample, 1)
    away = sample - mean
    flat = away.reshape(len(w), -1)
    return mean, ((flat * w[:, None]).T @ flat).reshape(*mean.shape * 2)
