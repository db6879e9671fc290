"""The finite network: the literal layer with dense weights, and its exact m x m chain."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common import inputs, memory, numbers
from derive.runtime.common.factor import psd_factor
from derive.runtime.common.precision import precision
from derive.runtime.common.progress import Progress, reporter
from derive.runtime.common.pure import no_tracers
from derive.runtime.paths.blocks import exact_blocks
from derive.runtime.paths.ensemble import (
    IMPLEMENTATION,
    Ask,
    asked,
    cautioned,
    path_keys,
    require_room,
    whole_block,
)
from derive.runtime.paths.results import Paths
from derive.runtime.paths.sharding import SHARED, along, over_paths
from derive.runtime.paths.specification import EXIT_RADIUS, CovarianceModel

LAYERS = "one layer can: layer(X, weights, params, dims)"


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
    exit_radius: float = EXIT_RADIUS,
    dtype: str = "float64",
    progress: bool | None | Progress = None,
    first: int = 0,
    devices: Sequence[Any] | None = None,
) -> Paths:
    """The literal network with dense weights; `X0` (m, width) may be given instead of V0."""
    no_tracers("network", LAYERS, V0, params, X0)
    ask = asked(first, paths, seed, dtype, devices, reporter(progress, "network"))
    params, sizes, depth = _sized(spec, params, width, depth, dims)
    weight = _gram_weight(spec, sizes)
    X = _first_tokens(spec, V0, X0, sizes[spec.width], weight)
    layers = _layers(saves, depth, _clock(spec))
    # weights on tokens: the one dimension that the state gives
    named = {d for shape in spec.weight_shapes.values() for d in shape}
    sizes |= {d: len(X) for d in named if d not in sizes}
    entries = sum(int(np.prod([sizes[d] for d in s])) for s in spec.weight_shapes.values())
    block = int(np.clip(2**24 // max(entries, 1), 1, 4096))
    memory.require(
        {"the weights of one layer": 16.0 * entries},
        f"take a smaller {spec.width}"
        + (", or reduced_network, whose cost does not grow with it" if spec.reduced_layer else ""),
    )
    advance = _dense_layers(spec, tuple(sorted(sizes.items())), ask.devices)
    pace = spec.unit(sizes[spec.clock])
    radius = numbers.radius(exit_radius, X @ X.T / weight)
    return cautioned(_ensemble(spec, X, params, layers, pace, advance, ask, radius, block, weight))


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
    exit_radius: float = EXIT_RADIUS,
    dtype: str = "float64",
    progress: bool | None | Progress = None,
    first: int = 0,
    devices: Sequence[Any] | None = None,
) -> Paths:
    """The same law on m x m blocks."""
    no_tracers("reduced_network", LAYERS, V0, params)
    ask = asked(first, paths, seed, dtype, devices, reporter(progress, "reduced network"))
    params, sizes, depth = _sized(spec, params, width, depth, dims)
    width = sizes[spec.width]
    V = inputs.covariance(V0)
    inputs.start(V, spec.unit_rows, spec.width, None)
    if spec.reduced_layer is None:
        raise ValueError("this model has no reduced chain; use network")
    if width < V.shape[0]:
        raise ValueError(f"the reduced chain needs width >= m = {V.shape[0]}, got {width}")
    layers = _layers(saves, depth, _clock(spec))
    advance = _reduced_layers(spec, tuple(sorted(sizes.items())), ask.devices)
    pace = spec.unit(sizes[spec.clock])
    radius = numbers.radius(exit_radius, V)
    return cautioned(_ensemble(spec, V, params, layers, pace, advance, ask, radius, 8192, 0.0))


def _sized(
    spec: CovarianceModel, params: Any, width: int, depth: int, dims: Mapping[str, int] | None
) -> tuple[Any, dict[str, int], int]:
    """Checked parameters, the sizes of all dimensions by name, and the depth."""
    width = inputs.positive_integer("width", width)
    depth = inputs.positive_integer("depth", depth)
    params = inputs.parameters(params, spec.params, spec.ranges, _horizon(spec, width, depth, dims))
    return params, _sizes(spec, width, depth, dims, params), depth


def _first_tokens(spec: CovarianceModel, V0: Any, X0: Any, width: int, weight: float) -> np.ndarray:
    """X (m, width): X0 itself, or tokens with X X^T / weight = V0."""
    if (V0 is None) == (X0 is None):
        raise ValueError("pass V0 (m, m) or X0 (m, width), one of the two")
    if X0 is None:
        V = inputs.covariance(V0)
        X = _state(V, width, weight)
        inputs.start(V, spec.unit_rows, spec.width, None)
    else:
        X = numbers.finite("X0", X0)
    if X.ndim != 2 or X.shape[1] != width or not X.size:
        raise ValueError(f"X0 must have shape (m, width = {width}), got {X.shape}")
    return X


def _horizon(
    spec: CovarianceModel, width: int, depth: int, dims: Mapping[str, int] | None
) -> float:
    """Time at the last layer."""
    if spec.clock == spec.width:
        return depth / spec.unit(width)
    given = dims.get(spec.clock, depth) if isinstance(dims, Mapping) else depth
    return depth / spec.unit(inputs.positive_integer(spec.clock, given))


def _sizes(
    spec: CovarianceModel,
    width: int,
    depth: int,
    dims: Mapping[str, int] | None,
    params: Any,
) -> dict[str, int]:
    names = [d for d in spec.dims._fields if d != spec.width]
    if dims is not None and not isinstance(dims, Mapping):
        raise ValueError(f"dims takes sizes by name, {{'n_k': 64}} say, got {dims!r}")
    given = dict(dims or {})
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError(f"unknown dimensions {unknown}; this model has {names}")
    sizes = {spec.width: inputs.positive_integer("width", width)}
    for name in names:
        if name == spec.clock:  # layers in a unit of time; all of them, if not said
            sizes[name] = inputs.positive_integer(name, given.get(name, depth))
            continue
        share = inputs.value_of(params, spec.ratios.get(name, ""), 1.0)
        default = inputs.value_of(params, name, max(1, round(share * width)))
        sizes[name] = inputs.positive_integer(name, given.get(name, int(default)))
    for name, (whole, count) in spec.shares.items():
        if sizes[whole] % sizes[count]:
            raise ValueError(
                f"{count} = {sizes[count]} does not divide {whole} = {sizes[whole]}, but this "
                f"model's layers have arrays of size {whole} / {count}; take a multiple"
            )
        sizes[name] = sizes[whole] // sizes[count]
    return sizes


def _clock(spec: CovarianceModel) -> str:
    return "width" if spec.pace == 1 else f"{spec.clock}**{spec.pace:.4g}"


def _layers(saves: Any, depth: int, clock: str) -> np.ndarray:
    """Layer numbers at which V is kept: increasing integers from 0 to depth."""
    if saves is None:
        return np.array([0, depth])
    if np.ndim(saves) == 0:
        count = inputs.save_count(saves)
        return np.unique(np.linspace(0, depth, count).round().astype(int))
    out = numbers.array("saves", saves)
    if out.ndim != 1 or not len(out):
        raise ValueError("saves must be a list of layer numbers, or how many of them")
    if np.any(out != np.floor(out)) or not np.all(np.isfinite(out)):
        raise ValueError(
            f"saves are layer numbers, integers in [0, depth = {depth}], got {saves!r}; "
            f"times are layers / {clock}"
        )
    if np.any(np.diff(out) <= 0) or out[0] < 0 or out[-1] > depth:
        raise ValueError(f"saves must be increasing layer numbers in [0, depth = {depth}]")
    return out.astype(int)


def _state(V: np.ndarray, width: int, weight: float) -> np.ndarray:
    """X (m, width) with X X^T / weight = V."""
    values, vectors = np.linalg.eigh(V)
    root = vectors * np.sqrt(np.maximum(values, 0))
    m = V.shape[0]
    rank = int(np.sum(values > 1e-12 * max(values[-1], 0)))
    if width < rank:
        raise ValueError(f"V0 has rank {rank}: no X of width {width} has this covariance")
    X = np.zeros((m, width))
    kept = root[:, ::-1][:, : min(m, width)]
    X[:, : kept.shape[1]] = np.sqrt(weight) * kept
    return X


def _gram_weight(spec: CovarianceModel, size: Mapping[str, int]) -> float:
    """V = X X^T / weight: the width where it grows, one where it is fixed."""
    return float(size[spec.width]) if spec.clock == spec.width else 1.0


@functools.lru_cache(maxsize=32)
def _dense_layers(
    spec: CovarianceModel, sizes: tuple[tuple[str, int], ...], devices: tuple[Any, ...]
) -> Callable[..., Any]:
    size = dict(sizes)
    dims = spec.dims(*(float(size[k]) for k in spec.dims._fields))

    def one(X: jax.Array, key: jax.Array, number: jax.Array, params: Any) -> jax.Array:
        own = jax.random.fold_in(jax.random.wrap_key_data(key, impl=IMPLEMENTATION), number)
        weights = spec.weights(
            *(
                jax.random.normal(jax.random.fold_in(own, k), [size[d] for d in shape], X.dtype)
                for k, shape in enumerate(spec.weight_shapes.values())
            )
        )
        return spec.layer(X, weights, params, dims, number / spec.unit(size[spec.clock]))

    weight = _gram_weight(spec, size)
    return _advance(one, lambda X: X @ X.mT / weight, devices)


@functools.lru_cache(maxsize=32)
def _reduced_layers(
    spec: CovarianceModel, sizes: tuple[tuple[str, int], ...], devices: tuple[Any, ...]
) -> Callable[..., Any]:
    size = dict(sizes)
    dims = spec.dims(*(float(size[k]) for k in spec.dims._fields))

    def one(
        V: jax.Array, L: jax.Array, key: jax.Array, number: jax.Array, params: Any
    ) -> jax.Array:
        assert spec.reduced_layer is not None
        own = jax.random.fold_in(jax.random.wrap_key_data(key, impl=IMPLEMENTATION), number)
        blocks = exact_blocks(own, spec.reduced_blocks, V.shape[-1], size, V.dtype)
        new = spec.reduced_layer(L, blocks, params, dims, number / spec.unit(size[spec.clock]))
        return (new + new.mT) / 2

    return _advance(one, lambda V: V, devices, factored=True)


def _advance(
    one: Callable[..., jax.Array],
    gram: Callable[..., Any],
    devices: tuple[Any, ...],
    factored: bool = False,
) -> Callable[..., Any]:
    def advance(
        state: jax.Array,
        exit: jax.Array,
        keys: jax.Array,
        first: jax.Array,
        last: jax.Array,
        width: jax.Array,
        radius: jax.Array,
        params: Any,
    ) -> tuple[jax.Array, jax.Array]:
        def body(number: Any, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            state, exit = carry
            if factored:
                L, _ = psd_factor(state)
                new = jax.vmap(one, in_axes=(0, 0, 0, None, None))(state, L, keys, number, params)
            else:
                new = jax.vmap(one, in_axes=(0, 0, None, None))(state, keys, number, params)
            inside = jnp.max(jnp.abs(gram(new)), axis=(-2, -1)) <= radius
            alive = jnp.isinf(exit)
            keep = (alive & inside)[:, None, None]
            time = ((number + 1) / width).astype(exit.dtype)
            return jnp.where(keep, new, state), jnp.where(alive & ~inside, time, exit)

        return jax.lax.fori_loop(first, last, body, (state, exit))

    return over_paths(advance, devices, (*[along(0)] * 3, *[SHARED] * 5), (along(0), along(0)))


def _ensemble(
    spec: CovarianceModel,
    start: np.ndarray,
    params: Any,
    layers: np.ndarray,
    width: float,
    advance: Callable[..., Any],
    ask: Ask,
    radius: float,
    block: int,
    gram: float,
) -> Paths:
    """Paths of V = X X^T / gram from tokens X, or of V itself from V (gram = 0)."""
    paths, m = ask.paths, start.shape[0]
    shares = max(1, len(ask.devices))
    block = shares * min(block, whole_block(-(-paths // shares)))
    require_room(paths, len(layers), m, ask.dtype)
    with precision(ask.dtype) as kind:
        V, exits = np.empty((paths, len(layers), m, m), kind), np.empty(paths, kind)
        arrays = spec.params(*(jnp.asarray(p, kind) for p in params))
        for first in range(0, paths, block):
            kept = min(block, paths - first)
            state = np.broadcast_to(start.astype(kind), (block, *start.shape))
            exit = np.full(block, np.inf, kind)
            keys = path_keys(ask.seed, ask.first + first, block)
            for position, layer in enumerate(layers):
                before = layers[position - 1] if position else 0
                if layer > before:
                    state, exit = advance(
                        state,
                        exit,
                        keys,
                        int(before),
                        int(layer),
                        jnp.asarray(width, kind),
                        jnp.asarray(radius, kind),
                        arrays,
                    )
                now = state @ state.mT / gram if gram else state
                V[first : first + kept, position] = np.asarray(now)[:kept]
                ask.report((first + kept * (position + 1) / len(layers)) / paths)
            exits[first : first + kept] = np.asarray(exit)[:kept]
    return Paths(layers / width, V, exits)
