"""Paths over the devices of this process: each device runs its own share, nothing is exchanged."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from derive.runtime.common.compiling import jit

AXIS = "paths"
SHARED = PartitionSpec()


def along(axis: int) -> PartitionSpec:
    """An array whose axis number `axis` runs over paths."""
    return PartitionSpec(*[None] * axis, AXIS)


def over_paths(
    function: Callable[..., Any], devices: tuple[Any, ...], inputs: Any, outputs: Any
) -> Callable[..., Any]:
    """Jitted `function`, its arguments split over `devices` as `inputs` (a prefix tree) says.

    Every device runs the program of a single one on its share, so that bits agree.  One program
    for the whole mesh (`jit` of sharded arguments, or `shard_map`) would go through other
    passes of the compiler, which fuse and so round differently: on CPU 99 % of the paths then
    differ from those of one device.
    """
    program = jit(function)
    if not devices:
        return program
    mesh = Mesh(np.array(devices), (AXIS,))
    compiled: dict[Any, list[Callable[..., Any]]] = {}

    def run(*arguments: Any) -> Any:
        leaves, tree = jax.tree.flatten(arguments)
        places = [NamedSharding(mesh, s) for s in _leaves(inputs, arguments)]
        placed = [jax.device_put(x, p) for x, p in zip(leaves, places, strict=True)]
        shares = [
            jax.tree.unflatten(tree, share)
            for share in zip(*(_shares(x, devices) for x in placed), strict=True)
        ]
        kind = tree, tuple((x.shape, x.dtype) for x in placed)
        if kind not in compiled:
            compiled[kind] = _compile(program, shares)
        results = [one(*share) for one, share in zip(compiled[kind], shares, strict=True)]
        return _joined(results, outputs, mesh)

    return run


def _compile(program: Any, shares: list[Any]) -> list[Callable[..., Any]]:
    """The same program for each device; traced here, compiled side by side."""
    lowered = [program.lower(*share) for share in shares]
    with ThreadPoolExecutor(min(len(shares), os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda low: low.compile(), lowered))


def _leaves(prefix: Any, tree: Any) -> list[PartitionSpec]:
    """One specification for each leaf of `tree`."""
    return jax.tree.leaves(
        jax.tree.broadcast(prefix, tree, is_leaf=_specification), is_leaf=_specification
    )


def _specification(x: Any) -> bool:
    return isinstance(x, PartitionSpec)


def _shares(x: jax.Array, devices: tuple[Any, ...]) -> list[jax.Array]:
    held = {shard.device: shard.data for shard in x.addressable_shards}
    return [held[d] for d in devices]


def _joined(results: list[Any], outputs: Any, mesh: Mesh) -> Any:
    specs = _leaves(outputs, results[0])
    columns = zip(*(jax.tree.leaves(r) for r in results), strict=True)
    joined = []
    for spec, parts in zip(specs, columns, strict=True):
        shape = list(parts[0].shape)
        shape[spec.index(AXIS)] *= len(parts)
        place = NamedSharding(mesh, spec)
        joined.append(jax.make_array_from_single_device_arrays(tuple(shape), place, list(parts)))
    return jax.tree.unflatten(jax.tree.structure(results[0]), joined)
