"""One step of a covariance SDE for a block of paths, in two representations.

Small matrices (m <= `TILES`): the state is the lower triangle, (m (m + 1)/2, paths), and a step
is straight-line code over paths.  Larger ones: (paths, m, m), and a step is batched linear
algebra.  Both draw the same normals: one key per path, folded with the path's own step number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.factor import psd_factor, tiles_factor
from derive.runtime.common.inputs import value_of
from derive.runtime.common.ops import Tiles
from derive.runtime.paths.blocks import Block, gaussian_blocks, lower_places, smallest_width, total
from derive.runtime.paths.normals import normals
from derive.runtime.paths.specification import CovarianceModel

TILES = 10  # compile time of straight-line code grows like m^3

Step = Callable[..., tuple[jax.Array, jax.Array]]


@dataclass(frozen=True)
class Layout:
    """How a block of paths is stored."""

    m: int

    @property
    def tiles(self) -> bool:
        return self.m <= TILES

    def pack(self, V: np.ndarray) -> np.ndarray:
        """(paths, m, m) to the state."""
        if not self.tiles:
            return np.array(V)
        rows, columns = np.tril_indices(self.m)
        return np.ascontiguousarray(V[:, rows, columns].T)

    def unpack(self, state: Any) -> np.ndarray:
        """The state to (paths, m, m)."""
        if not self.tiles:
            return np.asarray(state)
        rows, columns = np.tril_indices(self.m)
        V = np.empty((state.shape[1], self.m, self.m), dtype=state.dtype)
        V[:, rows, columns] = V[:, columns, rows] = np.asarray(state).T
        return V

    @property
    def path_axis(self) -> int:
        return 1 if self.tiles else 0

    def matrix(self, state: jax.Array) -> Any:
        """The state as a matrix that kernels take."""
        if not self.tiles:
            return state
        place = lower_places(self.m)
        return Tiles.of((self.m, self.m), lambda i, j: state[place[max(i, j), min(i, j)]])

    def state(self, matrix: Any) -> jax.Array:
        if not self.tiles:
            return (matrix + matrix.mT) / 2
        pairs = zip(*np.tril_indices(self.m), strict=True)
        return jnp.stack([matrix.entries[p] for p in pairs])

    def largest(self, state: jax.Array) -> jax.Array:
        """max |V| over entries (paths,); for V >= 0 it is on the diagonal."""
        if not self.tiles:
            return jnp.max(jnp.abs(state), axis=(-2, -1))
        return jnp.max(jnp.abs(state), axis=0)

    def number(self, value: Any) -> Any:
        """A kernel's scalar result over paths (paths,)."""
        return value.entries[()] if isinstance(value, Tiles) else value

    def where(self, mask: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(mask if self.tiles else mask[:, None, None], new, old)


def make_step(spec: CovarianceModel, m: int, scheme: str) -> Step:
    """`step(state, keys, number, h, t, params) -> (state, inside)` for a block of paths.

    `number` (paths,): how many steps each path has made; `h`, `t`: (paths,).  `inside`: whether
    the state from which the step started lies in the cone (Euler's scheme can leave it).
    """
    layout = Layout(m)
    laws = spec.step_blocks if scheme == "network" else _fields(spec)
    size = total(laws, m)

    def draw(keys: jax.Array, number: jax.Array, dtype: Any) -> jax.Array:
        drawn = normals(jax.vmap(jax.random.fold_in)(keys, number), size, dtype, layout.path_axis)
        # without the barrier XLA on CPU draws the normals again in every consumer
        return jax.lax.optimization_barrier(drawn)

    def network(L: Any, V: Any, z: Any, h: Any, t: Any, params: Any) -> Any:
        assert spec.step_layer is not None
        dims = width_dims(spec, 1 / h, params)
        blocks = gaussian_blocks(laws, z, m, dims._asdict(), layout.tiles)
        return spec.step_layer(L, blocks, params, dims, t)

    def euler(L: Any, V: Any, z: Any, h: Any, t: Any, params: Any) -> Any:
        fields = gaussian_blocks(laws, z, m, {}, layout.tiles)
        noise = spec.noise_from(L, V, fields, params, t)
        return V + h * spec.drift(V, params, t) + jnp.sqrt(h) * noise

    one = network if scheme == "network" else euler

    def step(
        state: jax.Array, keys: jax.Array, number: jax.Array, h: Any, t: Any, params: Any
    ) -> tuple[jax.Array, jax.Array]:
        V = layout.matrix(state)
        z = draw(keys, number, state.dtype)
        L: Any
        if layout.tiles:
            L, inside = tiles_factor(V)
            new = one(L, V, list(z), h, t, params)
        else:
            L, inside = psd_factor(V)
            h, t = (jnp.broadcast_to(jnp.asarray(x, state.dtype), inside.shape) for x in (h, t))
            new = jax.vmap(one, in_axes=(0, 0, 0, 0, 0, None))(L, V, z, h, t, params)
        return layout.state(new), inside

    return step


def _fields(spec: CovarianceModel) -> dict[str, Block]:
    return {name: Block(kind) for name, kind in spec.noise_fields.items()}


def width_dims(spec: CovarianceModel, width: Any, params: Any) -> Any:
    """The step's dimensions: the width is 1/dt, what grows with it keeps its ratio, what stays
    has its value, and what the limit does not depend on is one."""
    values = {name: value_of(params, name, 1.0) for name in spec.dims._fields}
    values[spec.clock] = width
    for name, ratio in spec.ratios.items():
        values[name] = width * value_of(params, ratio, 1.0)
    return spec.dims(**values)


def largest_step(spec: CovarianceModel, m: int) -> float:
    """A fixed step at which the Gaussian roots are well away from their bound."""
    return 1 / (2 * math.ceil(smallest_width(spec.step_blocks, m)) + 2)
