"""Sweep a covariance SDE: observables of its paths at every point of a grid.

Fixed steps go through the module's pure `path`, many points and paths in one compiled program;
adaptive ones through `simulate`, point by point.  Fixed steps are rough near an explosion: unless
they were asked for, a point with one is computed anew with adaptive ones.  The draws are the same
at every point, so that differences between points are those of the parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from derive import observables
from derive.errors import RequestError
from derive.kinds import requests
from derive.kinds.covariance_sde import simulation
from derive.kinds.tex import tex

LEVELS = (5, 25, 50, 75, 95)
MEMORY = 2**31  # bytes that a tile may take, unless --lanes says otherwise
MOST_STEPS = 8192  # chosen unasked


class Points:
    """One request; see `derive.contract.Swept`."""

    share = ("exploded", "share of exploded paths")

    def __init__(
        self, module: ModuleType, points: Sequence[Mapping[str, float]], options: Any
    ) -> None:
        from derive.runtime.common import inputs, numbers

        self.module, self.options = module, options
        self.t1 = options.t1 or requests.T1
        given = simulation.parameters(module, options.param)._asdict()
        twice = sorted({p.partition("=")[0] for p in options.param} & set(points[0]))
        if twice:
            raise RequestError(f"{twice[0]} stands in --param and in --grid; leave one out")
        self.fixed = {name: x for name, x in given.items() if name not in points[0]}
        self.V0 = inputs.covariance(simulation.start(options))
        self.radius = numbers.radius(options.radius, self.V0)
        spec = module._SPEC
        for point in points:
            params = inputs.parameters({**self.fixed, **point}, module.Params, spec.ranges)
            size = inputs.value_of(params, spec.width, None)
            inputs.start(self.V0, spec.unit_rows, spec.width, size)
        self.times: Any = self.t1 * np.arange(1, options.saves + 1) / options.saves
        self.clock = "depth / width" if spec.pace == 1 else f"depth / width^{spec.pace:.3g}"
        self.scheme = options.scheme or ("fixed" if options.steps else "auto")
        self.steps = 0 if self.scheme == "adaptive" else self._steps(points)
        self._tiles(len(points))
        self.compiled: Any = None  # one program for all chunks
        self.quantities: Mapping[str, str] = _quantities(len(self.V0))
        fixed = [f"{tex(k)} = {v:.3g}" for k, v in self.fixed.items() if not np.ndim(v)]
        words = [f"m = {len(self.V0)} tokens", *fixed, f"{options.paths} paths a point"]
        self.caption = ", ".join(words)
        self.identity: Mapping[str, Any] = {
            "V0": self.V0.tolist(),
            "params": {k: np.asarray(v).tolist() for k, v in self.fixed.items()},
            "steps": self.steps,
            "scheme": self.scheme,
            "t1": self.t1,
            "lanes": [self.tile, self.block],
            **{k: getattr(options, k) for k in ("saves", "paths", "seed", "radius", "dtype")},
        }

    def _tiles(self, points: int) -> None:
        """Points and paths of one compiled program: as many lanes as fit into memory."""
        from derive.runtime.common import memory

        paths, lanes = self.options.paths, self.options.lanes
        each = 8 * 4 * (self.steps + 1) * self.V0.size  # V at all steps, in and out of the loop
        if self.steps:
            lanes = lanes or max(1, min(1024, MEMORY // each))
            memory.require({"the paths of a tile": lanes * each}, "take fewer --lanes or --steps")
        self.block = min(paths, lanes or paths)
        self.tile = min(points, max(1, lanes // self.block)) if self.steps else 1

    def _steps(self, points: Sequence[Mapping[str, float]]) -> int:
        """Steps at which no point overshoots at once; a state that grows may need more."""
        import jax
        import jax.numpy as jnp

        from derive.runtime.common.precision import precision
        from derive.runtime.paths.stepping import largest_step

        spec, t1, saves = self.module._SPEC, self.t1, self.options.saves
        with precision("float64"):
            values = {n: jnp.asarray([p[n] for p in points]) for n in points[0]}
            rates = jax.vmap(
                lambda own: self.module.mixing_rate(
                    jnp.asarray(self.V0), self.module.Params(**{**self.fixed, **own})
                )
            )(values)
        worst = int(np.argmax(rates))
        rate = max(float(rates[worst]), 0.0)
        finest = 1 / largest_step(spec, len(self.V0)) + 2 * rate
        enough = saves * int(np.ceil(max(128, t1 * finest) / saves))
        given = self.options.steps
        place = ", ".join(f"{n} = {x:g}" for n, x in points[worst].items())
        if given is None and enough > MOST_STEPS:
            raise RequestError(
                f"at {place} fixed steps would be {enough}; take --scheme adaptive, or say --steps "
                f"{enough}"
            )
        if given is not None and (t1 * rate > 4 * given or given % saves):
            raise RequestError(
                f"--steps {given}: take a multiple of --saves {saves}, and enough for {place}: "
                f"{enough}, or --scheme adaptive"
            )
        return given or enough

    def caution(self, columns: Mapping[str, np.ndarray]) -> str:
        if self.scheme != "fixed" or not np.any(columns["exploded"]):
            return ""
        return (
            f"paths have exploded; {self.steps} fixed steps are rough near an explosion, "
            "and so is the share: --scheme adaptive follows the state"
        )

    def compute(
        self, points: Sequence[Mapping[str, float]], report: Callable[[float], None]
    ) -> dict[str, np.ndarray]:
        found: list[dict[str, np.ndarray]] = []
        rough: list[int] = []  # points that are computed twice

        def told(_: float) -> None:  # as if the points to come were as often rough
            report(len(found) ** 2 / (len(points) * (len(found) + len(rough))))

        run = self._fixed if self.steps else self._adaptive
        for one in run(points, told):
            if self.scheme == "auto" and np.any(one["exploded"]):
                rough.append(len(found))
            found.append(one)
        both = len(points) + len(rough)
        again = self._adaptive(
            [points[k] for k in rough],
            lambda share: report((len(points) + share * len(rough)) / both),
        )
        for k, one in zip(rough, again, strict=True):
            found[k] = one
        return {name: np.array([one[name] for one in found]) for name in found[0]}

    def _adaptive(self, points: Any, report: Any) -> Any:
        o = self.options
        for number, point in enumerate(points):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*exit radius")  # a column says it
                paths = self.module.simulate(
                    self.V0,
                    {**self.fixed, **point},
                    **{"t1": self.t1, "paths": o.paths, "seed": o.seed, "saves": self.times},
                    **{"exit_radius": self.radius, "dtype": o.dtype},
                )
            left = paths.exit_time[:, None] <= paths.times
            yield _statistics(_observed(paths.V.astype(float)), left)
            report((number + 1) / len(points))

    def _fixed(self, points: Any, report: Any) -> Any:
        """Tile by tile, its paths in blocks."""
        blocks, firsts = (
            range(0, count, each)
            for count, each in ((self.options.paths, self.block), (len(points), self.tile))
        )
        found = self._pieces(points, [(first, at) for first in firsts for at in blocks])
        for first in firsts:
            own = points[first : first + self.tile]
            yield from self._gathered([next(found) for _ in blocks], len(own))
            report((first + len(own)) / len(points))

    def _pieces(self, points: Any, pieces: list[tuple[int, int]]) -> Any:
        """Observables and exits of each piece, a tile's first point and a block's first path: one
        program, sharded over the devices of this process, takes a piece on each of them."""
        from derive.runtime.common.devices import chosen
        from derive.runtime.common.precision import precision
        from derive.runtime.paths.sharding import along, over_paths

        devices = chosen(None)
        each = max(1, len(devices))
        with precision(self.options.dtype) as kind:
            if self.compiled is None:
                self.compiled = over_paths(self._program(kind), devices, along(0), along(0))
            for k in range(0, len(pieces), each):
                own = pieces[k : k + each]
                padded = [*own, *[own[-1]] * (each - len(own))]  # one program serves all
                lasts = [range(first, first + self.tile) for first, _ in padded]
                at = [points[min(i, len(points) - 1)] for numbers in lasts for i in numbers]
                values = {n: np.array([p[n] for p in at], kind) for n in at[0]}
                paths = np.array([first for _, first in padded], np.uint32)
                observed, left = self.compiled(values, paths)
                out = {n: np.asarray(x, float) for n, x in observed.items()}
                for i in range(len(own)):
                    rows = slice(i * self.tile, (i + 1) * self.tile)
                    yield {n: x[rows] for n, x in out.items()}, np.asarray(left)[rows]

    def _gathered(self, parts: list[Any], points: int) -> Any:
        paths = self.options.paths
        for i in range(points):
            found = {n: np.concatenate([f[n][i] for f, _ in parts])[:paths] for n in parts[0][0]}
            yield _statistics(found, np.concatenate([left[i] for _, left in parts])[:paths])

    def _program(self, kind: Any) -> Callable[..., Any]:
        """Observables (tile, block, saves, ...) of paths numbered from `at` (1,) at every point."""
        import jax
        import jax.numpy as jnp

        key = jax.random.key(self.options.seed)
        V0, t1 = jnp.asarray(self.V0, kind), self.t1
        saved = jnp.arange(1, self.options.saves + 1) * (self.steps // self.options.saves)

        def one(own: Any, number: Any) -> Any:
            params = self.module.Params(**{**self.fixed, **own})
            V = self.module.path(
                jax.random.fold_in(key, number), V0, params, t1=t1, steps=self.steps
            )
            out = ~(jnp.max(jnp.abs(V), axis=(-1, -2)) <= self.radius)  # nan is out
            exit_ = jnp.where(out.any(), jnp.argmax(out), self.steps + 1)
            # from its exit on a path stands still at the last value inside, as in `simulate`
            return _observed(V[jnp.minimum(saved, exit_ - 1)]), saved >= exit_

        def tile(values: Any, at: Any) -> Any:
            numbers = at[0] + jnp.arange(self.block, dtype=jnp.uint32)
            return jax.vmap(lambda own: jax.vmap(lambda i: one(own, i))(numbers))(values)

        return tile


def _quantities(m: int) -> dict[str, str]:
    pairs = {"correlation": "correlation, all pairs", "gap": "gap w of tokens 1 and 2"}
    rest = {
        "effective_rank": "effective rank",
        "entropy": "entropy of the eigenvalues",
        "variance": "variance, all tokens",
        "cone_distance": "distance from the cone",
    }
    return {**pairs, **rest} if m > 1 else {"variance": rest["variance"]}


def _observed(V: Any) -> dict[str, Any]:
    """Observables of V (..., m, m), what belongs to tokens or pairs on one more axis."""
    found = {"variance": observables.variances(V)}
    if V.shape[-1] > 1:
        found |= {
            "correlation": observables.correlations(V),
            "gap": observables.gap(V)[..., None],
            "effective_rank": observables.effective_rank(V)[..., None],
            "entropy": observables.entropy(V)[..., None],
            "cone_distance": observables.cone_distance(V)[..., None],
        }
    return found


def _statistics(found: Mapping[str, np.ndarray], left: np.ndarray) -> dict[str, np.ndarray]:
    """Columns (saves,) from arrays (paths, saves, ...): means and quantiles over all but saves."""
    out = {"exploded": left.mean(axis=0)}
    for name in sorted(found):
        flat = np.moveaxis(found[name], 1, 0).reshape(left.shape[1], -1)
        out[f"{name}_mean"] = flat.mean(axis=1)
        for level, row in zip(LEVELS, np.percentile(flat, LEVELS, axis=1), strict=True):
            out[f"{name}_q{level:02d}"] = row
    return out
