"""Sweep a Gaussian closure: the laws of all points of a grid are solved beside each other.

An array parameter on the grid is a multiple of the array that --param gives (the identity, or
ones, by default).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from derive import observables
from derive.errors import RequestError
from derive.kinds import requests
from derive.kinds.devices import on_devices

TILE = 32  # laws that are solved together
SHOWN = 8  # eigenvalues with columns of their own


class Points:
    """One request; see `derive.contract.Swept`."""

    share = ("blow_up_time", "blow-up time")
    clock = "time"

    def __init__(
        self, module: ModuleType, points: Sequence[Mapping[str, float]], options: Any
    ) -> None:
        self.module, self.options = module, options
        self.mean, self.cov = _start(options.tokens, module._SPEC.positional)
        sizes = {"d": self.mean.shape[-1], "B": self.mean.shape[0]}
        self.base = requests.based(module._SPEC, options.param, sizes)
        self.t1 = options.t1 or requests.T1
        self.times: Any = self.t1 * np.arange(1, options.saves + 1) / options.saves
        self.tile = min(TILE, len(points))
        for point in points:
            for name, value in point.items():
                if not np.isfinite(value):
                    raise RequestError(f"--grid {name}: {value:g} is not a finite number")
        d = self.mean.shape[-1]
        last = " of the last block" if module._SPEC.positional else ""
        self.quantities: Mapping[str, str] = {
            "effective_rank": f"effective rank{last}",
            "entropy": f"entropy of the eigenvalues{last}",
            "mean_norm": f"norm of the mean{last}",
            **{f"eigenvalue_{i + 1}": f"eigenvalue {i + 1}{last}" for i in range(min(d, SHOWN))},
        }
        self.caption = f"tokens in dimension {d}"
        self.identity: Mapping[str, Any] = {
            "start": [self.mean.tolist(), self.cov.tolist()],
            "params": {k: np.asarray(v).tolist() for k, v in self.base.items()},
            "tile": self.tile,
            "t1": self.t1,
            **{k: getattr(options, k) for k in ("saves", "rtol", "dtype")},
        }

    def caution(self, columns: Mapping[str, np.ndarray]) -> str:
        return ""

    def compute(
        self, points: Sequence[Mapping[str, float]], report: Callable[[float], None]
    ) -> dict[str, np.ndarray]:
        tiles = [points[k : k + self.tile] for k in range(0, len(points), self.tile)]
        found = list(on_devices(self._solved, tiles, report))
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _solved(self, points: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
        """Columns of one tile; a short one is filled up, so that its bits are no other's."""
        own = [*points, *[points[-1]] * (self.tile - len(points))]
        params = dict(self.base)
        for name in points[0]:
            base = self.base[name]
            scale = np.array([point[name] for point in own])
            params[name] = scale.reshape(-1, *[1] * np.ndim(base)) * base
        begun = self._integrable(params)
        if not begun.any():  # nothing to solve: every law ends where it starts
            return self._columns(None, begun, len(points))
        good = int(np.argmax(begun))
        for name in points[0]:
            mask = begun.reshape(-1, *[1] * (params[name].ndim - 1))
            params[name] = np.where(mask, params[name], params[name][good])
        moments = self.module.solve(
            np.broadcast_to(self.mean, (self.tile, *self.mean.shape)),
            np.broadcast_to(self.cov, (self.tile, *self.cov.shape)),
            self.module.Params(**params),
            t1=self.t1,
            saves=self.times,
            rtol=self.options.rtol,
            dtype=self.options.dtype,
        )
        return self._columns(moments, begun, len(points))

    def _integrable(self, params: Mapping[str, Any]) -> np.ndarray:
        """Laws whose weight has a Gaussian integral at the start; the others end at time 0."""
        import jax.numpy as jnp

        from derive.runtime.common.precision import precision

        spec = self.module._SPEC
        if spec.margin is None:
            return np.ones(self.tile, bool)
        with precision("float64"):
            margin = spec.margin(
                jnp.broadcast_to(self.mean, (self.tile, *self.mean.shape)),
                jnp.broadcast_to(self.cov, (self.tile, *self.cov.shape)),
                spec.params(**{n: jnp.asarray(x, float) for n, x in params.items()}),
            )
        return np.broadcast_to(np.asarray(margin) > 0, (self.tile,))

    def _columns(self, moments: Any, begun: np.ndarray, kept: int) -> dict[str, np.ndarray]:
        shape = (self.tile, len(self.times))
        d = self.mean.shape[-1]
        mean, cov = np.full((*shape, d), np.nan), np.full((*shape, d, d), np.nan)
        ends = np.zeros(self.tile)
        if moments is not None:
            last = np.s_[..., -1, :] if self.module._SPEC.positional else np.s_[..., :]
            lasts = np.s_[..., -1, :, :] if self.module._SPEC.positional else np.s_[..., :, :]
            mean = np.where(begun[:, None, None], moments.mean[last], np.nan)
            cov = np.where(begun[:, None, None, None], moments.cov[lasts], np.nan)
            ends = np.where(begun, moments.blow_up_time, 0.0)
        values = observables.eigenvalues(cov)[..., ::-1]
        out = {
            "blow_up_time": np.repeat(ends[:, None], shape[1], axis=1),
            "effective_rank": observables.effective_rank(cov),
            "entropy": observables.entropy(cov),
            "mean_norm": np.linalg.norm(mean, axis=-1),
            **{f"eigenvalue_{i + 1}": values[..., i] for i in range(min(d, SHOWN))},
        }
        return {name: x[:kept] for name, x in out.items()}


def _start(file: Path | None, positional: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the tokens of a file (N, d), or (B, N, d) where they have positions;
    by default a correlated law in three dimensions with mean 0."""
    if file is None:
        mean = np.zeros((3, 3) if positional else 3)
        return mean, np.broadcast_to(0.2 + 0.8 * np.eye(3), (*mean.shape, 3)).copy()
    tokens = np.array(requests.stored(f"--tokens {file}", file), float)
    if tokens.ndim != 2 + positional or tokens.shape[-2] < 2:
        wanted = "(B, N, d)" if positional else "(N, d)"
        raise RequestError(f"--tokens {file}: shape {tokens.shape}; wanted {wanted}, N > 1")
    mean = tokens.mean(axis=-2)
    centred = tokens - mean[..., None, :]
    return mean, np.swapaxes(centred, -1, -2) @ centred / tokens.shape[-2]
