"""Tokens of R^d that go to infinity: linear attention, and the times at which `solve` says so."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import colormaps

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "models": ["euclidean_linear_attention"],
    "systems": 8,
    "tokens": 16,
    "dimension": 3,
    "t1": 1.5,
    "saves": 1501,
    "seed": 1,
}


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module, d = model(r["models"][0]), r["dimension"]
    rng = np.random.default_rng(r["seed"])
    x0 = 0.7 * rng.standard_normal((r["systems"], r["tokens"], d))
    drawn = rng.standard_normal((3, d, d)) / np.sqrt(d)
    Q, K, V = np.eye(d) + 0.5 * drawn
    params = module.Params(Q=Q, K=K, V=V)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the blow-up that is drawn
        found = module.solve(x0, params, t1=r["t1"], saves=r["saves"], progress=progress)
    return {
        "times": found.times,
        "size": np.sqrt((found.x**2).sum(axis=(-1, -2)) / r["tokens"]),
        "ends": found.blow_up_time,
    }


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    figure, axes = style.panels(2, width=3.5, height=3.1)
    plain, near = axes[0]
    times, ends = arrays["times"], arrays["ends"]
    order = np.argsort(ends)
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(ends)))
    for colour, k in zip(colours, order, strict=True):
        size = arrays["size"][k]
        plain.plot(times, size, color=colour, linewidth=1.0)
        if np.isfinite(ends[k]):
            plain.axvline(ends[k], color=colour, linewidth=0.7, linestyle=":")
            left = ends[k] - times
            good = (left > 0) & np.isfinite(size)
            near.plot(left[good], size[good], color=colour, linewidth=1.0)
    plain.set_yscale("log")
    plain.set_xlabel("time; dotted: where it was told to end")
    plain.set_ylabel("root mean square of tokens")
    near.set_xscale("log")
    near.set_yscale("log")
    near.invert_xaxis()
    near.set_xlabel("time left before the told end")
    near.set_title("straight where the told time is right", loc="left")
    style.title(
        figure,
        f"linear attention in $\\mathbb{{R}}^{{{request['dimension']}}}$: tokens go to infinity",
    )
    return figure
