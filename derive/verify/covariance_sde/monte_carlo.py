"""L5: the finite model itself, simulated from the definition's text, against the equations.

One-layer z-tests use the text on NumPy arrays (nothing of the graph, the calculus or the kernels)
with antithetic weights, the part of order eps as a control variate (its exact mean is checked at
L1) and Richardson extrapolation in 1/n; path tests compare the generated
simulators with one another.  Seeds are fixed; thresholds come from a stated family-wise error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from types import ModuleType
from typing import Any

import numpy as np
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.draws import generator, seed
from derive.emit.covariance_sde.names import parameters
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common import numeric
from derive.notation.common.arrays import walk
from derive.notation.common.batch import Batch
from derive.notation.common.scalars import size
from derive.verify.common.rung import Rung
from derive.verify.covariance_sde.instance import CovarianceInstance, given_patterns, instance

FAMILY = 1e-4  # chance of one false alarm in a whole verification


def one_layer(result: CovarianceSDE, samples: int) -> Rung:
    """n E[V' - V] and n Cov[V'] of the text at n and 2 n, extrapolated, against the equations."""
    one = instance(result, 3, 50)
    # 2 f(n') - f(n) removes an error of order 1/n at n' = 2 n, of order n^(-1/2) at n' = 4 n
    odd = any(t.kind == "kernel" for t in result.drift.tensors())
    usual = result.model.pace == 1
    widths = ((24, 96) if odd else (24, 48)) if usual else (16, 64)
    if not usual and result.model.clock != result.model.width:  # depths, which cost nothing
        widths = (128, 512)
    high, low = (2.0, 1.0) if usual else _weights(widths, result)
    runs = [_moments(result, one, n, samples) for n in widths]
    if not usual:  # what is known beyond the limit goes: the rest is smaller
        runs = [(x - _beyond(result, one, n), c) for n, (x, c) in zip(widths, runs, strict=True)]
    # without noise the covariance must fall with the width, by which power is not said
    falls = None if usual or result.noise.fields else _fall(runs)
    tests = _Tests.of(result, one, runs, (high, low), with_diffusion=falls is None)
    z = tests.scores()
    limit = NormalDist().inv_cdf(1 - FAMILY / (2 * len(z)))
    power = tests.power(limit, usual)
    worst = int(np.argmax(np.abs(z)))
    return Rung(
        "L5 one layer of the finite network",
        f"the text at n = {widths[0]} and {widths[1]}, dense weights, antithetic; {len(z)} z-tests",
        bool(np.max(np.abs(z)) < limit) and (falls is None or falls < FALL),
        {
            "largest |z|": round(float(np.max(np.abs(z))), 2),
            "at": tests.names[worst],
            "threshold": round(limit, 2),
            "samples": samples,
        }
        | ({} if falls is None else {"covariance left at four times the width": round(falls, 2)}),
        "; ".join(f"{k} errors above {v:.1%} (median entry)" for k, v in power.items()),
    )


@dataclass(frozen=True)
class _Tests:
    """Entries of drift and diffusion: their names, targets, estimates and standard errors."""

    names: list[str]
    targets: np.ndarray
    values: np.ndarray
    errors: np.ndarray

    @classmethod
    def of(
        cls,
        result: CovarianceSDE,
        one: CovarianceInstance,
        runs: list[tuple[np.ndarray, np.ndarray]],
        weights: tuple[float, float],
        *,
        with_diffusion: bool,
    ) -> _Tests:
        """`weights`: of the larger width and, subtracted, of the smaller one."""
        names, targets, values, errors = [], [], [], []
        high, low = weights

        def add(name: str, target: float, part: int, entry: tuple[int, ...]) -> None:
            where: Any = (slice(None), *entry)
            small, large = (r[part][where] for r in runs)
            names.append(name)
            targets.append(target)
            values.append(high * large.mean() - low * small.mean())
            errors.append(np.hypot(high * _sem(large), low * _sem(small)))

        drift = evaluate(result.drift, {"V": one.V}, one.numbers)
        sigma = evaluate(result.diffusion, {"V": one.V}, one.numbers)
        pairs = [(a, b) for a in range(3) for b in range(a, 3)]
        for a, b in pairs:
            add(f"drift {a}{b}", drift[a, b], 0, (a, b))
            for c, d in pairs:
                if (a, b) <= (c, d) and with_diffusion:
                    add(f"diffusion {a}{b}{c}{d}", sigma[a, b, c, d], 1, (a, b, c, d))
        return cls(names, *(np.array(x) for x in (targets, values, errors)))

    def scores(self) -> np.ndarray:
        """z of every entry; zero where it agrees exactly."""
        off = self.values - self.targets
        # entries without fluctuation (a first causal token, the diagonal on the sphere) are exact
        exact = np.abs(off) < 1e-9 * max(float(np.max(np.abs(self.targets))), 1.0)
        return np.where(exact, 0.0, off / np.maximum(self.errors, 1e-300))

    def power(self, limit: float, usual: bool) -> dict[str, float]:
        """The relative error of a median entry that would be seen, of drift and of diffusion."""
        zero = max(1e-12, 0.0 if usual else 1e-5 * float(np.max(np.abs(self.targets))))
        out = {}
        for kind in ("drift", "diffusion"):
            seen = [
                limit * e / abs(t)
                for n, e, t in zip(self.names, self.errors, self.targets, strict=True)
                if n.startswith(kind) and abs(t) > zero
            ]
            if any(n.startswith(kind) for n in self.names):
                out[kind] = float(np.median(seen or [np.inf]))
        return out


FALL = 0.9  # share of a vanishing covariance that may be left at four times the width


def _weights(widths: tuple[int, int], result: CovarianceSDE) -> tuple[float, float]:
    """(u, v): u f(n') - v f(n) removes the first power of the width that corrections have.

    Weights enter moments twice, so that is the square of the finest power in the definition.
    """
    nodes = [a.data for a in walk(result.trace.output) if a.op == "full"]
    width = result.law.scaling.width
    powers = [p.exp for c in nodes for p in c.atoms(sp.Pow) if p.base == width]
    whole = math.lcm(2, *(int((2 * e).q) for e in powers if e.is_Rational))
    ratio = (widths[1] / widths[0]) ** (1 / whole)
    return ratio / (ratio - 1), 1 / (ratio - 1)


def _beyond(result: CovarianceSDE, one: CovarianceInstance, n: int) -> np.ndarray:
    """The derived mean of one layer at a finite width, less its limit."""
    found = [s.results for s in result.steps if s.name == "average"]
    drift = evaluate(result.drift, {"V": one.V}, one.numbers)
    if len(found) != 1 or result.step.scaling is not None:
        return np.zeros_like(drift)
    (exact,) = [e for name, e in found[0].items() if "E[" in name]
    numbers = {**one.numbers, **_symbols(result, one, n)}
    return evaluate(exact, {"V": one.V}, numbers) - drift


def _fall(runs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """How much of the largest entry of the covariance is left at the larger width."""
    small, large = (float(np.max(np.abs(c.mean(axis=0)))) for _, c in runs)
    return large / max(small, 1e-300)


def _symbols(result: CovarianceSDE, one: CovarianceInstance, n: int) -> dict[sp.Symbol, float]:
    """The dimensions at width n: free ones small, fixed ones as the instance has them."""
    dims = {d: float(n) for d in result.model.dims}
    dims |= {d: 4.0 for d in result.law.scaling.free}
    dims |= {d: one.params.get(d.name, dims[d]) for d in result.law.scaling.fixed if d in dims}
    dims[result.law.gram.dims[0]] = float(one.V.shape[0])
    return dims


def _sem(sample: np.ndarray) -> float:
    return float(sample.std(ddof=1) / np.sqrt(len(sample)))


def _moments(
    result: CovarianceSDE, one: CovarianceInstance, n: int, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Per-sample n (V' - V), antithetic in every weight, and n (V' - E)(V' - E) products."""
    rng = generator(7, n)
    m = one.V.shape[0]
    values, vectors = np.linalg.eigh(one.V)
    fixed = result.model.clock != result.model.width
    columns, weight = (int(one.params[result.model.width.name]), 1) if fixed else (n, n)
    X = np.zeros((m, columns))
    X[:, :m] = np.sqrt(weight) * vectors * np.sqrt(np.maximum(values, 0))
    symbols = _symbols(result, one, n)
    dims = {d.name: count for d, count in symbols.items()}
    unit = n if result.model.pace == 1 else n ** float(result.model.pace)
    shapes = [[size(d, symbols) for d in a.shape] for _, a in result.trace.weights]
    signs = _signs(len(shapes))
    numbers = {**one.numbers, **symbols}
    known = evaluate(result.law.mean(result.fluctuation), {"V": one.V}, numbers)

    def control(weights: list[np.ndarray]) -> np.ndarray:
        """The part of order eps: its mean is known, its noise goes."""
        arrays = {t.name: w for t, w in zip(result.law.gaussian, weights, strict=True)}
        arrays |= {"V": one.V, result.law.state.name: X}
        return evaluate(result.fluctuation, arrays, numbers)

    means, products = [], []
    chunk = max(1, int(4e6 // sum(int(np.prod(s)) for s in shapes)))
    for first in range(0, samples, chunk):
        count = min(chunk, samples - first)
        weights = [rng.standard_normal((count, *s)) for s in shapes]
        batch = Batch.of(np.broadcast_to(X, (count, *X.shape)))
        increments, controls = [], []
        for sign in signs:
            new = numeric.run(
                result.model.function,
                batch,
                dims=dims,
                params=one.params,
                weights=[Batch.of(s * w) for s, w in zip(sign, weights, strict=True)],
            )
            new = np.asarray(new)
            increments.append(unit * (np.einsum("kai,kbi->kab", new, new) / weight - one.V))
            signed = [s * w for s, w in zip(sign, weights, strict=True)]
            controls.append(unit * control(signed))
        mean = np.mean(increments, axis=0) - np.mean(controls, axis=0) + unit * known
        second = np.mean([np.einsum("kab,kcd->kabcd", x, x) / unit for x in increments], axis=0)
        means.append(mean)
        products.append(second)
    mean, second = np.concatenate(means), np.concatenate(products)
    centre = mean.mean(axis=0)
    return mean, second - np.einsum("ab,cd->abcd", centre, centre) / unit


def _signs(count: int) -> list[tuple[int, ...]]:
    """Sign patterns of the weights: every weight has both signs equally often."""
    patterns = [tuple(1 for _ in range(count))]
    for flipped in range(count):
        patterns.append(tuple(-1 if k == flipped else 1 for k in range(count)))
    patterns.append(tuple(-1 for _ in range(count)))
    return patterns


def convergence(
    result: CovarianceSDE, module: ModuleType, paths: int, widths: tuple[int, ...]
) -> Rung:
    """Kolmogorov-Smirnov distance of the network from the SDE, against the width."""
    usual = result.model.pace == 1
    one = gentle(result) if usual else _moved(result)
    params = module.Params(*(one.params[n] for n in module.Params._fields))
    V0 = np.full((2, 2), 0.2) + 0.8 * np.eye(2)
    t1 = 0.5
    # an ODE is stepped finely: its error must not hide how slowly the network closes in
    noisy = bool(result.noise.fields)
    fine: dict[str, Any] = {} if usual or noisy else {"dt": t1 / 1024}
    limit = module.simulate(
        V0, params, t1=t1, paths=paths if usual or noisy else 1, seed=seed(11), **fine
    )
    network = getattr(module, "reduced_network", None)
    finite_paths = paths
    if not usual:
        finite_paths, widths = _affordable(result, network is not None, noisy, paths, widths)
    elif network is None:  # dense weights: what two cores draw in a minute or two
        finite_paths, widths = min(paths, 2**13), tuple(n for n in widths if n <= 64)
    # without noise the limit is a point, and laws are compared by the distance from it
    distance, word = (_ks, "KS") if noisy else (_root_mean_square, "RMS")
    table, late = {}, 0.0
    for n in widths:
        run = network or module.network
        depth = int(round(t1 * module._SPEC.unit(n)))
        finite = run(V0, params, paths=finite_paths, seed=seed(12), **_sizes(result, one, n, depth))
        pairs = zip(_observed(finite), _observed(limit), strict=True)
        late = max(late, abs(float(finite.times[-1]) / (depth / n ** float(result.model.pace)) - 1))
        table[n] = round(max(distance(f, g) for f, g in pairs), 4)
    # two-sample, false alarm about 1e-3
    floor = 1.95 * np.sqrt(1 / paths + 1 / finite_paths) if noisy else 0.0
    last = table[widths[-1]]
    share = 0.6 if usual else _share(result, noisy, widths)
    allowed = max(2 * floor, share * table[widths[0]])
    return Rung(
        "L5 network to SDE",
        f"largest {word} distance of V_11, V_12 and the gap between network and "
        f"{'SDE' if noisy else 'ODE'}, by width",
        bool(last < allowed and late < 1e-9),
        {
            f"{word} by width": {str(k): v for k, v in table.items()},
            "noise floor": round(float(floor), 4),
            "paths": paths if usual else finite_paths,
            **({} if usual else {"share that may be left": round(share, 2)}),
            "parameters": {k: round(v, 3) for k, v in one.params.items()},
        },
        f"{word} distances above {allowed:.2g} at width {widths[-1]}",
    )


def _affordable(
    result: CovarianceSDE, chain: bool, noisy: bool, paths: int, widths: tuple[int, ...]
) -> tuple[int, tuple[int, ...]]:
    """Paths and widths off the usual clock: as many layers as there, whatever they cost.

    Fast clocks have few layers at a width, so the widths grow; slow ones have many.
    """
    pace = float(result.model.pace)
    grown = tuple(dict.fromkeys(max(n, round(n ** (1 / pace))) for n in widths))
    if chain:
        kept = tuple(n for n in grown if n**pace <= 4096)
        return paths, kept if len(kept) > 1 else grown[:2]
    # dense weights: of an ODE few paths say as much
    paths = min(paths, 2**13 if noisy else 2**9)
    entries = sum(len([d for d in a.shape if result.law.scaling.grows(d)]) > 1 for _, a in
                  result.trace.weights)  # fmt: skip
    kept = tuple(n for n in grown if paths * n ** (2 + pace) * entries / 2 <= 4e9)
    return paths, kept if len(kept) > 1 else (round(8 ** (1 / pace)), round(16 ** (1 / pace)))


def _share(result: CovarianceSDE, noisy: bool, widths: tuple[int, ...]) -> float:
    """The share of the first distance that may be left at the last width.

    Corrections fall at least like the finest power of the width in the definition, fluctuations
    about an ODE like n^((a - 1) / 2) on the clock depth / n^a; half of that slowest power is asked.
    """
    pace = float(result.model.pace)
    nodes = [a.data for a in walk(result.trace.output) if a.op == "full"]
    width = result.law.scaling.width
    powers = [p.exp for c in nodes for p in c.atoms(sp.Pow) if p.base == width]
    finest = 1 / math.lcm(2, *(int(e.q) for e in powers if e.is_Rational))
    slowest = finest if noisy else min(finest, max(1 - pace, 0.5) / 2)
    return (widths[-1] / widths[0]) ** (-slowest / 2)


def _sizes(result: CovarianceSDE, one: CovarianceInstance, n: int, depth: int) -> dict[str, Any]:
    """Arguments of the network at small parameter 1/sqrt(n)."""
    model = result.model
    if model.clock == model.width:
        return {"width": n, "depth": depth}
    width = int(one.params[model.width.name])
    return {"width": width, "depth": depth, "dims": {model.clock.name: n}}


def gentle(result: CovarianceSDE) -> CovarianceInstance:
    """Parameters well inside their ranges (a third of the way up)."""
    params: dict[str, Any] = {}
    for p in result.model.params:
        low = p.range.low if np.isfinite(p.range.low) else -1.0
        high = p.range.high if np.isfinite(p.range.high) else low + 3.0
        params[p.name] = float(low + (high - low) / 3)
    for symbol in parameters(result):
        params.setdefault(symbol.name, 2.0 if symbol in result.model.dims else 1.0)
    return CovarianceInstance(np.eye(2), params | given_patterns(result, 2), {})


def _moved(result: CovarianceSDE) -> CovarianceInstance:
    """The same, but real parameters are one and minus one by turns: differences of them matter."""
    one = gentle(result)
    real = [p.name for p in result.model.params if np.isinf(p.range.low) and np.isinf(p.range.high)]
    signs = {name: (-1.0) ** k for k, name in enumerate(real)}
    return CovarianceInstance(one.V, {**one.params, **signs}, one.numbers)


def same_law(result: CovarianceSDE, module: ModuleType, paths: int) -> Rung:
    """Dense and reduced network at a small width: two-sample tests of three observables."""
    one = gentle(result)
    params = module.Params(*(one.params[n] for n in module.Params._fields))
    V0 = np.full((2, 2), 0.2) + 0.8 * np.eye(2)
    figures, floor = {}, 0.0
    for free in (1, 3):
        dims = {d.name: free for d in result.law.scaling.free}
        settings = dict(width=6, depth=4, dims=dims, paths=paths)
        dense = module.network(V0, params, seed=seed(21), **settings)
        short = module.reduced_network(V0, params, seed=seed(22), **settings)
        pairs = zip(("V_11", "V_12", "gap"), _observed(dense), _observed(short), strict=True)
        for name, f, g in pairs:
            figures[f"{name}, free dimensions {free}"] = round(_ks(f, g), 4)
    floor = float(np.sqrt(-np.log(FAMILY / 2 / len(figures)) / 2) * np.sqrt(2 / paths))
    return Rung(
        "L5 reduced chain",
        "dense and reduced network have one law at width 6 (two-sample KS)",
        max(figures.values()) < floor,
        {**figures, "threshold": round(floor, 4), "paths": paths},
        f"KS distances above {floor:.2g}",
    )


def _observed(paths):  # type: ignore[no-untyped-def]
    V = np.round(paths.V[:, -1], 9)  # the diagonal on the sphere is one up to rounding
    out = [V[:, 0, 0], V[:, 0, 1], V[:, 0, 0] - 2 * V[:, 0, 1] + V[:, 1, 1]]
    gone = np.isfinite(paths.exit_time)
    return [np.where(gone, np.inf, x) for x in out]


def _root_mean_square(first: np.ndarray, point: np.ndarray) -> float:
    return float(np.sqrt(np.mean((first - point.mean()) ** 2)))


def _ks(first: np.ndarray, second: np.ndarray) -> float:
    both = np.sort(np.concatenate([first, second]))
    a = np.searchsorted(np.sort(first), both, side="right") / len(first)
    b = np.searchsorted(np.sort(second), both, side="right") / len(second)
    return float(np.max(np.abs(a - b)))
