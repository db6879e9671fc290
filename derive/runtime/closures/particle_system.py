"""The interacting-particle system of a closure: dx/dt = velocity of x among all of x, by RK4."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.closures.results import Particles
from derive.runtime.closures.specification import ClosureModel
from derive.runtime.common import inputs
from derive.runtime.common.numbers import finite
from derive.runtime.common.parameters import parameters
from derive.runtime.common.precision import precision
from derive.runtime.common.progress import Progress, reporter
from derive.runtime.common.pure import no_tracers


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

    Every step carries an estimate of its error, the distance to an embedded formula of order three.
    Where they add up to more than `WORTH_A_WORD` of the tokens' size, a RuntimeWarning names a
    number of steps that would do; where tokens are no numbers any more, it says when.

    **Returns:** `Particles(times, x)`.  Raises ValueError for shapes that do not match, and if the
    model defines no particle system.
    """
    if spec.particle_velocity is None:
        raise ValueError("this model defines no particle system")
    no_tracers("particles", "their velocity can: velocity(x, mean, cov, params)", x0, params, t1)
    x = finite("x0", x0)
    if x.ndim < 2 or not x.size:
        raise ValueError(f"x0 must have shape (..., N, d), got {x.shape}")
    steps = inputs.positive_integer("steps", steps)
    if not (np.isfinite(t1) and t1 > 0):
        raise ValueError(f"t1 = {t1} must be a positive time")
    if not isinstance(saves, (int, np.integer)) or not 2 <= saves <= steps + 1:
        raise ValueError(f"saves must be a number from 2 to steps + 1 = {steps + 1}, got {saves!r}")
    dims = {"d": x.shape[-1]}
    values, axes = parameters(spec.params, spec.param_shapes, params, dims, "x0", spec.ranges)
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
        wrong, lost = 0.0, np.inf
        for done, count in zip(marks[1:], np.diff(marks), strict=True):
            now, error = advance(now, given, kind.type(t1 / steps), np.int32(count))
            kept.append(np.asarray(now))
            wrong += float(np.max(error))
            if not np.isfinite(kept[-1]).all():
                lost = min(lost, done * t1 / steps)
            report(done / steps)
    _warn(wrong, lost, steps, float(np.finfo(kind).eps))
    out = np.stack(kept, axis=1).reshape(*x.shape[:-2], saves, *x.shape[-2:])
    return Particles(marks * (t1 / steps), out)


WORTH_A_WORD = 1e-3  # of the tokens' size
ORDER = 3  # of the embedded formula: its distance to the step falls like the fourth power of h


def _warn(wrong: float, lost: float, steps: int, rounding: float) -> None:
    if np.isfinite(lost) or not np.isfinite(wrong):
        when = f" by t = {lost:.6g}" if np.isfinite(lost) else ""
        text = (
            f"tokens are no numbers any more{when}: {steps} steps are far too few, or the tokens "
            f"blow up; try steps={16 * steps} or a smaller t1"
        )
    elif wrong > max(WORTH_A_WORD, 1e2 * rounding):
        needed = int(np.ceil(2 * steps * (wrong / WORTH_A_WORD) ** (1 / ORDER)))
        text = (
            f"{steps} steps are too few: their estimated errors add up to {wrong:.2g} of the "
            f"tokens' size; steps={needed} would do, if the errors fall as they should"
        )
    else:
        return
    warnings.warn(text, RuntimeWarning, stacklevel=4)


@functools.lru_cache(maxsize=64)
def _advancing(spec: ClosureModel) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Tokens after some steps, and the sum of the estimated relative errors, (systems,)."""
    velocity = spec.particle_velocity
    assert velocity is not None

    @jax.jit
    def advance(
        systems: jax.Array, params: Any, h: jax.Array, steps: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        def step(_: Any, state: Any) -> Any:
            x, k1, wrong = state
            k2 = velocity(*(2 * (x + h / 2 * k1,)), params)
            k3 = velocity(*(2 * (x + h / 2 * k2,)), params)
            k4 = velocity(*(2 * (x + h * k3,)), params)
            new = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            last = velocity(new, new, params)  # the first stage of the next step
            # x + h/6 (k1 + 2 k2 + 2 k3 + last) has order three
            gap = jnp.max(jnp.abs(h / 6 * (k4 - last)))
            return new, last, wrong + gap / (jnp.max(jnp.abs(new)) + jnp.finfo(x.dtype).tiny)

        def run(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            start = (x, velocity(x, x, params), jnp.zeros((), x.dtype))
            out, _, wrong = jax.lax.fori_loop(0, steps, step, start)
            return out, wrong

        # one system after the other: memory stays that of one
        return jax.lax.map(run, systems)

    return advance
