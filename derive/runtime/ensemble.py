"""Ensembles of paths: blocks, save times, state-dependent steps, exits.

A path's step follows its own state; a path that leaves the radius stands still and its exit time
is recorded.  Paths that need many more steps than the others are gathered into smaller blocks on
the host, so that a block never waits for its slowest path.  One key per path: neither the number
of paths nor the blocking changes a path's bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.progress import Progress
from derive.runtime.stepping import Layout, make_step

if TYPE_CHECKING:
    from derive.runtime.covariance_sde import CovarianceModel

SMALLEST = 64  # paths in the smallest block
SHRINK = 4


class Block(NamedTuple):
    """Paths in flight: state, own time, steps made, exit time, keys."""

    state: jax.Array
    t: jax.Array
    number: jax.Array
    exit: jax.Array
    keys: jax.Array


class Control(NamedTuple):
    """h = 1 / (1/dt_max + (mixing_rate + 2 volatility) / per_step) for state-dependent steps."""

    dt_max: float
    per_step: float
    radius: float


def path_keys(seed: int, first: int, count: int) -> jax.Array:
    """Keys of the paths first, ..., first + count - 1."""
    root = jax.random.key(seed)
    return jax.vmap(lambda k: jax.random.fold_in(root, k))(jnp.arange(first, first + count))


@functools.lru_cache(maxsize=64)
def adaptive(spec: CovarianceModel, m: int) -> Callable[..., tuple[Block, jax.Array]]:
    """Jitted: advance a block to `target`; stops when at most `leave` paths are still under way."""
    layout, step = Layout(m), make_step(spec, m, "network")

    @jax.jit
    def advance(
        block: Block, target: jax.Array, control: Control, params: Any, leave: jax.Array
    ) -> tuple[Block, jax.Array]:
        def pending(b: Block) -> jax.Array:
            return (b.t < target) & jnp.isinf(b.exit)

        def go(b: Block) -> jax.Array:
            return jnp.sum(pending(b)) > leave

        def body(b: Block) -> Block:
            active = pending(b)
            V = layout.matrix(b.state)
            rate = layout.number(spec.mixing_rate(V, params, b.t))
            relative = layout.number(spec.volatility(V, params, b.t))
            rate = rate + 2 * jnp.where(jnp.isfinite(relative), relative, 0)
            h = 1 / (1 / control.dt_max + rate / control.per_step)
            left = target - b.t
            last = h * (1 + 1e-6) >= left
            h = jnp.where(active, jnp.where(last, left, h), control.dt_max)
            new, _ = step(b.state, b.keys, b.number, h, b.t, params)
            inside = layout.largest(new) <= control.radius  # False for NaN as well
            t = jnp.where(last, target, b.t + h)
            return Block(
                layout.where(active & inside, new, b.state),
                jnp.where(active & inside, t, b.t),
                b.number + active,
                jnp.where(active & ~inside, t, b.exit),
                b.keys,
            )

        block = jax.lax.while_loop(go, body, block)
        return block, pending(block)

    return advance


@functools.lru_cache(maxsize=64)
def fixed(spec: CovarianceModel, m: int, scheme: str) -> Callable[..., Block]:
    """Jitted: `steps` equal steps of size h for a block of paths."""
    layout, step = Layout(m), make_step(spec, m, scheme)

    @jax.jit
    def advance(
        block: Block, steps: jax.Array, h: jax.Array, control: Control, params: Any
    ) -> Block:
        def body(_: jax.Array, b: Block) -> Block:
            new, cone = step(b.state, b.keys, b.number, h, b.t[0], params)
            inside = (layout.largest(new) <= control.radius) & cone
            alive = jnp.isinf(b.exit)
            t = b.t + h
            return Block(
                layout.where(alive & inside, new, b.state),
                t,
                b.number + 1,
                jnp.where(alive & ~inside, t, b.exit),
                b.keys,
            )

        return jax.lax.fori_loop(0, steps, body, block)

    return advance


def start(V0: np.ndarray, seed: int, first: int, count: int, dtype: np.dtype) -> Block:
    layout = Layout(V0.shape[-1])
    V = np.broadcast_to(V0.astype(dtype), (count, *V0.shape[-2:]))
    return Block(
        layout.pack(V),
        jnp.zeros(count, dtype),
        jnp.zeros(count, jnp.int32),
        jnp.full(count, jnp.inf, dtype),
        path_keys(seed, first, count),
    )


def to_target(
    spec: CovarianceModel, m: int, block: Block, target: float, control: Control, params: Any
) -> Block:
    """Advance every path of a block to `target`, gathering stragglers into smaller blocks."""
    count = block.t.shape[0]
    small = max(SMALLEST, count // SHRINK)
    leave = small if count > SMALLEST else 0
    advance = adaptive(spec, m)
    dtype = block.t.dtype
    scalars = Control(*(jnp.asarray(c, dtype) for c in control))
    block, pending = advance(block, jnp.asarray(target, dtype), scalars, params, leave)
    late = np.flatnonzero(np.asarray(pending))
    if not len(late):
        return block
    # fill the smaller block with finished copies: they take no steps
    done = np.flatnonzero(~np.asarray(pending))
    chosen = np.concatenate([late, np.resize(done, small - len(late))])[:small]
    part = to_target(spec, m, _take(block, chosen, m), target, control, params)
    return _put(block, chosen[: len(late)], part, len(late), m)


def _take(block: Block, chosen: np.ndarray, m: int) -> Block:
    axis = Layout(m).path_axis
    return Block(jnp.take(block.state, chosen, axis=axis), *(x[chosen] for x in block[1:]))


def _put(block: Block, chosen: np.ndarray, part: Block, count: int, m: int) -> Block:
    if Layout(m).path_axis == 1:
        state = block.state.at[:, chosen].set(part.state[:, :count])
    else:
        state = block.state.at[chosen].set(part.state[:count])
    rest = (
        old.at[chosen].set(new[:count]) for old, new in zip(block[1:4], part[1:4], strict=True)
    )
    return Block(state, *rest, block.keys)


def run(
    spec: CovarianceModel,
    V0: np.ndarray,
    params: Any,
    *,
    times: np.ndarray,
    paths: int,
    seed: int,
    dt: float | None,
    scheme: str,
    control: Control,
    block_size: int,
    dtype: np.dtype,
    report: Progress,
) -> tuple[np.ndarray, np.ndarray, float]:
    """V (paths, saves, m, m), exit times (paths,), mean steps a path."""
    m = V0.shape[-1]
    layout = Layout(m)
    V = np.empty((paths, len(times), m, m), dtype=dtype)
    exits = np.empty(paths, dtype=dtype)
    steps = 0.0
    for first in range(0, paths, block_size):
        # every block has one size, so that one compilation serves them all
        block = start(V0, seed, first, min(block_size, _padded(paths)), dtype)
        kept = min(block_size, paths - first)
        for position, target in enumerate(times):
            if target > 0:
                before = times[position - 1] if position else 0.0
                if dt is None:
                    block = to_target(spec, m, block, target, control, params)
                else:
                    pieces = max(1, int(np.ceil((target - before) / dt * (1 - 1e-9))))
                    h = jnp.asarray((target - before) / pieces, dtype)
                    block = fixed(spec, m, scheme)(block, pieces, h, control, params)
            V[first : first + kept, position] = layout.unpack(block.state)[:kept]
            report((first + kept * (position + 1) / len(times)) / paths)
        exits[first : first + kept] = np.asarray(block.exit)[:kept]
        steps += float(np.sum(np.asarray(block.number)[:kept], dtype=float))
    return V, exits, steps / paths


def _padded(paths: int) -> int:
    return max(16, 1 << (paths - 1).bit_length())


def default_block(m: int, normals: int) -> int:
    """Paths in a block: what one step touches should stay in a core's cache."""
    bytes_a_path = 8 * (normals + 6 * m * m)
    return int(np.clip(1 << int(np.log2(2**20 / bytes_a_path)), 128, 8192))
