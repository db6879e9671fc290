"""Ensembles of paths: blocks, save times, state-dependent steps, exits.

A path's step follows its own state; a path that leaves the radius stands still and its exit time
is recorded.  Paths that need many more steps than the others are gathered into smaller blocks on
the host, so that a block never waits for its slowest path.  One key per path: neither the number
of paths, nor the blocking, nor the devices change a path's bits.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common import inputs, memory, numbers
from derive.runtime.common.devices import chosen
from derive.runtime.common.progress import Progress
from derive.runtime.paths.results import Paths
from derive.runtime.paths.sharding import SHARED, along, over_paths
from derive.runtime.paths.specification import CovarianceModel
from derive.runtime.paths.stepping import Layout, make_step

SMALLEST = 64  # paths in the smallest block
SHRINK = 4
EFFECT = 16.0
IMPLEMENTATION = "threefry2x32"  # whatever the user's default: rbg has no key per path


class InFlight(NamedTuple):
    """Paths in flight: state, own time, steps made, exit time, key data (paths, 2).

    Between jitted calls the arrays are NumPy's: gathering stragglers compiles nothing.  The same
    tuple holds for each of them the axis that runs over paths.
    """

    state: Any
    t: Any
    number: Any
    exit: Any
    keys: Any


class Control(NamedTuple):
    """State-dependent steps: h = 1 / (1/dt_max + rate / per_step),
    rate = min(mixing_rate, EFFECT mixing_effect) + 4 volatility."""

    dt_max: float
    per_step: float
    radius: float


class Ask(NamedTuple):
    """Paths first, ..., first + paths - 1 of the ensemble of a seed; where and how precisely."""

    first: int
    paths: int
    seed: int
    dtype: str
    devices: tuple[Any, ...]
    report: Progress


def asked(first: Any, paths: Any, seed: Any, dtype: str, devices: Any, report: Progress) -> Ask:
    """What a user asks for, checked."""
    first, paths = inputs.path_range(first, paths)
    return Ask(first, paths, numbers.seed(seed, dtype), dtype, chosen(devices), report)


def path_keys(seed: int, first: int, count: int) -> np.ndarray:
    """Key data (count, 2) of the paths first, ..., first + count - 1."""
    numbers = np.arange(first, first + count).astype(np.uint32)  # padding may pass 2^32
    return np.asarray(_path_keys(seed, numbers))


@jax.jit
def _path_keys(seed: jax.Array, paths: jax.Array) -> jax.Array:
    root = jax.random.key(seed, impl=IMPLEMENTATION)
    return jax.random.key_data(jax.vmap(lambda k: jax.random.fold_in(root, k))(paths))


@functools.lru_cache(maxsize=64)
def adaptive(
    spec: CovarianceModel, m: int, devices: tuple[Any, ...] = ()
) -> Callable[..., tuple[InFlight, jax.Array]]:
    """Jitted: advance a block to `target`; a device stops when at most `leave` of its paths are
    still under way."""
    layout, step = Layout(m), make_step(spec, m, "network")

    def advance(
        block: InFlight, target: jax.Array, control: Control, params: Any, leave: jax.Array
    ) -> tuple[InFlight, jax.Array]:
        def pending(b: InFlight) -> jax.Array:
            return (b.t < target) & jnp.isinf(b.exit)

        def go(b: InFlight) -> jax.Array:
            return jnp.sum(pending(b)) > leave

        def body(b: InFlight) -> InFlight:
            active = pending(b)
            V = layout.matrix(b.state)
            rate, effect, relative = (
                layout.number(f(V, params, b.t))
                for f in (spec.mixing_rate, spec.mixing_effect, spec.volatility)
            )
            # large coefficients that hardly move the tokens (all of them nearly equal) need not
            # be resolved; NaN is V = 0
            rate = jnp.where(effect > 0, jnp.minimum(rate, EFFECT * effect), 0)
            rate = rate + 4 * jnp.where(relative > 0, relative, 0)
            h = 1 / (1 / control.dt_max + rate / control.per_step)
            left = target - b.t
            last = h * (1 + 1e-6) >= left
            h = jnp.where(active, jnp.where(last, left, h), control.dt_max)
            new, _ = step(
                b.state,
                jax.random.wrap_key_data(b.keys, impl=IMPLEMENTATION),
                b.number,
                h,
                b.t,
                params,
            )
            inside = layout.largest(new) <= control.radius  # False for NaN as well
            t = jnp.where(last, target, b.t + h)
            return InFlight(
                layout.where(active & inside, new, b.state),
                jnp.where(active & inside, t, b.t),
                b.number + active,
                jnp.where(active & ~inside, t, b.exit),
                b.keys,
            )

        block = jax.lax.while_loop(go, body, block)
        return block, pending(block)

    place = _placed(layout)
    return over_paths(advance, devices, (place, SHARED, SHARED, SHARED, SHARED), (place, along(0)))


@functools.lru_cache(maxsize=64)
def fixed(
    spec: CovarianceModel, m: int, scheme: str, devices: tuple[Any, ...] = ()
) -> Callable[..., InFlight]:
    """Jitted: `steps` equal steps of size h for a block of paths."""
    layout, step = Layout(m), make_step(spec, m, scheme)

    def advance(
        block: InFlight, steps: jax.Array, h: jax.Array, control: Control, params: Any
    ) -> InFlight:
        def body(_: jax.Array, b: InFlight) -> InFlight:
            keys = jax.random.wrap_key_data(b.keys, impl=IMPLEMENTATION)
            new, cone = step(b.state, keys, b.number, h, b.t[0], params)
            inside = (layout.largest(new) <= control.radius) & cone
            alive = jnp.isinf(b.exit)
            t = b.t + h
            return InFlight(
                layout.where(alive & inside, new, b.state),
                t,
                b.number + 1,
                jnp.where(alive & ~inside, t, b.exit),
                b.keys,
            )

        return jax.lax.fori_loop(0, steps, body, block)

    place = _placed(layout)
    return over_paths(advance, devices, (place, SHARED, SHARED, SHARED, SHARED), place)


def _placed(layout: Layout) -> InFlight:
    """Which axis of a block's arrays runs over paths."""
    return InFlight(along(layout.path_axis), *[along(0)] * 4)


