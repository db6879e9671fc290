"""L3 of control problems: emitted functions against the equations evaluated in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.emit.optimal_control.kernels import FUNCTIONS
from derive.methods.optimal_control import instances
from derive.methods.optimal_control.instances import Point, relative
from derive.methods.optimal_control.result import OptimalControl
from derive.verify.common.rung import Rung, digit
from derive.verify.optimal_control.points import arguments


def kernel(result: OptimalControl, module: ModuleType, points: Sequence[Point]) -> Rung:
    """Every emitted function against its equation evaluated in NumPy: eager, jit, vmap, float32."""
    worst = {"eager": 0.0, "jit": 0.0, "vmap": 0.0}
    single = 0.0
    for name in result.equations:
        function = getattr(module, name)
        names = FUNCTIONS[name][0]
        rows = []
        for at in points:
            args = arguments(module, result, at)
            here = [args[n] for n in names]
            expected = instances.evaluate(result, name, at)
            rows.append((here, expected))
            worst["eager"] = max(worst["eager"], _apart(function(*here), expected))
            worst["jit"] = max(worst["jit"], _apart(jax.jit(function)(*here), expected))
            small = jax.tree.map(lambda a: a.astype(jnp.float32), here)
            value = function(*small)
            if any(v.dtype != jnp.float32 for v in jax.tree.leaves(value)):
                single = float("inf")
        shapes = {tuple(a.shape for a in jax.tree.leaves(here)) for here, _ in rows}
        if len(shapes) == 1 and len(rows) > 1:
            stacked = jax.tree.map(lambda *a: jnp.stack(a), *[here for here, _ in rows])
            both = function(*stacked)
            for k, (_, expected) in enumerate(rows):
                worst["vmap"] = max(
                    worst["vmap"], _apart(jax.tree.map(lambda a, k=k: a[k], both), expected)
                )
        else:
            here, expected = rows[0]
            doubled = jax.tree.map(lambda a: jnp.stack([a, a, a]), here)
            both = jax.tree.map(lambda a: a[2], function(*doubled))
            worst["vmap"] = max(worst["vmap"], _apart(both, expected))
    return Rung(
        "L3 kernel",
        "emitted functions against the equations in NumPy: eager, jit, batched; dtype follows",
        max(worst.values()) < 1e-11 and single == 0,
        {k: digit(v) for k, v in worst.items()},
        "relative error of a result: 1e-11",
    )


def _apart(found: Any, expected: Sequence[np.ndarray]) -> float:
    parts = list(found) if isinstance(found, tuple) else [found]
    pairs = zip(parts, expected, strict=True)
    return max((relative(np.asarray(a), b) for a, b in pairs), default=0.0)
