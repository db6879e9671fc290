"""What every generated covariance-SDE module is bound to: its specification and the entry points.

Imports jax and numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common import inputs, numbers
from derive.runtime.common.factor import psd_factor
from derive.runtime.common.precision import precision
from derive.runtime.common.progress import Progress, reporter
from derive.runtime.common.pure import no_tracers
from derive.runtime.paths import ensemble
from derive.runtime.paths.at_width import corrected
from derive.runtime.paths.blocks import Block, gaussian_blocks, smallest_width, total
from derive.runtime.paths.diffrax_terms import terms
from derive.runtime.paths.networks import network, reduced_network
from derive.runtime.paths.pure import normals, path
from derive.runtime.paths.results import Paths
from derive.runtime.paths.specification import EXIT_RADIUS, AtWidth, CovarianceModel
from derive.runtime.paths.stepping import largest_step

__all__ = [
    "AtWidth",
    "Block",
    "CovarianceModel",
    "network",
    "noise",
    "normals",
    "path",
    "reduced_network",
    "simulate",
    "terms",
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
    exit_radius: float = EXIT_RADIUS,
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
    no_tracers("simulate", "path(key, V0, params, t1=, steps=) can", V0, params, t1)
    V = inputs.covariance(V0)
    m = V.shape[0]
    params = inputs.parameters(params, spec.params, spec.ranges, numbers.number("t1", t1))
    inputs.start(V, spec.unit_rows, spec.width, inputs.value_of(params, spec.width, None))
    times = inputs.times(saves, t1)
    t1 = float(t1)
    ask = ensemble.asked(first, paths, seed, dtype, devices, reporter(progress, "simulate"))
    if width is not None:
        spec, params = corrected(spec, V, params, width, t1)
    dt = _fixed_step(spec, V, params, scheme, dt, t1)
    dt_max = t1 / 32 if dt_max is None else numbers.positive("dt_max", dt_max)
    control = ensemble.Control(
        min(dt_max, largest_step(spec, m)),
        numbers.positive("per_step", per_step),
        numbers.radius(exit_radius, V),
    )
    size = _block_size(spec, m, ask.paths, len(times), block_size, dtype)
    with precision(dtype) as kind:
        arrays = spec.params(*(jnp.asarray(p, kind) for p in params))
        found = ensemble.run(
            spec, V, arrays, ask, control, times=times, dt=dt, scheme=scheme, block_size=size
        )
    return ensemble.cautioned(Paths(times, *found[:2]))


def _fixed_step(
    spec: CovarianceModel, V: np.ndarray, params: Any, scheme: str, dt: Any, t1: float
) -> float | None:
    """dt as a number that this scheme can take; None where the step follows the state."""
    if scheme not in ("network", "euler"):
        raise ValueError(f'scheme must be "network" or "euler", got {scheme!r}')
    if scheme == "network" and spec.step_layer is None:
        raise ValueError('this model has no network-shaped step; use scheme="euler" with a dt')
    if scheme == "euler" and dt is None:
        raise ValueError("Euler's scheme takes fixed steps: pass dt")
    if dt is None:
        return None
    dt = numbers.number("dt", dt)
    if not 0 < dt <= t1:
        raise ValueError(f"dt = {dt} must lie in (0, t1 = {t1:g}]")
    if scheme == "network":
        _require_stable(spec, V, params, dt, len(V))
    return float(dt)


def _block_size(
    spec: CovarianceModel, m: int, paths: int, saves: int, given: int | None, dtype: str
) -> int:
    """Paths that a device holds at a time; raises where the ensemble does not fit into memory."""
    normals, all_ = total(spec.step_blocks, m), ensemble.whole_block(paths)
    size = min(ensemble.default_block(m, normals), all_)
    if given is not None:
        size = inputs.positive_integer("block_size", given)
    ensemble.require_room(paths, saves, m, dtype, min(size, all_), normals)
    return size


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
