"""The equations of an optimality system as they are shown.

Input: a derivation.  Output: the same with shorter equations.  On spheres |x| = 1 and x . p = 0:
there many parts are 0 or 1, or one of two equal parts is shorter.  Such parts are found by value at
random instances, and what is made of them is proven at others.  Kernels evaluate the derivation
itself, which holds off the spheres too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import sympy as sp

from derive.calculus.arrays.algebra import Algebra
from derive.errors import CheckFailed
from derive.methods.optimal_control.instances import (
    INSTANCES,
    TOLERANCE,
    Point,
    graph_value,
    point,
    relative,
)
from derive.methods.optimal_control.result import OptimalControl, Parts
from derive.notation.common.arrays import Array, visible, walk
from derive.notation.common.graph import values
from derive.notation.control.definition import ControlDefinition

MOST_ROUNDS = 5  # a shorter part may make a further one short


def shortened(result: OptimalControl) -> OptimalControl:
    """Raises CheckFailed if a shorter equation has another value than the one it came from."""
    model = result.model
    algebra = result.algebra
    algebra = Algebra(
        dict(algebra.table), dict(algebra.serial), dict(algebra.names), set(algebra.symmetric)
    )
    out = replace(result, algebra=algebra)
    equations = {n: parts for n, parts in result.equations.items() if not n.startswith("h_")}
    if any(slot.kind == "sphere" for slot in model.states):
        equations = _on_spheres(out, equations)
    return replace(out, equations=equations)


def _on_spheres(result: OptimalControl, equations: Mapping[str, Parts]) -> dict[str, Parts]:
    found, fresh = (
        [_lying(result.model, k) for k in range(INSTANCES * n, INSTANCES * (n + 1))] for n in (0, 1)
    )
    out = {
        n: tuple(_shorter(result, part, found) for part in parts) for n, parts in equations.items()
    }
    for name, parts in out.items():
        for old, new in zip(equations[name], parts, strict=True):
            for at in fresh:
                if relative(graph_value(result, new, at), graph_value(result, old, at)) > TOLERANCE:
                    raise CheckFailed(f"the short form of {name} has another value")
    return out


def _lying(model: ControlDefinition, seed: int) -> Point:
    """An instance with costates orthogonal to states on spheres."""
    at = point(model, seed)
    arrays = dict(at.arrays)
    for slot in model.states:
        if slot.kind == "sphere":
            x, p = arrays[slot.name], arrays[f"p_{slot.name}"]
            arrays[f"p_{slot.name}"] = p - x * (x * p).sum(-1, keepdims=True)
    return replace(at, arrays=arrays)


def _shorter(result: OptimalControl, root: Array, points: list[Point]) -> Array:
    for _ in range(MOST_ROUNDS):
        shorter = _once(result.algebra, root, _prints(result, root, points))
        if shorter is root:
            break
        root = shorter
    return root


def _once(algebra: Algebra, root: Array, prints: Mapping[Array, np.ndarray]) -> Array:
    """Every part as a number, as the shortest part of equal value, or made of such anew."""
    known: dict[Array, Array] = {}
    kept: list[Array] = []
    for array in sorted(visible(root), key=_size):
        value = prints.get(array)
        if value is None or array.op == "full":
            (known[array],) = algebra.rebuild([array], known)
            continue
        number = next((n for n in (0, 1) if _close(value, np.full_like(value, n))), None)
        like = (a for a in kept if a.shape == array.shape and _close(prints[a], value))
        if number is not None:
            known[array] = algebra.scale(sp.Integer(number), algebra.full(array.shape))
        elif (other := next(like, None)) is not None:
            known[array] = known[other]
        else:
            (known[array],) = algebra.rebuild([array], known)
            kept.append(array)
    return known[root]


def _prints(result: OptimalControl, root: Array, points: list[Point]) -> dict[Array, np.ndarray]:
    """Values of all parts at all instances, where they have any."""
    leaves = [a for group in (result.x, result.p, result.u, result.data) for a in group]
    with np.errstate(all="ignore"):
        each = [values(root, {a: at.arrays[a.data] for a in leaves}, at.numbers) for at in points]
    joined = {a: np.concatenate([np.ravel(v[a]) for v in each]) for a in walk(root)}
    return {a: v for a, v in joined.items() if np.all(np.isfinite(v))}


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-11, atol=1e-12)


def _size(array: Array) -> int:
    return len(list(visible(array)))
