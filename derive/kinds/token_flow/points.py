"""Sweep a token flow: the systems of all points of a grid move beside each other.

An array parameter on the grid is a multiple of the array that --param gives (the identity, or
ones, by default).  All points start from the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from derive.errors import RequestError
from derive.kinds import requests
from derive.kinds.devices import on_devices
from derive.kinds.token_flow.sweep import T1, TOKENS, WIDTH

TILE = 32  # systems that move beside each other
MEMORY = 2**29  # bytes of their tokens at all times
BETWEEN = 64  # times at which consensus is looked for, and again inside the one interval found


class Points:
    """One request; see `derive.contract.Swept`."""

    share = ("consensus_time", "time of consensus")
    clock = "time"

    def __init__(
        self, module: ModuleType, points: Sequence[Mapping[str, float]], options: Any
    ) -> None:
        if not hasattr(module, "solve"):
            raise RequestError(
                f"{module.MODEL} has noise: its kernel has the drift (velocity) and the growth "
                "rates of harmonics, no solver to sweep"
            )
        self.module, self.options = module, options
        self.t1 = options.t1 or T1
        if not 0 < options.near < 1:
            raise RequestError(f"--near {options.near:g}: take a share between 0 and 1")
        spec = module._SPEC
        self.x0, sizes = _start(spec, options)
        self.base = requests.based(spec, options.param, sizes)
        self._require(points)
        self.times: Any = self.t1 * np.arange(1, options.saves + 1) / options.saves
        self.looks = np.union1d(np.linspace(0, self.t1, BETWEEN + 1), self.times)
        each = 4 * 8 * len(self.looks) * self.x0.size
        self.tile = max(1, min(TILE, len(points), MEMORY // each))
        n, d = self.x0.shape
        self.quantities: Mapping[str, str] = {
            "clusters": "number of clusters",
            "cosine": "mean cosine of two tokens",
            "diameter": "distance of the farthest pair",
            **({"energy": "energy"} if spec.energy is not None else {}),
        }
        self.caption = f"{n} tokens in dimension {d}"
        self.identity: Mapping[str, Any] = {
            "start": self.x0.tolist(),
            "params": {k: np.asarray(v).tolist() for k, v in self.base.items()},
            "tile": self.tile,
            "t1": self.t1,
            **{k: getattr(options, k) for k in ("saves", "rtol", "near", "merged", "dtype")},
        }

    def _require(self, points: Sequence[Mapping[str, float]]) -> None:
        """Parameters of all points, held to what the definition states, before any work."""
        from derive.runtime.flows import inputs

        for point in points:
            for name, value in point.items():
                if not np.isfinite(value):
                    raise RequestError(f"--grid {name}: {value:g} is not a finite number")
        inputs.systems(self.module._SPEC, self.x0, self._params(points), False)

    def _params(self, points: Sequence[Mapping[str, float]]) -> Any:
        params = dict(self.base)
        for name in points[0]:
            scale = np.array([point[name] for point in points])
            params[name] = scale.reshape(-1, *[1] * np.ndim(self.base[name])) * self.base[name]
        return self.module.Params(**params)

    def caution(self, columns: Mapping[str, np.ndarray]) -> str:
        """What is off by more than a hundredth of the distance that counts as consensus."""
        worst = float(np.nanmax(columns["error"], initial=0))
        if worst > 1e-2 * self.options.near * _diameter(self.x0[None, None])[0, 0]:
            return f"tokens are off by up to {worst:.2g} (column error); take a smaller --rtol"
        return ""

    def compute(
        self, points: Sequence[Mapping[str, float]], report: Callable[[float], None]
    ) -> dict[str, np.ndarray]:
        tiles = [points[k : k + self.tile] for k in range(0, len(points), self.tile)]
        found = list(on_devices(self._moved, tiles, report))
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _moved(self, points: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
        """Columns of one tile; a short one is filled up, so that its bits are no other's."""
        own = [*points, *[points[-1]] * (self.tile - len(points))]
        params = self._params(own)
        flow = self._solve(self.x0, params, self.looks)
        kept = np.searchsorted(self.looks, self.times)
        x = flow.x[:, kept]
        lengths = np.linalg.norm(x, axis=-1, keepdims=True)
        n = x.shape[-2]
        apart = _diameter(flow.x)
        total = np.square((x / lengths).sum(axis=-2)).sum(axis=-1)
        out = {
            "consensus_time": self._consensus(params, flow, apart),
            "clusters": np.where(np.isfinite(apart[:, kept]), flow.counts[:, kept], np.nan),
            "cosine": (total - n) / (n * (n - 1)),
            "diameter": apart[:, kept],
            "error": flow.error[:, kept],
            "blow_up_time": flow.blow_up_time,
            **({} if flow.energy is None else {"energy": flow.energy[:, kept]}),
        }
        shape = (len(own), len(kept))
        wide = {k: v if v.ndim == 2 else np.repeat(v[:, None], shape[1], 1) for k, v in out.items()}
        return {name: v[: len(points)] for name, v in wide.items()}

    def _solve(self, x0: np.ndarray, params: Any, times: np.ndarray) -> Any:
        return self.module.solve(
            *(x0, params),
            **{"t1": times[-1], "saves": times, "rtol": self.options.rtol},
            **{"merged": self.options.merged, "dtype": self.options.dtype, "project": True},
        )

    def _consensus(self, params: Any, flow: Any, apart: np.ndarray) -> np.ndarray:
        """When the farthest pair first is near, (points,); inf: not by t1.

        The interval between two looks in which it happens is gone through again from its start.
        """
        near = self.options.near * apart[:, :1]
        hit = apart <= near
        met, lanes = hit.any(axis=1), np.arange(len(hit))
        before = np.maximum(np.argmax(hit, axis=1) - 1, 0)
        if not (met & ~hit[:, 0]).any():
            return np.where(met, 0.0, np.inf)
        inside = np.linspace(0, self.t1 / BETWEEN, BETWEEN + 1)
        again = _diameter(self._solve(flow.x[lanes, before], params, inside).x)
        closer = np.log(np.maximum(again / near, np.finfo(float).tiny))
        last = np.clip(np.argmax(closer <= 0, axis=1), 1, BETWEEN)
        high, low = closer[lanes, last - 1], closer[lanes, last]
        step = inside[last - 1] + inside[1] * high / np.where(high > low, high - low, 1)
        return np.where(met, np.where(hit[:, 0], 0.0, self.looks[before] + step), np.inf)


