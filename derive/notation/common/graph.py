"""Evaluates a traced graph on NumPy arrays, to check that a trace is the text it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import sympy as sp

from derive.notation.common.arrays import Array, walk
from derive.notation.common.numeric import concatenated, erf
from derive.notation.common.scalars import extent, number, size


def _aligned(value: np.ndarray, own: int, wanted: int) -> np.ndarray:
    """Axes of size one between batch and array axes, as broadcasting of ranks asks for."""
    if value.ndim <= own or wanted <= own:
        return value
    batch = value.ndim - own
    return value.reshape(value.shape[:batch] + (1,) * (wanted - own) + value.shape[batch:])


@cache
def _compiled(x: sp.Symbol, body: sp.Expr) -> Callable[[np.ndarray], np.ndarray]:
    return sp.lambdify(x, body, [{"erf": erf, "sign": _sign}, "numpy"])


def _sign(value: np.ndarray) -> np.ndarray:
    """The sign of the real part: complex steps see no slope in it."""
    return np.sign(np.real(value))


def _flat(arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.concatenate([np.ravel(a) for a in arrays])


def _l1_vertex(*arguments: np.ndarray) -> np.ndarray:
    """The share of the array at a position in the subgradient of the largest absolute value."""
    *arrays, position = arguments
    top = np.abs(_flat(tuple(arrays))).max()
    ties = sum(np.sum(np.abs(a) == top) for a in arrays)
    own = arrays[int(position)]
    return np.sign(own) * (np.abs(own) == top) / ties


def _l2_direction(*arguments: np.ndarray) -> np.ndarray:
    *arrays, position = arguments
    norm = np.linalg.norm(_flat(tuple(arrays)))
    return arrays[int(position)] / (norm if norm > 0 else 1.0)


#: what has no definition in other operations: linear algebra and the directions of norms
WORDS: dict[str, Callable[..., Any]] = {
    "linear_solve": np.linalg.solve,
    "tril": lambda matrix, offset: np.tril(matrix, int(offset)),
    "triu": lambda matrix, offset: np.triu(matrix, int(offset)),
    "inverse": np.linalg.inv,
    "inv_sqrt_det": lambda matrix: np.linalg.det(matrix) ** -0.5,
    "linf_norm": lambda *arrays: np.abs(_flat(arrays)).max(),
    "l2_norm_of": lambda *arrays: np.linalg.norm(_flat(arrays)),
    "l1_vertex": _l1_vertex,
    "l2_direction": _l2_direction,
}


def value(
    root: Array, leaves: Mapping[Array, np.ndarray], numbers: Mapping[sp.Symbol, float]
) -> np.ndarray:
    """Evaluate a graph; `leaves` gives the state and the weights, `numbers` every symbol.

    Leaves may carry a common leading batch axis.
    """

    done: dict[Array, np.ndarray] = {}
    for array in walk(root):
        wanted = max((a.ndim for a in array.args), default=0)
        args = [_aligned(done[a], a.ndim, max(wanted, array.ndim)) for a in array.args]
        if array in leaves:
            out = leaves[array]
        elif array.op == "eye":
            out = np.eye(size(array.shape[0], numbers))
        elif array.op == "constant":
            out = array.data.sample(int(numbers[array.shape[0]]))
        elif array.op == "full":
            out = np.full(
                [int(number(extent(s), numbers)) for s in array.shape], number(array.data, numbers)
            )
        elif array.op == "add":
            out = args[0] + args[1]
        elif array.op == "multiply":
            out = args[0] * args[1]
        elif array.op == "matmul":
            out = args[0] @ args[1]
        elif array.op == "transpose":
            out = args[0].swapaxes(-1, -2)
        elif array.op == "sum":
            axis, keepdims = array.data
            out = args[0].sum(axis=axis - array.args[0].ndim, keepdims=keepdims)
        elif array.op == "concatenate":
            out = concatenated(args[0])
        elif array.op == "expand":
            out = np.expand_dims(args[0], array.data - array.ndim)
        elif array.op == "function":
            (x,), body = array.data[1].variables, array.data[1].expr
            scalars = {s: sp.Float(numbers[s], 30) for s in body.free_symbols if s != x}
            with np.errstate(divide="ignore"):  # the logarithm of a masked entry
                out = _compiled(x, body.xreplace(scalars))(args[0])
        elif array.op == "word":
            out = WORDS[array.data[0]](*(done[a] for a in array.args), *array.data[1:])
        elif array.op == "composite":
            out = args[-1]
        else:
            raise KeyError(array.op)
        done[array] = np.asarray(out)
    return done[root]
