"""The interacting-particle system of a closure: dx/dt = velocity of x among all of x, by RK4."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime import closure_inputs, inputs
from derive.runtime.precision import precision
from derive.runtime.progress import Progress, reporter
from derive.runtime.results import Particles

if TYPE_CHECKING:
    from derive.runtime.gaussian_closure import ClosureModel


def particles(
    spec: ClosureModel,
    x0: Any,
    params: Any,
    *,
    t1: float,
    steps: int,
    saves: int = 2,
    dtype: str = "float64",
    progress: bool | None | Progress = None,
) -> Particles:
    """Tokens x0 (..., N, d) moved to time t1 by `steps` equal Runge-Kutta steps of order four.

    `saves`: how many equally spaced times are kept, start and end included; rounded to steps.
    Memory is O(N d).  Leading axes of x0 are independent systems with the same parameters.

    **Returns:** `Particles(times, x)`.  Raises ValueError for shapes that do not match, and if the
    model defines no particle system.
    """
    if spec.particle_velocity is None:
        raise ValueError("this model defines no particle system")
    x = np.asarray(x0, dtype=np.float64)
    if x.ndim < 2 or not x.size:
        raise ValueError(f"x0 must have shape (..., N, d), got {x.shape}")
    if not np.all(np.isfinite(x)):
        raise ValueError("x0 has entries that are not finite")
    steps = inputs.positive_integer("steps", steps)
    if not (np.isfinite(t1) and t1 > 0):
        raise ValueError(f"t1 = {t1} must be a positive time")
    if not isinstance(saves, (int, np.integer)) or not 2 <= saves <= steps + 1:
        raise ValueError(f"saves must be a number from 2 to steps + 1 = {steps + 1}, got {saves!r}")
    values, axes = closure_inputs.parameters(spec, params, {"d": x.shape[-1]}, "x0")
    batched = [name for name, shape in axes.items() if shape]
    if batched:
        raise ValueError(f"particles take one set of parameters; {batched[0]} has batch axes")
    report = reporter(progress, "particles")
    marks = np.round(np.linspace(0, steps, saves)).astype(int)
    with precision(dtype) as kind:
        given = spec.params(**{name: jnp.asarray(v, kind) for name, v in values.items()})
        now = jnp.asarray(x.reshape(-1, *x.shape[-2:]), kind)
        kept = [np.asarray(now)]
        advance = _advancing(spec)
        for done, count in zip(marks[1:], np.diff(marks), strict=True):
            now = advance(now, given, kind.type(t1 / steps), np.int32(count))
            kept.append(np.asarray(now))
            report(done / steps)
    out = np.stack(kept, axis=1).reshape(*x.shape[:-2], saves, *x.shape[-2:])
    return Particles(marks * (t1 / steps), out)


@functools.lru_cache(maxsize=64)
def _advancing(spec: ClosureModel) -> Callable[..., jax.Array]:
    velocity = spec.particle_velocity
    assert velocity is not None

    @jax.jit
    def advance(systems: jax.Array, params: Any, h: jax.Array, steps: jax.Array) -> jax.Array:
        def step(_: Any, x: jax.Array) -> jax.Array:
            k1 = velocity(x, x, params)
            k2 = velocity(*(2 * (x + h / 2 * k1,)), params)
            k3 = velocity(*(2 * (x + h / 2 * k2,)), params)
            k4 = velocity(*(2 * (x + h * k3,)), params)
            return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

        # one system after the other: memory stays that of one
        return jax.lax.map(lambda x: jax.lax.fori_loop(0, steps, step, x), systems)

    return advance
