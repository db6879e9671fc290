"""The devices of this process that a computation is spread over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax


def chosen(devices: Sequence[Any] | None) -> tuple[Any, ...]:
    """The devices to use; empty: wherever JAX puts it.

    None: all devices of this process, unless there is one only or the user has set
    `jax.default_device`.
    """
    if devices is None:
        found = jax.local_devices()
        return tuple(found) if len(found) > 1 and jax.config.jax_default_device is None else ()  # type: ignore[attr-defined]
    if not len(devices):
        raise ValueError("devices is empty; leave it out for all devices of this process")
    foreign = [d for d in devices if d.process_index != jax.process_index()]
    if foreign:
        raise ValueError(
            f"{foreign[0]} belongs to process {foreign[0].process_index}: pass devices of this "
            "process (jax.local_devices()); derive.runtime.paths.stream shares work among processes"
        )
    return tuple(devices)
