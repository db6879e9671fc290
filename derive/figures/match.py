"""One theta(t) for several laws at once: overlapping clouds on their way to rings.

Every colour is a law; crosses are its target.  All laws see the same parameters at all times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "models": ["measure_to_measure"],
    "laws": 3,
    "tokens": 320,
    "atoms": 32,
    "spread": 0.55,
    "radius": 0.45,
    "seed": 5,
}
COLOURS = (style.BLUE, style.RED, style.GREEN, style.PURPLE, style.ORANGE, style.SKY)
FRAMES = 240  # of a film at most
SEEN = np.array([[-0.5, 0.866, 0.0], [-0.35, -0.2, 0.915], [0.79, 0.457, 0.403]])  # right, up, near


def laws(request: dict[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Clouds around three near directions, and rings around three directions at right angles."""
    r, rng = request, np.random.default_rng(request["seed"])
    angle = 2 * np.pi * np.arange(r["atoms"]) / r["atoms"]
    clouds, rings = [], []
    for k in range(r["laws"]):
        middle = np.array([0.62, 0.55, 0.55]) + 0.35 * np.eye(3)[k]
        x = middle + r["spread"] * rng.standard_normal((r["tokens"], 3))
        clouds.append(x / np.linalg.norm(x, axis=1, keepdims=True))
        axis, first, second = (np.roll(np.eye(3), k, axis=1)[j] for j in range(3))
        turn = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second
        rings.append(np.cos(r["radius"]) * axis + np.sin(r["radius"]) * turn)
    return clouds, rings


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    clouds, rings = laws(request)
    plan = model(request["models"][0]).match(clouds, rings, seed=request["seed"], progress=progress)
    return arrays_of(plan)


def arrays_of(plan: Any) -> dict[str, Any]:
    """Tokens at the ends of the pieces (frames, N, n, d), and what is shown of the plan."""
    states = [plan.inputs, *plan.states()]
    stages = [p.words.split(" ")[0] for p in plan.pieces]
    last = len(stages)
    carried = max((i + 1 for i, s in enumerate(stages) if s == "carry"), default=last // 2)
    gathered = max((i + 1 for i, s in enumerate(stages) if s == "gather"), default=0)
    between = (carried + last) // 2 if carried < last else carried
    return {
        "x": np.stack([s.x for s in states]),
        "masses": plan.inputs.masses,
        "times": plan.times,
        "targets": plan.targets.x,
        "words": np.array(["the laws as they are", *(p.words for p in plan.pieces)]),
        "shown": np.array([0, min(gathered + 1, last), between, last]),
        "w2": plan.findings["W_2 to each target"],
    }


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    shown = [int(k) for k in arrays["shown"]]
    figure, axes = style.panels(len(shown), width=2.7, height=3.0)
    titles = ("inputs", "gathered", "on the way", "reached")
    for axis, k, title in zip(axes[0], shown, titles, strict=True):
        _sphere(axis, arrays, k)
        axis.set_title(f"{title}, t = {arrays['times'][k]:.4g}", loc="left")
    _, count, tokens, d = arrays["x"].shape
    style.title(
        figure,
        f"One θ(t) of {len(arrays['times']) - 1} pieces for {count} laws of {tokens} tokens on the "
        f"sphere of $\\mathbb{{R}}^{{{d}}}$: $W_2$ to the targets (crosses) up to "
        f"{arrays['w2'].max():.1g}",
    )
    return figure


def film(request: dict[str, Any], arrays: dict[str, Any]) -> Iterator[Any]:
    """The laws at the ends of the pieces, or of every so many of them."""
    last = len(arrays["times"]) - 1
    for k in np.unique(np.linspace(0, last, min(FRAMES, last + 1)).astype(int)):
        figure, axes = style.panels(1, width=4.2, height=4.5)
        _sphere(axes[0][0], arrays, int(k))
        style.title(figure, f"t = {arrays['times'][k]:.4g}: {arrays['words'][k]}")
        yield figure


def _sphere(axis: Any, arrays: dict[str, Any], k: int) -> None:
    """The laws seen from one side; what lies behind is pale."""
    turn = _view(arrays)
    around = np.linspace(0, 2 * np.pi, 200)
    axis.plot(np.cos(around), np.sin(around), color="0.75", linewidth=0.8)
    for law, (x, target) in enumerate(zip(arrays["x"][k], arrays["targets"], strict=True)):
        colour = COLOURS[law % len(COLOURS)]
        for points, mark, size, dark in ((target, "x", 12, 0.55), (x, "o", 7, 0.9)):
            seen = points @ turn.T
            for side, alpha in ((seen[:, 2] < 0, 0.22 * dark), (seen[:, 2] >= 0, dark)):
                axis.scatter(
                    seen[side, 0],
                    seen[side, 1],
                    marker=mark,
                    s=size,
                    color=colour,
                    alpha=alpha,
                    linewidths=0.6 if mark == "x" else 0,
                )
    axis.set_aspect("equal")
    axis.set_xlim(-1.08, 1.08)
    axis.set_ylim(-1.08, 1.08)
    axis.axis("off")


def _view(arrays: dict[str, Any]) -> np.ndarray:
    """Rows right, up, near; beyond three dimensions along the principal axes of the targets."""
    d = arrays["x"].shape[-1]
    if d == 3:
        return np.linalg.qr(SEEN.T)[0].T * np.sign(np.diag(np.linalg.qr(SEEN.T)[1]))[:, None]
    return np.linalg.svd(arrays["targets"].reshape(-1, d), full_matrices=True)[2][:3]
