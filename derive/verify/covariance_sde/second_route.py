"""A second route to drift and diffusion: the text on arrays, Cauchy's integral, cubature, a limit.

Input: a model, numbers for its parameters, a covariance V_0 and the weight degrees that matter.
Output: drift (m, m) and diffusion (m, m, m, m) at V_0, as numbers.

Nothing of the calculus takes part.  The definition is run as ordinary NumPy code at literal small
widths n, at X with X X^T / n = V_0.  With all weights scaled by h, the new covariance V' is a power
series in h; its homogeneous parts are read off by Cauchy's integral and averaged exactly over the
Gaussian weights by a sparse (Smolyak) cubature of sufficient degree.  n E[V' - V] and n Cov[V']
are then polynomials in 1/n, whose value at 1/n = 0 is the limit; a spare width checks that they
are.  On the clock depth / n^a, n^a E[V' - V] and n^a Cov[V'] are polynomials in a root of 1/n.

Not supported: functions that are not analytic at zero weights, parts beyond the degrees asked for,
moments with odd powers of n^(-1/2) on the clock depth / n.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from derive.draws import generator
from derive.notation.common import numeric
from derive.notation.common.batch import Batch
from derive.notation.common.graph import value
from derive.notation.common.scalars import size
from derive.notation.layers.model import Model, Trace

Size = int | Callable[[int], int]
_CHUNK = 400_000  # entries of the largest array of one batch


class RouteError(ValueError):
    """The route does not apply at these degrees and widths; the message says why."""


class NotCovered(RouteError):
    """The route does not know layers of this kind; it has not run."""


def second_route(
    model: Model,
    params: Mapping[str, float],
    V0: np.ndarray,
    *,
    drift_degree: int,
    diffusion_degree: int | None,
    widths: Sequence[int] | None = None,
    free: Mapping[str, Size] | None = None,
    points: int = 32,
    part: Trace | None = None,
    held: Mapping[int, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Drift (m, m) and diffusion (m, m, m, m) of `model` at `V0`, without any symbol.

    **Arguments:** `drift_degree`, `diffusion_degree`: largest total degree in the weights that is
    kept in E[V' - V] and in the products of Cov[V'] (None: the diffusion is left out).
    `widths`: literal widths (depths, where those are the small parameter), at least the number of
    tokens; one more than the degree in 1/n + 1 (default: four, or five if four do not do; five off
    the usual clock).  `free`: sizes of the other dimensions, numbers (default 1) or functions of
    the width.  `points`: nodes of Cauchy's integral.  `part`: the
    graph of one block of the layer, run instead of the text (the two are compared at L1).
    `held`: weights by their number that are not averaged over, with their values.

    Raises `RouteError` if the moments are no polynomials in 1/n at these widths, or the series
    does not converge.
    """
    V0 = np.asarray(V0, dtype=float)
    usual = model.pace == 1
    given = widths is not None
    widths = tuple(widths or ((2, 3, 4, 5) if usual else (2, 3, 5, 8, 12)))
    if min(widths) < len(V0) or len(set(widths)) < 2:
        raise RouteError(f"widths {tuple(widths)}: take two or more, none below {len(V0)} tokens")

    def moments(width: int) -> tuple[np.ndarray, np.ndarray | None]:
        layer = Layer(model, params, V0, width, free or {}, points, part, held)
        mean = layer.mean_increment(drift_degree)
        spread = None if diffusion_degree is None else layer.covariance(diffusion_degree)
        unit = width if usual else float(width) ** float(model.pace)
        return unit * mean, spread if spread is None else unit * spread

    pairs = [moments(width) for width in widths]
    size, roots = float(np.abs(V0).max()), (1,) if usual else (1, 2, 3, 4)
    try:
        return _limits(widths, pairs, size, roots)
    except RouteError:
        if given or not usual:
            raise
    # moments of many weights are polynomials of degree three
    widths = (*widths, widths[-1] + 1)
    return _limits(widths, [*pairs, moments(widths[-1])], size, roots)


