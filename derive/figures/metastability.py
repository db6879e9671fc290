"""Metastable clusters: how caps of tokens close, how long they stay, and the bounds of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "models": ["sphere_attention"],
    "angles": [0.0, 1.9, 3.9],
    "per_cap": 5,
    "spread": 0.03,
    "beta": 12.0,
    "closed": 1e-6,
    "orders": 2.5,
    "saves": 120,
    "seed": 2,
}


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module = model(r["models"][0])
    params = module.Params(beta=np.float64(r["beta"]))
    x0 = _start(r)
    bound = module.metastability(x0, params, spread=r["closed"])
    last = bound.stays * 10 ** r["orders"]
    times = np.concatenate([[0.0], np.geomspace(0.01, last, r["saves"])])
    found = module.solve(
        x0, params, t1=last, saves=times, rtol=1e-8, max_steps=1_000_000, progress=progress
    )
    caps = range(len(bound.centres))
    own = [found.x[:, bound.labels == k] for k in caps]
    spread = [1 - np.einsum("tai,tbi->tab", x, x).min(axis=(1, 2)) for x in own]
    means = [x.mean(axis=1) for x in own]
    centres = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in means]
    drift = [np.arccos(np.clip(c @ c[0], -1, 1)) for c in centres]
    toward = np.einsum("tai,ai->ta", found.x, bound.centres[bound.labels])
    return {
        "times": times,
        "spread": np.stack(spread),
        "drift": np.stack(drift),
        "furthest": 1 - toward.min(axis=1),
        "width": bound.width,
        "closes": bound.closes,
        "stays": bound.stays,
    }


def _start(request: dict[str, Any]) -> np.ndarray:
    rng = np.random.default_rng(request["seed"])
    turn = np.asarray(request["angles"])
    centres = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
    x = np.repeat(centres, request["per_cap"], axis=0)
    x = x + request["spread"] * rng.standard_normal(x.shape)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    figure, axes = style.panels(2, width=3.8, height=3.2)
    t = arrays["times"][1:]
    left, right = axes[0]
    for k, spread in enumerate(arrays["spread"]):
        label = "within each cap" if k == 0 else None
        left.loglog(t, np.maximum(spread[1:], 1e-16), color=style.BLUE, label=label)
    left.axhline(request["closed"], color="0.6", linewidth=0.8)
    _bound(left, arrays["closes"], "closed by")
    left.set_ylim(1e-14, 1)
    left.set_title(r"$1 -$ least cosine", loc="left")
    for k, drift in enumerate(arrays["drift"]):
        label = "centres' way" if k == 0 else None
        right.loglog(t, np.maximum(drift[1:], 1e-8), color=style.ORANGE, label=label)
    right.loglog(t, arrays["furthest"][1:], color=style.GREEN, label="furthest token")
    right.axhline(2 * float(arrays["width"]), color="0.6", linewidth=0.8)
    _bound(right, arrays["stays"], "together until")
    right.set_ylim(1e-5, 5)
    right.set_title("angle of centres; 1 - cosine to the first centre", loc="left")
    style.legend(right)
    for axis in (left, right):
        axis.set_xlim(t[0], t[-1])
        axis.set_xlabel("time")
    n = request["per_cap"] * len(request["angles"])
    style.title(
        figure,
        f"{n} tokens in {len(request['angles'])} caps, $\\beta$ = {request['beta']:g}; vertical: "
        "the derived bounds",
    )
    return figure


def _bound(axis: Any, time: Any, words: str) -> None:
    if np.isfinite(time):
        axis.axvline(float(time), color=style.RED, linewidth=1.1, linestyle="--")
        place = (float(time), 0.04)
        axis.annotate(
            f" {words}",
            place,
            xycoords=("data", "axes fraction"),
            color=style.RED,
            fontsize=8,
        )
