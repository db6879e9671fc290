"""Metastable clusters on the circle: the energy climbs in steps, one for each merge.

Between merges the energy exp(beta (<x, y> - 1)), averaged over pairs, stands at the sum of the
squared masses of the clusters.  The film shows the tokens on their way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "models": ["sphere_attention"],
    "tokens": 24,
    "beta": 20.0,
    "times": [0.05, 3e4],
    "saves": 160,
    "seed": 3,
}


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module = model(r["models"][0])
    angle = np.random.default_rng(r["seed"]).uniform(0, 2 * np.pi, r["tokens"])
    x0 = np.stack([np.cos(angle), np.sin(angle)], 1)
    first, last = r["times"]
    times = np.concatenate([[0.0], np.geomspace(first, last, r["saves"])])
    found = module.solve(
        x0,
        module.Params(beta=np.float64(r["beta"])),
        t1=last,
        saves=times,
        rtol=1e-7,
        merged=0.1,
        max_steps=1_000_000,
        progress=progress,
    )
    gram = np.einsum("tai,tbi->tab", found.x, found.x)
    masses = np.stack([np.bincount(c, minlength=r["tokens"]) for c in found.clusters])
    return {
        "times": times,
        "x": found.x,
        "energy": np.exp(r["beta"] * (gram - 1)).mean(axis=(1, 2)),
        "plateau": ((masses / r["tokens"]) ** 2).sum(1),
        "counts": found.counts,
    }


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    figure, axes = style.panels(2, width=3.6, height=3.2)
    _circle(axes[0][0], request, arrays, len(arrays["times"]) - 1)
    _steps(axes[0][1], arrays, len(arrays["times"]) - 1)
    style.title(figure, _words(request))
    return figure


def film(request: dict[str, Any], arrays: dict[str, Any]) -> Iterator[Any]:
    """The figure at every save."""
    for k in range(1, len(arrays["times"])):
        figure, axes = style.panels(2, width=3.6, height=3.2)
        _circle(axes[0][0], request, arrays, k)
        _steps(axes[0][1], arrays, k)
        style.title(figure, _words(request))
        yield figure


def _words(request: dict[str, Any]) -> str:
    return (
        f"{request['tokens']} tokens of self-attention on the circle, "
        f"$\\beta$ = {request['beta']:g}: clusters, and the steps of the energy"
    )


def _circle(axis: Any, request: dict[str, Any], arrays: dict[str, Any], k: int) -> None:
    turn = np.linspace(0, 2 * np.pi, 200)
    axis.plot(np.cos(turn), np.sin(turn), color="0.85", linewidth=0.8)
    start, x = arrays["x"][0], arrays["x"][k]
    axis.plot(1.12 * start[:, 0], 1.12 * start[:, 1], ".", color=style.SKY, markersize=5)
    axis.plot(x[:, 0], x[:, 1], "o", color=style.RED, markersize=6, alpha=0.5)
    axis.set_aspect("equal")
    axis.set_xlim(-1.25, 1.25)
    axis.set_ylim(-1.25, 1.25)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_xlabel("tokens; outside, where they started")
    count = int(arrays["counts"][k])
    axis.set_title(f"t = {arrays['times'][k]:.3g}, {count} clusters", loc="left")


def _steps(axis: Any, arrays: dict[str, Any], k: int) -> None:
    times = arrays["times"][1:]
    axis.step(times, arrays["plateau"][1:], where="mid", color=style.ORANGE, linewidth=1.1)
    axis.plot(times[:k], arrays["energy"][1 : k + 1], color=style.BLUE)
    axis.set_xscale("log")
    axis.set_xlim(times[0], times[-1])
    axis.set_ylim(0, 1.05 * float(np.max(arrays["energy"])))
    axis.set_xlabel("time")
    axis.set_title("energy (blue), sum of squared masses (orange)", loc="left")
