"""What every generated Gaussian closure is bound to: specification and entry points.

`solve` integrates mean and covariance of Gaussian laws; `particles` runs the interacting-particle
system that the closure describes.  Imports jax and numpy alone.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.closures import inputs as closure_inputs
from derive.runtime.closures.particle_system import particles
from derive.runtime.closures.pure import flow
from derive.runtime.closures.results import Moments, Particles
from derive.runtime.closures.solver import advancing, starting
from derive.runtime.closures.specification import ClosureModel
from derive.runtime.common import inputs
from derive.runtime.common.adaptive import (
    BLOW_UP,
    MARGIN,
    OVERFLOW,
    RUNNING,
    STEP_LIMIT,
    STIFF,
    Control,
    Flight,
)
from derive.runtime.common.lane_blocks import Task, lanes_that_fit, launch, put, take, to_target
from derive.runtime.common.precision import precision
from derive.runtime.common.progress import Progress, reporter
from derive.runtime.common.pure import no_tracers

__all__ = ["ClosureModel", "Moments", "Particles", "flow", "particles", "solve"]


def solve(
    spec: ClosureModel,
    mean0: Any,
    cov0: Any,
    params: Any,
    *,
    t1: float,
    saves: Any = None,
    rtol: float = 1e-8,
    atol: float | None = None,
    method: str = "auto",
    max_steps: int = 100_000,
    dtype: str = "float64",
    progress: bool | None | Progress = None,
) -> Moments:
    """Mean and covariance of the closure from (mean0, cov0), to time t1.

    **Arguments:** `mean0` (..., d), `cov0` (..., d, d) positive semi-definite, singular legal;
    parameters may carry leading batch axes too; all of them broadcast.  `saves`: increasing times
    in [0, t1], or their number (None: 0 and t1).  `rtol`, `atol`: allowed error of a step, per
    entry of the mean and of the factor of the covariance (rtol at least 8 roundings of the
    dtype; default atol: 1e-3 rtol times the root mean square of mean0 and factor).  `method`:
    "explicit" (5th order), "stiff" (4th order, L-stable), or "auto", explicit until a law turns
    out stiff.

    **Returns:** `Moments`.  A law whose solution ends before t1 (blow-up, or the Gaussian integral
    of its weight diverges) keeps what was saved before, has nan after, and its time in
    `blow_up_time`; anything but a blow-up is also warned of.  Its `quadrature_error` holds the
    estimated error of quadratures in the rates, where they have no closed form.

    Raises ValueError for shapes that do not match, a cov0 that is not positive semi-definite, and
    a law for which the Gaussian integral of the weight diverges at the start.
    """
    if method not in ("auto", "explicit", "stiff"):
        raise ValueError(f'method must be "auto", "explicit" or "stiff", got {method!r}')
    no_tracers("solve", "flow(mean0, cov0, params, t1=, steps=) can", mean0, cov0, params, t1)
    times = inputs.times(saves, t1)
    laws = closure_inputs.laws(spec, mean0, cov0, params)
    inputs.positive_integer("max_steps", max_steps)
    if not 0 < rtol < 1:
        raise ValueError(f"rtol = {rtol:g} must lie in (0, 1)")
    if atol is not None and not atol > 0:
        raise ValueError(f"atol = {atol:g} must be positive")
    with precision(dtype) as kind:
        _require_integrable(spec, laws, kind)
        flight, saved = _integrate(
            spec,
            laws,
            times,
            float(t1),
            max(rtol, 8 * float(np.finfo(kind).eps)),
            atol,
            method,
            max_steps,
            kind,
            reporter(progress, "solve"),
        )
        moments = _moments(spec, laws, times, flight, saved)
        wrong = _quadrature_error(spec, laws, moments, kind)
    _warn(flight, wrong, rtol)
    return moments._replace(quadrature_error=wrong)


def _quadrature_error(
    spec: ClosureModel, laws: closure_inputs.Laws, moments: Moments, kind: np.dtype
) -> np.ndarray:
    """Largest relative error of the rates' quadratures over the saves of each law, (*lead,)."""
    out = np.zeros(laws.lead)
    if spec.rate_error is None:
        return out
    own = 2 if spec.positional else 1
    run = _error_of_laws(spec, laws.batched)
    kept = {n: jnp.asarray(x, kind) for n, x in laws.params.items() if n not in laws.batched}
    mine = {
        n: x.reshape(-1, *x.shape[len(laws.lead) :])
        for n, x in laws.params.items()
        if n in laws.batched
    }
    wrong = out.reshape(-1)
    for save in range(len(moments.times)):
        mean = np.take(moments.mean, save, axis=-own - 1).reshape(wrong.size, -1)
        good = np.flatnonzero(np.isfinite(mean).all(axis=1))
        mean = mean.reshape(wrong.size, *laws.mean.shape[len(laws.lead) :])
        cov = np.take(moments.cov, save, axis=-own - 2)
        cov = cov.reshape(wrong.size, *laws.cov.shape[len(laws.lead) :])
        for first in range(0, len(good), LAWS_AT_ONCE):
            chosen = good[first : first + LAWS_AT_ONCE]
            # a short block is filled up, so that one compilation serves all
            size = min(LAWS_AT_ONCE, wrong.size)
            filled = np.concatenate([chosen, np.full(size - len(chosen), chosen[0])])
            part = {n: jnp.asarray(x[filled], kind) for n, x in mine.items()}
            found = np.asarray(
                run(jnp.asarray(mean[filled], kind), jnp.asarray(cov[filled], kind), part, kept)
            )[: len(chosen)]
            wrong[chosen] = np.maximum(wrong[chosen], found.reshape(len(chosen), -1).max(axis=1))
    return wrong.reshape(laws.lead)