def start(V0: np.ndarray, seed: int, first: int, count: int, dtype: np.dtype) -> InFlight:
    layout = Layout(V0.shape[-1])
    V = np.broadcast_to(V0.astype(dtype), (count, *V0.shape[-2:]))
    return InFlight(
        layout.pack(V),
        np.zeros(count, dtype),
        np.zeros(count, np.int32),
        np.full(count, np.inf, dtype),
        path_keys(seed, first, count),
    )


def to_target(
    spec: CovarianceModel,
    m: int,
    block: InFlight,
    target: float,
    control: Control,
    params: Any,
    devices: tuple[Any, ...] = (),
) -> InFlight:
    """Advance every path of a block to `target`, gathering stragglers into smaller blocks."""
    shares = max(1, len(devices))
    count = block.t.shape[0] // shares
    small = max(SMALLEST, count // SHRINK)
    leave = small if count > SMALLEST else 0
    small *= shares
    dtype = block.t.dtype.type
    scalars = Control(*(dtype(c) for c in control))
    moved, pending = adaptive(spec, m, devices)(
        block, dtype(target), scalars, params, np.int32(leave)
    )
    block, waiting = InFlight(*map(np.asarray, moved)), np.asarray(pending)
    late = np.flatnonzero(waiting)
    if not len(late):
        return block
    # fill the smaller block with finished copies: they take no steps
    chosen = np.concatenate([late, np.resize(np.flatnonzero(~waiting), small - len(late))])
    axis = Layout(m).path_axis
    part = InFlight(np.take(block.state, chosen, axis=axis), *(x[chosen] for x in block[1:]))
    part = to_target(spec, m, part, target, control, params, devices)
    out = InFlight(*(np.array(x) for x in block))
    place = (slice(None), late) if axis else (late,)
    out.state[place] = np.take(part.state, range(len(late)), axis=axis)
    for old, new in zip(out[1:], part[1:], strict=True):
        old[late] = new[: len(late)]
    return out


def run(
    spec: CovarianceModel,
    V0: np.ndarray,
    params: Any,
    ask: Ask,
    control: Control,
    *,
    times: np.ndarray,
    dt: float | None,
    scheme: str,
    block_size: int,
) -> tuple[np.ndarray, np.ndarray, float]:
    """V (paths, saves, m, m), exit times (paths,), mean steps a path.

    `block_size`: paths that a device holds at a time.
    """
    paths, devices, dtype, m = ask.paths, ask.devices, np.dtype(ask.dtype), V0.shape[-1]
    layout = Layout(m)
    V = np.empty((paths, len(times), m, m), dtype=dtype)
    exits = np.empty(paths, dtype=dtype)
    steps = 0.0
    shares = max(1, len(devices))
    # every block has one size, so that one compilation serves them all
    size = shares * min(block_size, whole_block(-(-paths // shares)))
    for first in range(0, paths, size):
        block = start(V0, ask.seed, ask.first + first, size, dtype)
        kept = min(size, paths - first)
        for position, target in enumerate(times):
            if target > 0:
                before = times[position - 1] if position else 0.0
                if dt is None:
                    block = to_target(spec, m, block, target, control, params, devices)
                else:
                    pieces = max(1, int(np.ceil((target - before) / dt * (1 - 1e-9))))
                    h = dtype.type((target - before) / pieces)
                    advance = fixed(spec, m, scheme, devices)
                    moved = advance(block, np.int32(pieces), h, control, params)
                    block = InFlight(*map(np.asarray, moved))
            V[first : first + kept, position] = layout.unpack(block.state)[:kept]
            ask.report((first + kept * (position + 1) / len(times)) / paths)
        exits[first : first + kept] = np.asarray(block.exit)[:kept]
        steps += float(np.sum(np.asarray(block.number)[:kept], dtype=float))
    return V, exits, steps / paths


STREAM = (
    "take fewer paths or save times, or derive.runtime.paths.stream.stream(module.simulate, ...), "
    "which keeps moments and quantiles of any number of paths and forgets the paths"
)


def require_room(
    paths: int, saves: int, m: int, dtype: str, block: int = 0, normals: int = 0
) -> None:
    """Raise ValueError before the start if the paths asked for cannot be held."""
    size = 4.0 if dtype == "float32" else 8.0
    held = size * paths * saves * m**2
    memory.require(
        {"V at all save times": held, "the paths in flight": size * block * (normals + 6 * m**2)},
        STREAM,
    )


def cautioned(paths: Paths) -> Paths:
    """The same paths, and a warning where a few that have left would make their mean.

    For functions that a generated module calls: the warning names the line that calls the module.
    """
    if said := paths.caution():
        warnings.warn(said, stacklevel=4)
    return paths


def whole_block(paths: int) -> int:
    """Paths in a block that holds so many: a power of two, 16 at least."""
    return max(16, 1 << (paths - 1).bit_length())


def default_block(m: int, normals: int) -> int:
    """Paths in a block: what one step touches should stay in a core's cache."""
    bytes_a_path = 8 * (normals + 6 * m * m)
    return int(np.clip(1 << int(np.log2(2**20 / bytes_a_path)), 128, 8192))