def _diameter(x: np.ndarray) -> np.ndarray:
    """Largest distance of two tokens, (points, times) of x (points, times, n, d)."""
    out = np.empty(x.shape[:2])
    for at in np.ndindex(*out.shape):
        y = x[at] - x[at].mean(axis=0)
        squares = (y * y).sum(axis=-1)
        out[at] = np.sqrt(np.maximum(np.max(squares[:, None] + squares - 2 * y @ y.T), 0))
    return out


def _start(spec: Any, options: Any) -> tuple[np.ndarray, dict[str, int]]:
    """Tokens (n, d), of a file or drawn, and the sizes of dimensions that are known."""
    dims = {s for shape in spec.param_shapes.values() for s in shape} | {"n", "d"}
    sizes = requests.sizes(options.size, {}, {"": tuple(sorted(dims))})
    if options.tokens is not None:
        x = requests.array(f"--tokens {options.tokens}", options.tokens, ("n", "d"))
        for name, size in zip(("n", "d"), x.shape, strict=True):
            if sizes.setdefault(name, size) != size:
                raise RequestError(f"--size {name}={sizes[name]}: {options.tokens} has {size}")
    else:
        sizes = {"n": TOKENS, "d": WIDTH} | sizes
        x = np.random.default_rng(options.seed).standard_normal((sizes["n"], sizes["d"]))
        x = x / np.linalg.norm(x, axis=1, keepdims=True) if spec.sphere else x
    if len(x) < 2:
        raise RequestError(f"{len(x)} token moves among no others; take two or more")
    return x, sizes
