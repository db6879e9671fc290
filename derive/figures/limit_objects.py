"""Where softmax attention takes tokens of R^d: a polytope, hyperplanes, and who leads.

Tokens move in x; they are drawn in the frame z = exp(-t M) x, along the leading eigenvectors of M,
to which `limit_object` gives the coordinates.  Below, the attention of the last time, rows and
columns ordered by the first coordinate; crosses: the leaders that were told at the start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "models": ["isotropic_attention", "euclidean_attention"],
    "dimensions": [1, 2, 3, 128],
    "tokens": [20, 20, 20, 128],
    "extent": 5.0,
    "time": 10.0,  # the leading eigenvalue times it
    "saves": 81,
    "seed": 4,
}


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    import jax

    r = request
    out: dict[str, Any] = {"times": np.linspace(0, r["time"], r["saves"])}
    for k, (d, n) in enumerate(zip(r["dimensions"], r["tokens"], strict=True)):
        rng = np.random.default_rng([r["seed"], d])
        module, params = _system(r["models"], d, rng)
        x0 = rng.uniform(-r["extent"], r["extent"], (n, d))
        told = module.limit_object(x0, params)
        found = module.solve(
            x0,
            params,
            t1=r["time"] / told.eigenvalue,
            saves=out["times"] / told.eigenvalue,
            rtol=1e-6,
        )
        out[f"way_{d}"] = np.exp(-out["times"])[:, None, None] * (found.x @ told.across.T)
        with jax.enable_x64(True):
            out[f"attention_{d}"] = np.asarray(module.attention_matrix(found.x[-1], params))
        out[f"leaders_{d}"] = np.full(n, -1) if told.leaders is None else told.leaders
        out[f"kind_{d}"] = told.kind
        progress((k + 1) / len(r["dimensions"]))
    return out


def _system(models: list[str], d: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Numbers for matrices where d < 3; above, V with one leading eigenvector, Q and K drawn."""
    if d < 3:
        module = model(models[0])
        return module, module.Params(beta=np.float64(1.0), v=np.float64(1.0))
    module = model(models[1])
    rest = rng.standard_normal((d, d)) / np.sqrt(d)
    first = rng.standard_normal(d)
    V = np.outer(first, first) / (first @ first) + 0.1 * (rest + rest.T)
    Q = rng.standard_normal((d, d)) / np.sqrt(d)
    K = Q + 0.5 * rng.standard_normal((d, d)) / np.sqrt(d)
    return module, module.Params(Q=Q, K=K, V=V)


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    dimensions = request["dimensions"]
    figure, axes = style.grid(2, len(dimensions), width=2.9, height=2.9)
    for column, (d, n) in enumerate(zip(dimensions, request["tokens"], strict=True)):
        way = arrays[f"way_{d}"]
        top, below = axes[0][column], axes[1][column]
        if way.shape[2] == 2:
            _plane(top, way)
        else:
            _line(top, arrays["times"], way[..., 0])
        top.set_title(f"d = {d}, {n} tokens: {arrays[f'kind_{d}']}", loc="left")
        _attention(below, arrays, d)
    axes[0][0].set_ylabel("leading coordinate c of z")
    style.title(
        figure,
        r"softmax attention in $\mathbb{R}^d$ in the frame $z = e^{-t M} x$, and its weights late",
    )
    return figure


def _line(axis: Any, times: np.ndarray, c: np.ndarray) -> None:
    for value in (c[-1].min(), 0.0, c[-1].max()):
        axis.axhline(value, color=style.ORANGE, linewidth=0.9)
    axis.plot(times, c, color=style.BLUE, linewidth=0.6, alpha=0.7)
    axis.set_xlabel("leading eigenvalue times t")


def _plane(axis: Any, way: np.ndarray) -> None:
    corners = hull(way[-1])
    closed = np.concatenate([corners, corners[:1]])
    axis.plot(*closed.T, color=style.ORANGE, linewidth=1.2, zorder=1)
    for k in range(way.shape[1]):
        axis.plot(*way[:, k].T, color=style.SKY, linewidth=0.6, zorder=2)
    axis.plot(*way[0].T, ".", color="0.6", markersize=3, zorder=2)
    axis.plot(*way[-1].T, "o", color=style.RED, markersize=4, zorder=3)
    axis.plot(0, 0, "+", color="black", markersize=7)
    axis.set_aspect("equal", adjustable="datalim")
    axis.set_xlabel("z: start (grey), late (red), hull (orange)")


def hull(points: np.ndarray) -> np.ndarray:
    """Corners of the convex hull in the plane, in order."""
    order = points[np.lexsort(points.T[::-1])]

    def chain(along: np.ndarray) -> list[np.ndarray]:
        out: list[np.ndarray] = []
        for p in along:
            while len(out) > 1 and _turns_right(out[-2], out[-1], p):
                out.pop()
            out.append(p)
        return out[:-1]

    return np.array([*chain(order), *chain(order[::-1])])


def _turns_right(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
    (x, y), (u, v) = b - a, c - b
    return bool(x * v - y * u <= 0)


def _attention(axis: Any, arrays: dict[str, Any], d: int) -> None:
    order = np.argsort(arrays[f"way_{d}"][0, :, 0])
    place = np.argsort(order)
    leaders = arrays[f"leaders_{d}"][order]
    axis.imshow(arrays[f"attention_{d}"][np.ix_(order, order)], cmap="Blues", vmin=0, vmax=1)
    known = np.flatnonzero(leaders >= 0)
    axis.plot(place[leaders[known]], known, "x", color=style.RED, markersize=3)
    axis.set_xlabel("seen token, ordered by c at first")
    axis.locator_params(integer=True)
    if d == 1:
        axis.set_ylabel("token")
