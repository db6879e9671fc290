"""Paths of a covariance SDE as a pure function of key, start and parameters, for JAX to transform.

Fixed steps, no exit radius, no check of values: what `simulate` does around it is left to the
caller, so that jit, vmap, grad and sharding go through.  An Euler step that leaves the cone of
positive semi-definite matrices, where the equation ends, gives nan from there on.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from derive.runtime.common.factor import psd_factor
from derive.runtime.common.pure import real, whole
from derive.runtime.common.records import by_name
from derive.runtime.paths.blocks import Block, gaussian_blocks, smallest_width, total
from derive.runtime.paths.specification import CovarianceModel
from derive.runtime.paths.stepping import width_dims


def path(
    spec: CovarianceModel,
    key: jax.Array,
    V0: Any,
    params: Any,
    *,
    t1: Any,
    steps: int,
    scheme: str = "",
) -> jax.Array:
    """V at 0, h, ..., t1 (steps + 1, m, m), h = t1 / steps; see a generated module's `path`."""
    V = real(V0, "V0")
    if V.ndim != 2 or V.shape[0] != V.shape[1]:
        raise ValueError(
            f"V0 has shape {V.shape}, not (m, m); map over several starts: "
            "jax.vmap(lambda key, V0: path(key, V0, params, t1=t1, steps=steps))(keys, V0)"
        )
    scheme = scheme or ("euler" if spec.step_layer is None else "network")
    if scheme not in ("network", "euler") or (scheme == "network" and spec.step_layer is None):
        raise ValueError(
            f'scheme must be "euler" or, where there is one, "network"; got {scheme!r}'
        )
    params = arrays(spec, params, V.dtype)
    h = jnp.asarray(t1, V.dtype) / whole(steps)
    _require_roots(spec, scheme, t1, steps, V.shape[0])
    one = partial(_network if scheme == "network" else _euler, spec, h, params)
    laws = spec.step_blocks if scheme == "network" else fields(spec)
    size = total(laws, V.shape[0])

    def factored(V: jax.Array) -> tuple[jax.Array, jax.Array]:
        V = (V + V.mT) / 2
        L, inside = psd_factor(V)
        return V if scheme == "network" else jnp.where(inside, V, jnp.nan), L

    def step(state: tuple[jax.Array, jax.Array], number: jax.Array) -> tuple[Any, jax.Array]:
        z = jax.random.normal(jax.random.fold_in(key, number), (size,), V.dtype)
        new = factored(one(*state, z, number * h))
        return new, new[0]

    start = factored(V)
    _, found = jax.lax.scan(step, start, jnp.arange(steps))
    return jnp.concatenate([start[0][None], found])


def normals(spec: CovarianceModel, m: int) -> int:
    """How many independent Brownian motions drive m tokens."""
    return total(fields(spec), m)


def fields(spec: CovarianceModel) -> dict[str, Block]:
    return {name: Block(kind) for name, kind in spec.noise_fields.items()}


def _network(spec: CovarianceModel, h: Any, params: Any, V: Any, L: Any, z: Any, t: Any) -> Any:
    assert spec.step_layer is not None
    dims = width_dims(spec, 1 / h, params)
    blocks = gaussian_blocks(spec.step_blocks, z, V.shape[0], dims._asdict(), tiles=False)
    return spec.step_layer(L, blocks, params, dims, t)


def _euler(spec: CovarianceModel, h: Any, params: Any, V: Any, L: Any, z: Any, t: Any) -> Any:
    drawn = gaussian_blocks(fields(spec), z, V.shape[0], {}, tiles=False)
    return V + h * spec.drift(V, params, t) + jnp.sqrt(h) * spec.noise_from(L, V, drawn, params, t)


def arrays(spec: CovarianceModel, params: Any, dtype: Any) -> Any:
    """Parameters as arrays of the state's precision; what depends on depth as a table."""
    given = by_name(spec.params, params)
    if not isinstance(given, tuple) or len(given) != len(spec.params._fields):
        names = ", ".join(f"{n}=..." for n in spec.params._fields)
        raise ValueError(f"pass Params({names}), got {params!r}")
    for name, value in zip(spec.params._fields, given, strict=True):
        if callable(value):
            raise ValueError(
                f"{name} is a function; a pure path takes it as a table of times and values (2, k)"
            )
    return spec.params(*(jnp.asarray(value, dtype) for value in given))


def _require_roots(spec: CovarianceModel, scheme: str, t1: Any, steps: int, m: int) -> None:
    """The layer-shaped step does not exist beyond a size, which is known before tracing alone."""
    if scheme != "network" or isinstance(t1, jax.core.Tracer):
        return
    least = smallest_width(spec.step_blocks, m)
    if steps <= least * float(t1):
        raise ValueError(
            f"{steps} steps to t1 = {float(t1):g} are too few at m = {m}: the layer-shaped step "
            f"needs more than {least * float(t1):.4g}"
        )