def _limits(
    widths: Sequence[int],
    pairs: Sequence[tuple[np.ndarray, np.ndarray | None]],
    size: float,
    roots: Sequence[int],
) -> tuple[np.ndarray, np.ndarray | None]:
    drift = _at_infinity(widths, [p[0] for p in pairs], size, "n E[V' - V]", roots)
    spreads = [p[1] for p in pairs if p[1] is not None]
    if not spreads:
        return drift, None
    return drift, _at_infinity(widths, spreads, size**2, "n Cov[V']", roots)


def state_of(V0: np.ndarray, columns: int) -> np.ndarray:
    """Tokens X with X X^T = V0."""
    values, vectors = np.linalg.eigh(V0)
    state = np.zeros((len(V0), columns))
    state[:, : len(V0)] = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    return state


class Layer:
    """One layer of a model at a literal width, as a function of its weights."""

    def __init__(
        self,
        model: Model,
        params: Mapping[str, float],
        V0: np.ndarray,
        width: int,
        free: Mapping[str, Size],
        points: int,
        part: Trace | None = None,
        held: Mapping[int, np.ndarray] | None = None,
    ) -> None:
        self.part, self.held = part, held or {}
        self.model, self.params, self.V0, self.width = model, params, V0, width
        self.points = points
        self.dims: dict[str, float] = {}
        for dim in model.dims:
            size = free.get(dim.name, 1)
            self.dims[dim.name] = size(width) if callable(size) else size
        token, own = model.state_dims
        fixed = model.clock != own  # the layers get small instead of the width growing
        columns = int(self.dims[own.name]) if fixed else width
        self.dims[token.name], self.dims[model.clock.name] = len(V0), width
        self.dims[own.name], self.weight = columns, 1 if fixed else width
        self.state = math.sqrt(self.weight) * state_of(V0, columns)
        self.shapes = self._shapes()
        self.rng = generator(7)
        self._require_batches()
        self.radius = 0.5

    def mean_increment(self, degree: int) -> np.ndarray:
        """E[V' - V], kept to total weight degree `degree`; exact at this width."""
        needed = [max(d[p] for p in range(degree + 1)) for d in self.degrees]
        total = -self.V0
        for nodes, weights in self._cubature(needed):
            total = total + np.einsum("k,kpab->ab", weights, self.parts(nodes, degree))
        return total

    def covariance(self, degree: int) -> np.ndarray:
        """Cov[V'_ab, V'_cd], its products kept to total weight degree `degree`."""
        needed = [
            max(d[p] + d[q] for p in range(degree + 1) for q in range(degree + 1 - p))
            for d in self.degrees
        ]
        second = np.zeros(self.V0.shape * 2)
        means = np.zeros((degree + 1, *self.V0.shape))
        for nodes, weights in self._cubature(needed):
            parts = self.parts(nodes, degree)
            means += np.einsum("k,kpab->pab", weights, parts)
            partial = np.cumsum(parts, axis=1)
            second += np.einsum("k,kpab,kpcd->abcd", weights, parts, partial[:, ::-1])
        first = np.einsum("pab,pcd->abcd", means, np.cumsum(means, axis=0)[::-1])
        return second - first

    def new(self, weights: Sequence[np.ndarray]) -> np.ndarray:
        """V' for a batch of weights (batch, rows, columns); may be complex."""
        state = Batch.of(np.broadcast_to(self.state, (len(weights[0]), *self.state.shape)))
        out = np.asarray(self._run(state, [Batch.of(w) for w in weights]))
        return np.matmul(out, out.swapaxes(-1, -2)) / self.weight

    def _run(self, state: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
        weights = list(weights)
        for number, own in sorted(self.held.items()):
            batched = isinstance(state, Batch)
            count = len(np.asarray(state))
            weights.insert(
                number, Batch.of(np.broadcast_to(own, (count, *own.shape))) if batched else own
            )
        if self.part is not None:
            return self._run_part(state, weights)
        return numeric.run(
            self.model.function, state, dims=self.dims, params=self.params, weights=weights
        )

    def _run_part(self, state: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
        assert self.part is not None
        leaves = {self.part.state: np.asarray(state)}
        for (_, array), weight in zip(self.part.weights, weights, strict=True):
            leaves[array] = np.asarray(weight)
        model = self.model
        numbers = {d: self.dims[d.name] for d in model.dims}
        numbers |= {p: self.params[p.name] for p in model.params}
        return value(self.part.output, leaves, numbers)

    def _shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the weights in the order in which the text asks for them."""
        if self.part is not None:
            sizes = {d: self.dims[d.name] for d in self.model.dims}
            own = [tuple(size(d, sizes) for d in a.shape) for _, a in self.part.weights]
            return [s for k, s in enumerate(own) if k not in self.held]
        recorder = _Recorder()
        numeric.run(
            self.model.function, self.state, dims=self.dims, params=self.params, weights=recorder
        )
        return [s for k, s in enumerate(recorder.shapes) if k not in self.held]

    def random(self, count: int) -> list[np.ndarray]:
        return [self.rng.standard_normal((count, *shape)) for shape in self.shapes]

    def _require_batches(self) -> None:
        """The batched reading must be the plain one."""
        sample = [0.05 * w for w in self.random(3)]  # well inside the radius of convergence
        for position, together in enumerate(self.new(sample)):
            alone = np.asarray(self._run(self.state, [w[position] for w in sample]))
            if not np.allclose(alone @ alone.T / self.weight, together, rtol=1e-12, atol=1e-13):
                raise RouteError("the text reads differently on a batch of weights")

    @cached_property
    def active(self) -> list[np.ndarray]:
        """Flat positions of the weight entries on which V' depends at this state."""
        out = []
        for chosen, shape in enumerate(self.shapes):
            size = math.prod(shape)
            batch = [np.repeat(0.1 * w, size + 1, axis=0) for w in self.random(1)]
            flat = batch[chosen].reshape(size + 1, size)
            flat[np.arange(size), np.arange(size)] += 0.1
            values = self.new(batch)
            change = np.abs(values[:-1] - values[-1]).max(axis=(1, 2))
            out.append(np.flatnonzero(change > 1e-13))
        return out

    @cached_property
    def degrees(self) -> list[list[int]]:
        """For every weight, the largest degree in it of each homogeneous part of V'."""
        sample = self.random(1)
        powers = np.arange(self.points)
        degrees = []
        for chosen in range(len(sample)):
            circle = np.exp(2j * np.pi * powers / self.points)
            batch = [
                np.multiply.outer(circle if i == chosen else np.ones(self.points), w[0])
                for i, w in enumerate(sample)
            ]
            parts = self.parts(batch, self.points - 1, scaled=True)
            found = np.abs(np.fft.fft(parts, axis=0, norm="forward")).max(axis=(2, 3))
            present = (found > 1e-14 * found.max()) & (powers[:, None] <= powers)
            degrees.append([int(np.flatnonzero(column).max(initial=0)) for column in present.T])
        return degrees

    def parts(self, weights: Sequence[np.ndarray], degree: int, scaled: bool = False) -> np.ndarray:
        """Homogeneous parts of V' up to `degree`: (nodes, degree + 1, m, m).

        `scaled`: for complex weights, and with part p multiplied by radius**p.
        """
        count, points = len(weights[0]), self.points
        used = points if scaled else points // 2 + 1
        while True:
            circle = self.radius * np.exp(2j * np.pi * np.arange(used) / points)
            batch = [
                np.multiply.outer(circle, w).reshape(used * count, *w.shape[1:]) for w in weights
            ]
            values = self.new(batch).reshape(used, count, *self.V0.shape)
            if not scaled:  # real coefficients: conjugate values on the lower half circle
                values = np.concatenate([values, values[-2:0:-1].conj()])
            series = np.fft.fft(values, axis=0, norm="forward")
            if np.abs(series[-3:]).max() < 1e-15 * np.abs(series).max():
                break
            self.radius *= 0.8
            if self.radius < 0.02:
                raise RouteError(
                    "V' has no power series in the weights: a function is not analytic"
                )
        series = np.moveaxis(series[: degree + 1], 0, 1)
        if scaled:
            return series
        return series.real / self.radius ** np.arange(degree + 1)[:, None, None]

    def _cubature(self, needed: Sequence[int]):  # type: ignore[no-untyped-def]
        """Batches (nodes of every weight, cubature weights), exact to the degrees `needed`."""
        rules = [gaussian_rule(len(a), d) for a, d in zip(self.active, needed, strict=True)]
        counts = [len(w) for _, w in rules]
        total = math.prod(counts)
        largest = max((math.prod(s) for s in self.shapes), default=1)
        step = max(1, _CHUNK // (largest * (self.points // 2 + 1)))
        for start in range(0, total, step):
            chosen = np.unravel_index(np.arange(start, min(total, start + step)), counts)
            nodes, weights = [], np.ones(len(chosen[0]))
            for (x, w), pick, active, shape in zip(
                rules, chosen, self.active, self.shapes, strict=True
            ):
                full = np.zeros((len(pick), math.prod(shape)))
                full[:, active] = x[pick]
                nodes.append(full.reshape(len(pick), *shape))
                weights = weights * w[pick]
            yield nodes, weights


class _Recorder(np.random.Generator):
    """Draws weights and notes the shapes asked for."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))
        self.shapes: list[tuple[int, ...]] = []

    def standard_normal(self, size: Any = None, *_: Any, **__: Any) -> Any:
        self.shapes.append(tuple(size))
        return super().standard_normal(size)


def gaussian_rule(size: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (count, size) and weights (count,) exact for E of polynomials in iid N(0, 1).

    Smolyak's combination of Gauss-Hermite rules; exact to total degree `degree`.
    """
    level = degree // 2 if size else 0
    one = [np.polynomial.hermite_e.hermegauss(q) for q in range(1, level + 2)]
    found: dict[tuple[tuple[int, float], ...], float] = {}
    for height in range(max(0, level - max(size, 1) + 1), level + 1):
        sign = (-1) ** (level - height) * math.comb(max(size - 1, 0), level - height)
        for parts in _levels(height, size):
            axes = [p for p, _ in parts]
            for picks in itertools.product(*(range(q + 1) for _, q in parts)):
                places: list[tuple[int, float]] = []
                weight = float(sign)
                for axis, (_, q), pick in zip(axes, parts, picks, strict=True):
                    x, w = one[q]
                    weight *= float(w[pick] / w.sum())
                    if abs(x[pick]) > 1e-12:
                        places.append((axis, round(float(x[pick]), 14)))
                found[tuple(places)] = found.get(tuple(places), 0.0) + weight
    nodes = np.zeros((len(found), size))
    for row, key in enumerate(found):
        for axis, x in key:
            nodes[row, axis] = x
    return nodes, np.array(list(found.values()))


def _levels(height: int, size: int):  # type: ignore[no-untyped-def]
    """Ways to spread `height` over axes, as ((axis, level >= 1), ...) in order of axis."""
    if not height:
        yield ()
    for used in range(1, min(height, size) + 1):
        for axes in itertools.combinations(range(size), used):
            for cuts in itertools.combinations(range(1, height), used - 1):
                ends = (0, *cuts, height)
                yield tuple((a, ends[i + 1] - ends[i]) for i, a in enumerate(axes))


def _at_infinity(
    widths: Sequence[int],
    values: list[np.ndarray],
    size: float,
    name: str,
    roots: Sequence[int] = (1,),
) -> np.ndarray:
    """Value at 1/n = 0 of the polynomial in n^(-1/k), of degree two less than there are widths.

    Off the usual clock k is the first of `roots` for which four of the values, or more if need be,
    are such a polynomial: wrong powers miss them by far more than rounding.
    """
    flat = np.array(values).reshape(len(widths), -1)
    scale = max(float(np.abs(flat).max()), size)
    usual = len(roots) == 1
    found = []
    for count, root in itertools.product(
        [len(widths)] if usual else range(4, 1 + len(widths)), roots
    ):
        inverse = np.array(widths[:count], dtype=float) ** (-1 / root)
        table = np.vander(inverse, count - 1, increasing=True)
        solution = np.linalg.lstsq(table, flat[:count], rcond=None)[0]
        found.append(float(np.abs(table @ solution - flat[:count]).max()) / scale)
        if found[-1] <= (1e-8 if usual else 1e-10):
            return solution[0].reshape(values[0].shape)
    power = "1/n" if usual else f"n^(-1/k), k up to {max(roots)}"
    raise RouteError(
        f"{name} is no polynomial of degree {len(widths) - 2} in {power} "
        f"(off by {min(found):.1e}): there is no limit on this clock, or more widths are needed"
    )
