"""The flow of a Gaussian closure as a pure function of start and parameters, for JAX to transform.

Fixed steps of the classical Runge-Kutta scheme, no check of values: what `solve` does around it
(step control, blow-up, margins) is left to the caller, so that jit, vmap and grad go through.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from derive.runtime.closures.specification import ClosureModel
from derive.runtime.closures.state import own_rate_of_one
from derive.runtime.common.adaptive import State
from derive.runtime.common.factor import psd_factor
from derive.runtime.common.pure import real, whole
from derive.runtime.common.records import by_name


def flow(
    spec: ClosureModel, mean0: Any, cov0: Any, params: Any, *, t1: Any, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Means and covariances at 0, h, ..., t1, h = t1 / steps; see a generated module's `flow`."""
    mean, cov = real(mean0, "mean0"), real(cov0, "cov0")
    rank = 2 if spec.positional else 1
    if mean.ndim != rank or cov.shape != (*mean.shape, mean.shape[-1]):
        raise ValueError(
            f"mean0 has shape {mean.shape} and cov0 {cov.shape}, not those of one law; map over "
            "several: jax.vmap(lambda mean, cov: flow(mean, cov, params, t1=t1, steps=steps))"
        )
    given = by_name(spec.params, params)
    params = spec.params(*(jnp.asarray(value, cov.dtype) for value in given))
    h = jnp.asarray(t1, cov.dtype) / whole(steps)
    # without noise the factor is integrated: what it gives is positive semi-definite
    start: State = (mean, cov if spec.noise is not None else psd_factor(cov)[0])

    def rate(state: State) -> State:
        return own_rate_of_one(spec, state, params)

    def moved(state: State, by: Any, slope: State) -> State:
        return jax.tree.map(lambda x, dx: x + by * dx, state, slope)

    def step(state: State, _: Any) -> tuple[State, State]:
        one = rate(state)
        two = rate(moved(state, h / 2, one))
        three = rate(moved(state, h / 2, two))
        four = rate(moved(state, h, three))
        slope = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, one, two, three, four)
        new = moved(state, h, slope)
        return new, new

    _, found = jax.lax.scan(step, start, length=steps)
    means, seconds = (jnp.concatenate([a[None], b]) for a, b in zip(start, found, strict=True))
    return means, seconds if spec.noise is not None else seconds @ seconds.mT
