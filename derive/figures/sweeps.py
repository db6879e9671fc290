"""Correlation at a fixed depth / width, against the strength and the temperature of attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "model": "shaped_attention",
    "m": 3,
    "t1": 0.5,
    "width": 200,
    "covariance": 0.2,
    "gamma": 8**-0.5,
    "tau_0": 1.0,
    "gammas": [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95],
    "taus": [0.125, 0.18, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0],
    "paths": 4096,
    "networks": 1024,
    "seed": 0,
}
KINDS = ("gammas", "taus")


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module = model(r["model"])
    V0 = style.start(r["m"], r["covariance"])
    depth = round(r["t1"] * r["width"])
    total = sum(len(r[kind]) for kind in KINDS)
    out: dict[str, Any] = {}
    done = 0
    for kind in KINDS:
        sde, net = [], []
        for value in r[kind]:
            gamma, tau_0 = (value, r["tau_0"]) if kind == "gammas" else (r["gamma"], value)
            params = module.Params(gamma=gamma, tau_0=tau_0)
            paths = module.simulate(
                V0, params, t1=r["t1"], paths=r["paths"], seed=r["seed"], saves=[r["t1"]]
            )
            chain = module.reduced_network(
                V0,
                params,
                width=r["width"],
                depth=depth,
                paths=r["networks"],
                seed=r["seed"] + 1,
                saves=[depth],
            )
            sde.append(style.correlations(paths.V[:, -1]).ravel())
            net.append(style.correlations(chain.V[:, -1]).ravel())
            done += 1
            progress(done / total)
        out[f"{kind}_sde"] = style.percentiles(np.stack(sde))
        out[f"{kind}_network"] = style.percentiles(np.stack(net))
    return out


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    r = request
    figure, axes = style.panels(2, width=3.8, sharey=True)
    words = {
        "gammas": (r"strength $\gamma$", f"$\\tau_0$ = {r['tau_0']:g}"),
        "taus": (r"temperature $\tau_0$", r"$\gamma = 1/\sqrt{8}$"),
    }
    for axis, kind in zip(axes[0], KINDS, strict=True):
        x = np.array(r[kind])
        style.bands(axis, x, arrays[f"{kind}_sde"], style.BLUE, "SDE: median, 25-75 %, 5-95 %")
        low, _, middle, _, high = arrays[f"{kind}_network"]
        axis.errorbar(
            x,
            middle,
            yerr=(middle - low, high - middle),
            fmt="o",
            markersize=3.5,
            capsize=2,
            linewidth=0.9,
            color=style.RED,
            label=f"network, n = {r['width']}: median, 5-95 %",
        )
        axis.set_xlabel(words[kind][0])
        axis.set_title(words[kind][1], loc="left")
        if kind == "taus":
            axis.set_xscale("log")
            axis.set_xticks([0.125, 0.25, 0.5, 1, 2], ["1/8", "1/4", "1/2", "1", "2"])
            axis.minorticks_off()
    axes[0][0].set_ylabel(r"correlation $\rho^{ab}$")
    axes[0][0].set_ylim(-1.25, 1.02)
    axes[0][0].set_yticks([-1, -0.5, 0, 0.5, 1])
    style.legend(axes[0][0])
    style.title(
        figure,
        f"m = {r['m']}, depth / width = {r['t1']:g}, $V_0^{{ab}}$ = {r['covariance']:g}; "
        f"{r['paths']} SDE paths, {r['networks']} networks a point",
    )
    return figure