LAWS_AT_ONCE = 256
WORTH_A_WORD = 1e-6


@functools.lru_cache(maxsize=64)
def _error_of_laws(spec: ClosureModel, batched: frozenset[str]) -> Callable[..., Any]:
    assert spec.rate_error is not None
    rate_error = spec.rate_error

    def one(mean: Any, cov: Any, mine: Any, shared: Any) -> Any:
        return rate_error(mean, cov, spec.params(**mine, **shared))

    return jax.jit(jax.vmap(one, in_axes=(0, 0, 0, None)))


def _require_integrable(spec: ClosureModel, laws: closure_inputs.Laws, kind: np.dtype) -> None:
    if spec.margin is None:
        return
    params = spec.params(**{n: jnp.asarray(x, kind) for n, x in laws.params.items()})
    margin = np.asarray(
        spec.margin(jnp.asarray(laws.mean, kind), jnp.asarray(laws.cov, kind), params)
    )
    if np.all(margin > 0):
        return
    where = np.unravel_index(np.argmin(margin), margin.shape)
    place = f" of law [{', '.join(str(int(i)) for i in where)}]" if where else ""
    raise ValueError(
        f"the Gaussian integral of the weight diverges for cov0{place}: {spec.condition} must be "
        f"positive definite, and its smallest eigenvalue is {float(margin[where]):.3g}; take a "
        "smaller covariance or a weaker weight"
    )


Saved = list[tuple[np.ndarray, ...]]


