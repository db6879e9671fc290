"""Covariances of two-dimensional tokens in their cone: clustering and blow-up, by attention.

S = [[a, c], [c, b]] is drawn at (a - b, 2 c, a + b); positive semi-definite matrices fill the cone
above |(a - b, 2 c)|, and those of rank one are its surface.  The mean is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "models": {
        "softmax_closure": "softmax",
        "multihead_softmax_closure": "softmax, 2 heads",
        "l2_closure": "L2",
        "sinkhorn_closure": "Sinkhorn",
    },
    # K = -Q of one row: scores punish its direction, the other one stays.
    "clustering": {
        "Q": [[0.4, 1.3]],
        "K": [[-0.4, -1.3]],
        "V": [[1.0, 0.5], [0.5, 0.5]],
        "times": [0.02, 1000.0],
        "saves": 32,
    },
    # K^T Q indefinite: one direction grows, the other shrinks.
    "blow_up": {
        "Q": [[1.0, 0.0], [0.0, 1.0]],
        "K": [[0.7, 0.5], [0.5, -1.2]],
        "V": [[1.0, 0.0], [0.0, 1.0]],
        "times": [0.03, 3.2],
        "saves": 64,
    },
    "second_head": 0.6,
    "rings": {"0": 1, "0.5": 8, "0.92": 12},
    "top": 3.0,
    "eps": 1.0,
}
ROWS = ("clustering", "blow_up")


def starts(rings: dict[str, int]) -> np.ndarray:
    """S_0 of trace one on circles around I / 2: (count, 2, 2)."""
    points = [
        (float(radius) * np.cos(turn), float(radius) * np.sin(turn))
        for radius, count in rings.items()
        for turn in 2 * np.pi * np.arange(count) / count
    ]
    u, v = np.transpose(points)
    return np.stack([np.stack([1 + u, v], -1), np.stack([v, 1 - u], -1)], -2) / 2


def coordinates(S: np.ndarray) -> np.ndarray:
    """(..., 2, 2) to (a - b, 2 c, a + b)."""
    a, b, c = S[..., 0, 0], S[..., 1, 1], S[..., 0, 1]
    return np.stack([a - b, 2 * c, a + b], axis=-1)


def times(given: dict[str, Any], row: str) -> np.ndarray:
    """Save times: geometric where laws settle, even where they run off."""
    first, last = given["times"]
    if row == "clustering":
        return np.concatenate([[0.0], np.geomspace(first, last, given["saves"])])
    return np.linspace(0, last, given["saves"] + 1)


def parameters(module: Any, name: str, given: dict[str, Any], request: dict[str, Any]) -> Any:
    values = {key: np.array(given[key]) for key in ("Q", "K", "V")}
    if "W" in module.Params._fields:  # the second head is a weaker one; W_h^T V_h = V / 2
        scale = np.array([1.0, request["second_head"]])[:, None, None]
        each = {"Q": scale, "K": scale, "V": np.full((2, 1, 1), 0.5)}
        values = {key: each[key] * value for key, value in values.items()}
        values["W"] = np.broadcast_to(np.eye(2), (2, 2, 2))
    if "eps" in module.Params._fields:
        values["eps"] = np.array(request["eps"])
    return module.Params(**values)


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r, out = request, {}
    tasks = [(name, row) for name in r["models"] for row in ROWS]
    for k, (name, row) in enumerate(tasks):
        module, given = model(name), r[row]
        saves = times(given, row)
        found = module.solve(
            np.zeros(2),
            starts(r["rings"]),
            parameters(module, name, given, r),
            t1=saves[-1],
            saves=saves,
            rtol=1e-6,
            progress=lambda s, k=k: progress((k + s) / len(tasks)),
        )
        out[f"{name}_{row}"] = coordinates(found.cov)
        out[f"{name}_{row}_times"] = found.blow_up_time
    return out


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    r = request
    names = list(r["models"])
    figure, axes = style.grid(
        len(ROWS), len(names), width=2.5, height=2.6, subplot_kw={"projection": "3d"}
    )
    for line, row in zip(axes, ROWS, strict=True):
        top = 1.2 if row == "clustering" else r["top"]
        for axis, name in zip(line, names, strict=True):
            _cone(axis, top)
            for path in arrays[f"{name}_{row}"]:
                kept, grows = _inside(path, top), runs_off(path, top)
                colour = style.RED if grows else style.BLUE
                axis.plot(*kept.T, color=colour, linewidth=0.9, linestyle="--" if grows else "-")
                axis.scatter(*kept[:1].T, color="0.25", s=4, depthshade=False)
                if not grows:
                    axis.scatter(*kept[-1:].T, color=colour, s=9, depthshade=False)
            ends = arrays[f"{name}_{row}_times"]
            said = "settles on a ray" if row == "clustering" else _growth(ends, r[row]["times"][-1])
            axis.set_title(f"{r['models'][name]}:\n{said}", fontsize=8, y=0.94)
    style.title(
        figure,
        "Covariances $S = (a, c; c, b)$ of tokens in the plane, in the cone of positive "
        "semi-definite matrices: its surface has rank one, its axis is round.\n"
        "$a + b$: size; $a - b$: longer along the first axis than along the second; "
        "$2c$: longer along the diagonal. Grey dots: starts.\n"
        "Top: $K = -Q$ of one row; bottom: $K^{T} Q$ indefinite. "
        "Blue: stays below the rim up to the end (dot); orange, dashed: grows beyond it",
    )
    return figure


def runs_off(path: np.ndarray, top: float) -> bool:
    """Whether a path leaves the picture upwards, in a finite time or not."""
    return bool((~(path[:, 2] <= 1.0001 * top)).any())


def _inside(path: np.ndarray, top: float) -> np.ndarray:
    """The path up to the first point above `top`, cut at that height."""
    above = ~(path[:, 2] <= 1.0001 * top)  # nan, after a blow-up, too
    count = int(np.argmax(above)) if above.any() else len(path)
    if count == len(path) or not np.isfinite(path[count, 2]):
        return path[:count]
    last, over = path[count - 1], path[count]
    share = (top - last[2]) / (over[2] - last[2])
    return np.vstack([path[:count], last + share * (over - last)])


def _growth(ends: np.ndarray, last: float) -> str:
    blown = np.isfinite(ends)
    share = f"{np.mean(blown):.0%} blow up" if blown.any() else "no blow-up"
    return f"{share} by t = {last:g}"


def _cone(axis: Any, top: float) -> None:
    turn, height = np.meshgrid(np.linspace(0, 2 * np.pi, 49), [0, top])
    axis.plot_surface(
        height * np.cos(turn), height * np.sin(turn), height, color="0.6", alpha=0.13, linewidth=0
    )
    ring = np.linspace(0, 2 * np.pi, 97)
    axis.plot(top * np.cos(ring), top * np.sin(ring), top, color="0.6", linewidth=0.6)
    axis.set(xlim=(-top, top), ylim=(-top, top), zlim=(0, top))
    tick = int(0.9 * top)
    axis.set(xticks=[-tick, 0, tick], yticks=[-tick, 0, tick], zticks=[0, tick])
    axis.tick_params(labelsize=6.5, pad=-3)
    axis.set_xlabel("$a - b$", fontsize=7.5, labelpad=-7)
    axis.set_ylabel("$2c$", fontsize=7.5, labelpad=-7)
    axis.set_zlabel("$a + b$", fontsize=7.5, labelpad=-9)
    axis.view_init(elev=24, azim=-58)
    axis.set_box_aspect((1, 1, 0.85), zoom=0.82)
