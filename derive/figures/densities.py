"""Densities of covariances: finite network against SDE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "model": "shaped_attention",
    "m": 3,
    "width": 200,
    "depth": 200,
    "covariance": 0.2,
    "gamma": 8**-0.5,
    "tau_0": 1.0,
    "paths": 16384,
    "bins": 60,
    "seed": 0,
}
QUANTITIES = ("variance", "covariance", "correlation")


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module = model(r["model"])
    V0 = style.start(r["m"], r["covariance"])
    params = module.Params(gamma=r["gamma"], tau_0=r["tau_0"])
    t1 = r["depth"] / r["width"]
    sde = module.simulate(
        V0,
        params,
        t1=t1,
        paths=r["paths"],
        seed=r["seed"],
        saves=[t1],
        progress=lambda s: progress(s / 2),
    )
    net = module.reduced_network(
        V0,
        params,
        width=r["width"],
        depth=r["depth"],
        paths=r["paths"],
        seed=r["seed"] + 1,
        saves=[r["depth"]],
        progress=lambda s: progress((1 + s) / 2),
    )
    out: dict[str, Any] = {}
    for name in QUANTITIES:
        pair = [_values(V[:, -1], name) for V in (sde.V, net.V)]
        both = np.concatenate([p.ravel() for p in pair])
        low, high = (-1, 1) if name == "correlation" else np.percentile(both, (0.1, 99.5))
        edges = np.linspace(low, high, r["bins"] + 1)
        out[f"{name}_edges"] = edges
        for values, which in zip(pair, ("sde", "network"), strict=True):
            counts = np.histogram(values, edges)[0]
            out[f"{name}_{which}"] = counts / (values.size * np.diff(edges))
        out[f"{name}_distance"] = _distance(*pair)
    return out


def _values(V: np.ndarray, name: str) -> np.ndarray:
    if name == "variance":
        return np.diagonal(V, axis1=-2, axis2=-1)
    if name == "correlation":
        return style.correlations(V)
    rows, columns = np.tril_indices(V.shape[-1], -1)
    return V[..., rows, columns]


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of two samples."""
    a, b = np.sort(a.ravel()), np.sort(b.ravel())
    at = np.concatenate([a, b])
    shares = [np.searchsorted(s, at, side="right") / len(s) for s in (a, b)]
    return float(np.max(np.abs(shares[0] - shares[1])))


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    r = request
    figure, axes = style.panels(3)
    labels = {
        "variance": r"variance $V^{aa}$",
        "covariance": r"covariance $V^{ab}$",
        "correlation": r"correlation $\rho^{ab}$",
    }
    for axis, name in zip(axes[0], QUANTITIES, strict=True):
        edges = arrays[f"{name}_edges"]
        axis.stairs(
            arrays[f"{name}_sde"], edges, fill=True, color=style.SKY, alpha=0.6, label="SDE"
        )
        axis.stairs(
            arrays[f"{name}_network"],
            edges,
            color=style.RED,
            linewidth=1.3,
            label=f"network, n = {r['width']}",
        )
        axis.set_xlabel(labels[name])
        axis.set_xlim(edges[0], edges[-1])
        axis.set_ylim(bottom=0)
        axis.set_title(f"KS distance {arrays[f'{name}_distance']:.3f}", loc="right", fontsize=8)
    axes[0][0].set_ylabel("density")
    style.legend(axes[0][0])
    style.title(
        figure,
        f"m = {r['m']}, n = d = {r['width']} (width = depth), $\\gamma = 1/\\sqrt{{8}}$, "
        f"$\\tau_0$ = {r['tau_0']:g}, $V_0^{{ab}}$ = {r['covariance']:g}; {r['paths']} paths each",
    )
    return figure
