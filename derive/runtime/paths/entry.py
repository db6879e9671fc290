"""What every generated covariance-SDE module is bound to: its specification and the entry points.

Imports jax and numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common import inputs, numbers
from derive.runtime.common.factor import psd_factor
from derive.runtime.common.precision import precision
from derive.runtime.common.progress import Progress, reporter
from derive.runtime.paths import ensemble, networks
from derive.runtime.paths.at_width import corrected
from derive.runtime.paths.blocks import Block, gaussian_blocks, smallest_width, total
from derive.runtime.paths.results import Paths
from derive.runtime.paths.sharding import chosen
from derive.runtime.paths.specification import AtWidth, CovarianceModel
from derive.runtime.paths.stepping import largest_step

__all__ = [
    "AtWidth",
    "Block",
    "CovarianceModel",
    "network",
    "noise",
    "reduced_network",
    "simulate",
]


def noise(spec: CovarianceModel, key: jax.Array, V: jax.Array, params: Any, t: Any) -> jax.Array:
    """One draw with covariance `diffusion(V, params, t)`; V (..., m, m)."""
    m = V.shape[-1]
    laws = {name: Block(kind) for name, kind in spec.noise_fields.items()}
    z = jax.random.normal(key, (*V.shape[:-2], total(laws, m)), V.dtype)
    L, _ = psd_factor(V)
    return spec.noise_from(L, V, gaussian_blocks(laws, z, m, {}, tiles=False), params, t)


def simulate(
    spec: CovarianceModel,
    V0: Any,
    params: Any,
    *,
    t1: float,
    paths: int,
    seed: int,
    dt: float | None = None,
    saves: Any = None,
    exit_radius: float = 1e8,
    dtype: str = "float64",
    progress: bool | None | Progress = None,
    scheme: str = "network",
    dt_max: float | None = None,
    per_step: float = 1 / 24,
    block_size: int | None = None,
    first: int = 0,
    devices: Sequence[Any] | None = None,
    width: int | None = None,
) -> Paths:
    """Paths of the SDE; see a generated module's `simulate`.

    **Arguments:** `scheme`: "network", the step shaped like a layer (positive semi-definite by
    construction), or "euler" (fixed steps only; a path that leaves the cone exits).  `dt_max`
    (default t1 / 32) and `per_step` set the state-dependent step: in one step the mixing
    coefficients gain at most the variance `per_step`, and log V at most half of it.  `first`: the
    paths are those numbered first, ..., first + paths - 1 of the ensemble of this seed; `devices`:
    those of this process by default.  `block_size`: paths that a device holds at a time.
    `width`: the SDE with its first correction for a network of that width, where there is one.
    """
    V = inputs.covariance(V0)
    m = V.shape[0]
    params = inputs.parameters(params, spec.params, spec.ranges, numbers.number("t1", t1))
    inputs.start(V, spec.unit_rows, spec.width, inputs.value_of(params, spec.width, None))
    times = inputs.times(saves, t1)
    t1 = float(t1)
    first, paths = inputs.path_range(first, paths)
    seed = numbers.seed(seed, dtype)
    if width is not None:
        spec, params = corrected(spec, V, params, width, t1)
    if scheme not in ("network", "euler"):
        raise ValueError(f'scheme must be "network" or "euler", got {scheme!r}')
    if scheme == "network" and spec.step_layer is None:
        raise ValueError('this model has no network-shaped step; use scheme="euler" with a dt')
    if scheme == "euler" and dt is None:
        raise ValueError("Euler's scheme takes fixed steps: pass dt")
    exit_radius = numbers.radius(exit_radius, V)
    per_step = numbers.positive("per_step", per_step)
    bound = largest_step(spec, m)
    dt = None if dt is None else numbers.number("dt", dt)
    if dt is not None and not 0 < dt <= t1:
        raise ValueError(f"dt = {dt} must lie in (0, t1 = {t1:g}]")
    if dt is not None and scheme == "network":
        _require_stable(spec, V, params, dt, m)
    dt_max = min(t1 / 32 if dt_max is None else numbers.positive("dt_max", dt_max), bound)
    normals = total(spec.step_blocks, m)
    size = min(ensemble.default_block(m, normals), ensemble._padded(paths))
    if block_size is not None:
        size = inputs.positive_integer("block_size", block_size)
    ensemble.require_room(paths, len(times), m, dtype, min(size, ensemble._padded(paths)), normals)
    with precision(dtype) as kind:
        arrays = spec.params(*(jnp.asarray(p, kind) for p in params))
        V_all, exits, _ = ensemble.run(
            spec,
            V,
            arrays,
            times=times,
            paths=paths,
            seed=seed,
            dt=dt,
            scheme=scheme,
            control=ensemble.Control(dt_max, per_step, exit_radius),
            block_size=size,
            dtype=kind,
            report=reporter(progress, "simulate"),
            first_path=first,
            devices=chosen(devices),
        )
    return ensemble.cautioned(Paths(times, V_all, exits))


def _require_stable(spec: CovarianceModel, V: np.ndarray, params: Any, dt: float, m: int) -> None:
    """Refuse a fixed step at which the layer-shaped step does not exist or overshoots at once."""
    least = smallest_width(spec.step_blocks, m)
    good = largest_step(spec, m)
    with precision("float64"):
        rate = float(spec.mixing_rate(jnp.asarray(V), params))
    if rate > 0:
        good = min(good, 1 / (1 / good + rate / 0.5))
    if 1 / dt <= least or dt * rate > 4:
        raise ValueError(
            f"dt = {dt:g} is too large for these parameters and m = {m}: the mixing coefficients "
            f"move at rate {rate:.3g} and a step needs 1/dt > {least:.3g}; dt = {good:.2g} "
            "would do, or leave dt out: then the step follows the state"
        )


def network(
    spec: CovarianceModel,
    V0: Any = None,
    params: Any = None,
    *,
    width: int,
    depth: int,
    dims: Mapping[str, int] | None = None,
    paths: int,
    seed: int,
    X0: Any = None,
    saves: Any = None,
    exit_radius: float = 1e8,
    dtype: str = "float64",
    progress: bool | None | Progress = None,
    first: int = 0,
    devices: Sequence[Any] | None = None,
) -> Paths:
    """The literal network with dense weights; `X0` (m, width) may be given instead of V0."""
    return networks.dense(
        spec,
        V0,
        params,
        width,
        depth,
        dims,
        paths,
        seed,
        X0,
        saves,
        exit_radius,
        dtype,
        reporter(progress, "network"),
        first,
        chosen(devices),
    )


def reduced_network(
    spec: CovarianceModel,
    V0: Any,
    params: Any,
    *,
    width: int,
    depth: int,
    dims: Mapping[str, int] | None = None,
    paths: int,
    seed: int,
    saves: Any = None,
    exit_radius: float = 1e8,
    dtype: str = "float64",
    progress: bool | None | Progress = None,
    first: int = 0,
    devices: Sequence[Any] | None = None,
) -> Paths:
    """The same law on m x m blocks."""
    return networks.reduced(
        spec,
        V0,
        params,
        width,
        depth,
        dims,
        paths,
        seed,
        saves,
        exit_radius,
        dtype,
        reporter(progress, "reduced network"),
        first,
        chosen(devices),
    )
