"""Nodes and weights of the cubatures: smooth rules, rules split at a singular place, lattices."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.fineness import REACH, fineness

LINE, TENSOR = 480, {2: 36, 3: 16}  # trapezoidal nodes; Gauss-Hermite nodes a direction
SHIFTS, LATTICE = 8, 256  # above: a lattice, this often shifted at random, and mirrored
# Gauss-Legendre nodes a panel, panels a side, levels of panels in the one at the singular place
SPLIT = {1: (12, 6, 14), 2: (8, 4, 5), 3: (6, 3, 1)}
FAR = {1: 9.0, 2: 8.0, 3: 6.0}  # how many standard deviations
RATIO = 4.0  # of the lengths of neighbouring levels


class Nodes(NamedTuple):
    """Points z (count, ..., r) of N(0, I_r), weights (count, ...), numbers of shifts (count,)."""

    z: Any
    weight: Any
    shift: np.ndarray
    shifts: int


@lru_cache(maxsize=64)
def _panels(r: int, left: bool, right: bool, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1]; panels crowd towards the ends that are singular."""
    points, panels, levels = SPLIT[r]
    points += (level - 1) * max(1, points // 3)
    panels += level - 1
    # nodes keep off the singular place by more than its rounding
    levels = min(levels + (level - 1) * max(1, levels // 3), 17)
    ends = np.linspace(0, 1, panels * (1 if left or right else 2) + 1)
    inner = ends[1] * RATIO ** -np.arange(levels, 0, -1.0)
    if right:
        ends = np.concatenate([ends[:-1], 1 - inner[::-1], [1.0]])
    if left:
        ends = np.concatenate([[0.0], inner, ends[1:]])
    x, w = np.polynomial.legendre.leggauss(points)
    half = np.diff(ends)[:, None] / 2
    return (ends[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()


def split_nodes(r: int, lead: tuple[int, ...], centres: jax.Array, kind: Any) -> Nodes:
    """Product of composite rules on [-FAR, FAR], each split at the singular places."""
    places = centres.shape[-2]
    far = FAR[r] + 2.0 * (fineness() - 1)  # finer rules look further out: the tail counts as error
    centres = jnp.broadcast_to(centres, (*lead, places, r))
    lines = []
    for axis in range(r):
        edge = jnp.full((*lead, 1), far, kind)
        ends = jnp.concatenate([-edge, centres[..., axis], edge], axis=-1)
        parts = []
        for n in range(places + 1):
            u, w = _panels(r, n > 0, n < places, fineness())
            low, width = ends[..., n, None], (ends[..., n + 1] - ends[..., n])[..., None]
            z = low + width * jnp.asarray(u, kind).reshape((1,) * len(lead) + (-1,))
            mass = width * jnp.asarray(w, kind).reshape((1,) * len(lead) + (-1,))
            parts.append((z, mass * jnp.exp(-z * z / 2)))
        at, share = (jnp.concatenate([p[k] for p in parts], axis=-1) for k in (0, 1))
        share = share / share.sum(axis=-1, keepdims=True)
        lines.append((jnp.moveaxis(at, -1, 0), jnp.moveaxis(share, -1, 0)))
    count = len(lines[0][0])
    grid = np.indices([count] * r).reshape(r, -1)
    z = jnp.stack([line[0][pick] for line, pick in zip(lines, grid, strict=True)], axis=-1)
    weight = math.prod((line[1][pick] for line, pick in zip(lines, grid, strict=True)), start=1.0)
    return Nodes(z, weight, np.zeros(grid.shape[1], int), 1)


@lru_cache(maxsize=16)
def _hermite(d: int, level: int) -> tuple[np.ndarray, np.ndarray]:
    """The trapezoidal rule on the line, tensor Gauss-Hermite above."""
    if d == 1:
        reach = REACH + 2.0 * (level - 1)
        z = np.linspace(-reach, reach, LINE * level + 1)
        w = np.exp(-(z**2) / 2)
        return z[:, None], w / w.sum()
    z, w = np.polynomial.hermite_e.hermegauss(TENSOR[d] * level)
    w = w / w.sum()
    grid = np.stack(np.meshgrid(*[z] * d, indexing="ij"), -1).reshape(-1, d)
    weight = np.prod(np.stack(np.meshgrid(*[w] * d, indexing="ij"), -1), -1).reshape(-1)
    keep = weight > 1e-22
    return grid[keep], weight[keep] / weight[keep].sum()


GRID = {2: 61, 3: 23}  # trapezoidal nodes a direction


@lru_cache(maxsize=16)
def _trapezoids(d: int, level: int) -> tuple[np.ndarray, np.ndarray]:
    """A product of trapezoidal rules in a ball: its error falls exponentially where poles are near,
    and Gauss-Hermite rules want ten times the nodes."""
    reach = 7.5 + (level - 1)
    z = np.linspace(-reach, reach, GRID[d] * level)
    w = np.exp(-(z**2) / 2)
    grid = np.stack(np.meshgrid(*[z] * d, indexing="ij"), -1).reshape(-1, d)
    weight = np.prod(np.stack(np.meshgrid(*[w / w.sum()] * d, indexing="ij"), -1), -1).reshape(-1)
    keep = weight > 1e-14 / level**d
    return grid[keep], weight[keep] / weight[keep].sum()


def key_nodes(d: int, level: int, kind: Any) -> tuple[jax.Array, jax.Array]:
    """Nodes (count, d) of N(0, I) and their weights, of sum one."""
    if d in GRID:
        z, w = _trapezoids(d, level)
    else:
        nodes = smooth_nodes(d, level, kind)
        z, w = nodes.z, nodes.weight / nodes.weight.sum()
    return jnp.asarray(z, kind), jnp.asarray(w, kind)


def smooth_nodes(r: int, level: int, kind: Any) -> Nodes:
    if r > max(TENSOR):
        return lattice(r, level, kind)
    z, w = _hermite(r, level)
    return Nodes(jnp.asarray(z, kind), jnp.asarray(w, kind), np.zeros(len(w), int), 1)


@lru_cache(maxsize=16)
def _lattice_points(d: int, level: int) -> tuple[np.ndarray, np.ndarray]:
    """A rank-one lattice with the generalised golden ratio, shifted, antithetic."""
    count = LATTICE * level
    root = 2.0
    for _ in range(60):
        root = (1 + root) ** (1 / (d + 1))
    alpha = root ** -np.arange(1.0, d + 1)
    shifts = np.random.default_rng(20250131).uniform(size=(SHIFTS, 1, d))
    points = np.mod(np.arange(1, count + 1)[:, None] * alpha + shifts, 1.0).reshape(-1, d)
    half = np.vectorize(NormalDist().inv_cdf)(np.clip(points, 1e-12, 1 - 1e-12))
    label = np.repeat(np.arange(SHIFTS), count)
    return np.concatenate([half, -half]), np.concatenate([label, label])


def lattice(d: int, level: int, kind: Any) -> Nodes:
    z, label = _lattice_points(d, level)
    weight = np.full(len(z), SHIFTS / len(z))
    return Nodes(jnp.asarray(z, kind), jnp.asarray(weight, kind), label, SHIFTS)
