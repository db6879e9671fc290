"""The decay rate of a solution towards its turnpike, measured on the slowest mode alone.

The left eigenvector w of the slowest stable eigenvalue s of the Hamiltonian matrix projects the
difference from the turnpike on that mode: (w . dy)' = s (w . dy) to first order, untouched by the
other modes and by the exit layer.  The norm of the difference would show all of them.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from derive.runtime.control.results import Extremal, Turnpike


def mode_amplitude(found: Turnpike, solution: Extremal, flat: Any) -> np.ndarray:
    """Size of the slowest modes in (x - xb, p - pb) at the times of one solution: (saves,)."""
    values, vectors = np.linalg.eig(found.matrix.T)
    slowest = np.max(np.where(values.real < 0, values.real, -np.inf))
    # Several modes may share the slowest rate; one of them alone may hardly be excited.
    w = vectors[:, np.abs(values.real - slowest) < 1e-6]
    back = np.linalg.pinv(found.basis)
    here = _stack(solution.x, solution.p, flat)
    xb, pb = (type(t)(*(np.asarray(a)[None] for a in t)) for t in (found.x, found.p))
    there = _stack(xb, pb, flat)
    return np.linalg.norm((here - there) @ back.T @ w, axis=1)


def _stack(x: Any, p: Any, flat: Any) -> np.ndarray:
    kind = flat.spec.state
    z = jax.vmap(flat.pack_x)(kind(*x))
    q = jax.vmap(flat.pack_x)(kind(*p))
    return np.concatenate([np.asarray(z), np.asarray(q)], 1)


def slope(
    times: np.ndarray, amplitude: np.ndarray, *, high: float = 1e-5, low: float = 1e-8
) -> float:
    """-d log(amplitude) / dt by least squares over the first stretch between `high` and `low`.

    Both count relative to the largest amplitude: above `high` the motion is not linear yet, below
    `low` it is rounding and discretisation.  Returns nan if fewer than 8 times are left.
    """
    size = amplitude / np.max(amplitude)
    start = int(np.argmax(size < high)) if np.any(size < high) else len(size)
    stop = start + int(np.argmax(size[start:] < low)) if np.any(size[start:] < low) else len(size)
    stop = min(stop, int(0.9 * len(size)))
    if stop - start < 8:
        return float("nan")
    t, y = times[start:stop], np.log(amplitude[start:stop])
    return -float(np.polyfit(t, y, 1)[0])
