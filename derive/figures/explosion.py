"""Explosion of two tokens: share of paths that left every bound, against time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "model": "shaped_attention",
    "covariance": 0.2,
    "tau_0": 0.25,
    "t1": 4.0,
    "radius": 1e6,
    "below": [0.125, 0.25, 0.375, 0.45],
    "above": [0.55, 0.7, 0.9],
    "paths": 4096,
    "saves": 201,
    "seed": 0,
}


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module = model(r["model"])
    V0 = style.start(2, r["covariance"])
    times = np.linspace(0, r["t1"], r["saves"])
    squares = [*r["below"], *r["above"]]
    shares = []
    for k, square in enumerate(squares):
        paths = module.simulate(
            V0,
            module.Params(gamma=square**0.5, tau_0=r["tau_0"]),
            t1=r["t1"],
            paths=r["paths"],
            seed=r["seed"] + k,
            saves=[r["t1"]],
            exit_radius=r["radius"],
            progress=lambda s, k=k: progress((k + s) / len(squares)),
        )
        shares.append(np.mean(paths.exit_time[:, None] <= times, axis=0))
    return {"times": times, "squares": squares, "shares": np.stack(shares)}


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    import matplotlib

    r = request
    figure, axes = style.panels(2, width=3.9)
    left, right = axes[0]
    squares, shares = arrays["squares"], 100 * arrays["shares"]
    few, many = len(r["below"]), len(r["above"])
    warm = matplotlib.colormaps["YlOrRd"](np.linspace(0.45, 0.95, few))
    cool = matplotlib.colormaps["Blues"](np.linspace(0.5, 0.95, many))
    for k, (square, share) in enumerate(zip(squares, shares, strict=True)):
        below = k < few
        left.plot(
            arrays["times"],
            share,
            color=warm[k] if below else cool[k - few],
            linestyle="-" if below else (0, (4, 1.5)),
            label=f"$\\gamma^2$ = {square:g}",
        )
    left.set_xlabel("depth / width")
    left.set_ylabel(f"paths with max |V| > {_power(r['radius'])}, %")
    left.set_xlim(0, r["t1"])
    left.set_ylim(bottom=-0.02 * max(1.0, shares.max()))
    left.legend(loc="best", ncols=2)
    last = shares[:, -1]
    # 95 % intervals of Wilson: of use at 0 of N too.
    low, high = _wilson(last / 100, r["paths"])
    right.errorbar(
        squares,
        last,
        yerr=(last - 100 * low, 100 * high - last),
        fmt="o",
        markersize=4,
        capsize=2.5,
        color=style.BLUE,
    )
    right.axvline(0.5, color="0.5", linewidth=1, linestyle=":")
    right.annotate(
        "criterion:\nexplodes iff $\\gamma^2 < 1/2$",
        (0.5, 0.95),
        xycoords=("data", "axes fraction"),
        xytext=(6, 0),
        textcoords="offset points",
        va="top",
        fontsize=8,
    )
    right.set_xlabel(r"$\gamma^2$")
    right.set_ylabel(f"share at depth / width = {r['t1']:g}, %")
    right.set_xlim(0, 1)
    style.title(
        figure,
        f"SDE of shaped attention, m = 2, $\\tau_0$ = {r['tau_0']:g}, "
        f"$V_0^{{ab}}$ = {r['covariance']:g}; {r['paths']} paths each, 95 % intervals",
    )
    return figure


def _power(radius: float) -> str:
    exponent = np.log10(radius)
    return f"$10^{{{exponent:.0f}}}$" if exponent == round(exponent) else f"{radius:g}"


def _wilson(share: np.ndarray, count: int, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
    return np.minimum(middle - half, share), np.maximum(middle + half, share)