def _lanes_last(x: np.ndarray, lead: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    flat = x.reshape(-1, *x.shape[len(lead) :])
    return np.ascontiguousarray(np.moveaxis(flat, 0, -1), dtype=kind)


def _lanes_first(x: np.ndarray, lead: tuple[int, ...]) -> np.ndarray:
    """(saves, ..., lanes) to (*lead, saves, ...)."""
    return np.moveaxis(x, -1, 0).reshape(*lead, *x.shape[:-1])


def _integrate(
    spec: ClosureModel,
    laws: closure_inputs.Laws,
    times: np.ndarray,
    t1: float,
    rtol: float,
    atol: float | None,
    method: str,
    max_steps: int,
    kind: np.dtype,
    report: Progress,
) -> tuple[Flight, Saved]:
    """All lanes at the end, and the states at the save times (nan for lanes that ended)."""
    mean = _lanes_last(laws.mean, laws.lead, kind)
    second = laws.cov if spec.noise is not None else closure_inputs.factor(laws.cov)
    state: Any = (mean, _lanes_last(second, laws.lead, kind))
    shared = {n: x.astype(kind) for n, x in laws.params.items() if n not in laws.batched}
    per_lane = {n: _lanes_last(laws.params[n], laws.lead, kind) for n in sorted(laws.batched)}
    allowed = _allowed(state, rtol, atol)
    now = "explicit" if method == "auto" and spec.noise is not None else method
    task = _task(spec, now, state, (per_lane, shared), allowed, Control(rtol, max_steps, t1))
    flight = launch(task, state, 0.0)
    saved: Saved = []
    targets = [*times, t1] if times[-1] < t1 else list(times)
    for number, target in enumerate(targets):
        share = lambda x, n=number: report((n + x) / len(targets))  # noqa: E731
        to_target(task, flight, target, share)
        _stiff_lanes(spec, task, flight, target)
        there = np.isin(flight.status, (RUNNING, STIFF)) & (flight.t >= target)
        if number < len(times):
            saved.append(tuple(np.where(there, x, np.nan) for x in flight.state))
        share(1.0)
    return flight, saved


def _task(
    spec: ClosureModel, method: str, state: Any, params: Any, allowed: np.ndarray, control: Control
) -> Task:
    numbers = sum(x[..., 0].size for x in state)
    touched = numbers * (16 if method != "stiff" else 8 + 2 * numbers)
    block = lanes_that_fit(touched, len(allowed))
    start, advance = starting(spec, method), advancing(spec, method)
    return Task(start, advance, params, allowed, control, block)


def _allowed(state: Any, rtol: float, atol: float | None) -> np.ndarray:
    """Absolute tolerance by lane."""
    kind, lanes = state[0].dtype, state[0].shape[-1]
    if atol is not None:
        return np.full(lanes, atol, kind)
    square = sum((x.astype(float) ** 2).sum(axis=tuple(range(x.ndim - 1))) for x in state)
    size = np.sqrt(square / sum(x[..., 0].size for x in state))
    return (1e-3 * rtol * np.where(size > 0, size, 1)).astype(kind)


def _stiff_lanes(spec: ClosureModel, task: Task, flight: Flight, target: float) -> None:
    """Advance the lanes marked stiff by the implicit method; they stay marked."""
    chosen = np.flatnonzero((flight.status == STIFF) & (flight.t < target))
    if not len(chosen):
        return
    state, params = take(flight.state, chosen), task.of(chosen)
    mine = _task(spec, "stiff", state, params, task.atol[chosen], task.control)
    part = launch(mine, state, flight.t[chosen])
    for name in ("h", "steps"):
        getattr(part, name)[:] = getattr(flight, name)[chosen]
    to_target(mine, part, target, lambda share: None)
    part.status[:] = np.where(part.status == RUNNING, STIFF, part.status)
    for name in ("state", "t", "h", "steps", "status", "stop"):
        put(getattr(flight, name), chosen, getattr(part, name))


def _moments(
    spec: ClosureModel,
    laws: closure_inputs.Laws,
    times: np.ndarray,
    flight: Flight,
    saved: Saved,
) -> Moments:
    mean, second = (_lanes_first(np.stack([s[i] for s in saved]), laws.lead) for i in range(2))
    if spec.noise is None:
        factor, cov = second, second @ np.swapaxes(second, -1, -2)
    else:
        cov = second
        good = np.isfinite(cov).all(axis=(-1, -2), keepdims=True)
        factor = np.where(good, closure_inputs.factor(np.where(good, cov, 0)), np.nan)
    status = flight.status
    end = np.full(status.shape, np.inf)
    ended = np.isin(status, (BLOW_UP, MARGIN))
    end[ended] = flight.stop[ended]
    end[status == STEP_LIMIT] = np.nan
    return Moments(times, mean, cov, factor, end.reshape(laws.lead))


def _warn(flight: Flight, wrong: np.ndarray, rtol: float) -> None:
    texts = {
        MARGIN: "the step size went to zero short of a blow-up: the Gaussian integral of the "
        "weight stops to converge there; `blow_up_time` holds that time",
        OVERFLOW: "an overflow of the floating-point numbers, not a blow-up: mean, covariance or "
        "their rates are beyond what the dtype holds, or the rates have no value there; "
        "`blow_up_time` stays inf and the saves after it are nan; integrate to a smaller t1, or "
        "take weaker parameters",
        STEP_LIMIT: "max_steps was reached; blow_up_time is nan; raise max_steps or rtol, or try "
        'method="stiff"',
    }
    for status, text in texts.items():
        hit = flight.status == status
        if np.any(hit):
            first = float(np.nanmin(flight.stop[hit]))
            warnings.warn(
                f"{int(hit.sum())} of {hit.size} laws ended at t = {first:.6g} or later: {text}",
                RuntimeWarning,
                stacklevel=4,
            )
    if np.any(wrong > max(WORTH_A_WORD, rtol)):
        warnings.warn(
            f"the quadrature of the rates has relative errors up to {wrong.max():.1g} "
            "(estimated; `quadrature_error` holds them law by law), which the tolerance of the "
            "steps does not cover",
            RuntimeWarning,
            stacklevel=4,
        )
