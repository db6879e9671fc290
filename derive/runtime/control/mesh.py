"""Meshes of a long horizon: fine at both ends, coarse along the turnpike."""

from __future__ import annotations

import numpy as np

# Numbers of intervals; a ladder keeps the number of compiled programs small.
LADDER = (24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)


def rung(count: float) -> int:
    """The smallest number of the ladder that is at least `count`."""
    return next((n for n in LADDER if n >= count), LADDER[-1])


def clustered(T: float, N: int, slow: float, fast: float) -> np.ndarray:
    """Nodes (N + 1,) on [0, T]: spacing about 1/fast at both ends, growing by the rate `slow`.

    Layers e^{-nu t} ask a method of order six for a density like e^{-nu t / 6}.
    """
    t = np.linspace(0.0, 1.0, 4001)
    t = T * (t - np.sin(2 * np.pi * t) / (2 * np.pi))  # the fine grid is itself finer at the ends
    density = np.exp(-slow * t / 6) + np.exp(-slow * (T - t) / 6)
    density = fast * density + 0.5 / T * np.trapezoid(fast * density, t)
    return _equal_shares(t, density, N)


def redistributed(nodes: np.ndarray, error: np.ndarray, N: int, order: float) -> np.ndarray:
    """Nodes (N + 1,) that share out `error` (intervals,) evenly, if it goes like h^order."""
    h = np.diff(nodes)
    floor = 1e-6 * max(float(np.max(error)), 1e-300)
    density = np.maximum(error, floor) ** (1 / order) / h
    # A neighbour's density counts by half: meshes that jump are worse than their error says.
    smooth = density.copy()
    smooth[1:] = np.maximum(smooth[1:], density[:-1] / 2)
    smooth[:-1] = np.maximum(smooth[:-1], density[1:] / 2)
    cumulative = np.concatenate([[0.0], np.cumsum(smooth * h)])
    return np.interp(np.linspace(0, cumulative[-1], N + 1), cumulative, nodes)


def with_nodes_at(nodes: np.ndarray, times: np.ndarray) -> np.ndarray:
    """`nodes` with the nearest inner node of each of `times` moved onto it."""
    out, taken = nodes.copy(), set()
    for time in times:
        if not out[0] < time < out[-1]:
            continue
        k = int(np.searchsorted(out, time))  # out[k - 1] < time <= out[k]
        choices = [j for j in (k - 1, k) if 0 < j < len(out) - 1 and j not in taken]
        if choices:
            j = min(choices, key=lambda j: abs(out[j] - time))
            out[j] = time
            taken.add(j)
    return out


def _equal_shares(t: np.ndarray, density: np.ndarray, N: int) -> np.ndarray:
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(t))])
    nodes = np.interp(np.linspace(0, cumulative[-1], N + 1), cumulative, t)
    nodes[0], nodes[-1] = 0.0, t[-1]
    return nodes
