"""When do tokens agree?  Share of pairs in consensus over time and temperature, for tokens that
start uniformly on a sphere of many dimensions, beside the derived equation of equal angles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "models": ["sphere_attention"],
    "tokens": 32,
    "dimension": 128,
    "systems": 4,
    "betas": [0.1, 1.0, 2.0, 3.0, 4.0, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 9.0],
    "t1": 30.0,
    "saves": 91,
    "agreed": 0.999,
    "seed": 0,
}


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module = model(r["models"][0])
    rng = np.random.default_rng(r["seed"])
    x0 = rng.standard_normal((r["systems"], r["tokens"], r["dimension"]))
    times = np.linspace(0, r["t1"], r["saves"])
    pairs = np.triu_indices(r["tokens"], 1)
    shares, curve = [], []
    for k, beta in enumerate(r["betas"]):
        p = module.Params(beta=np.float64(beta))
        found = module.solve(x0, p, t1=r["t1"], saves=times, rtol=1e-6, project=True)
        gram = np.einsum("stai,stbi->stab", found.x, found.x)[:, :, pairs[0], pairs[1]]
        shares.append((gram > r["agreed"]).mean(axis=(0, 2)))
        curve.append(_agreed(module, p, r["tokens"], r["agreed"]))
        progress((k + 1) / len(r["betas"]))
    return {"times": times, "share": np.array(shares), "curve": np.array(curve)}


def _agreed(module: Any, params: Any, n: int, cosine: float) -> float:
    """Time at which equal angles, right ones at the start, have the cosine: int d rho / rho'."""
    import jax

    z, w = np.polynomial.legendre.leggauss(25)  # on each of 16 panels: few eigenvalues
    u = ((np.arange(16)[:, None] + (z + 1) / 2) / 16).ravel()
    end = np.log(1 - cosine)  # in log(1 - rho), where the last stretch is even
    rho, share = -np.expm1(u * end), -end * np.exp(u * end) * np.tile(w / 32, 16)
    with jax.enable_x64(True):
        rate = np.asarray(module.equal_angle_rate(rho, n, params))
    return float(np.sum(share / rate))


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    r = request
    figure, axes = style.panels(1, width=5.2, height=3.4)
    axis = axes[0][0]
    mesh = axis.pcolormesh(
        arrays["times"],
        r["betas"],
        arrays["share"],
        cmap="Blues",
        vmin=0,
        vmax=1,
        shading="nearest",
    )
    axis.plot(arrays["curve"], r["betas"], color=style.RED, label="equal angles, derived")
    axis.set_xlim(0, r["t1"])
    axis.set_xlabel("time")
    axis.set_ylabel(r"$\beta$")
    axis.legend(loc="upper left")
    axis.set_title(f"share of pairs whose cosine is above {r['agreed']}", loc="left")
    figure.colorbar(mesh, ax=axis).ax.set_xlabel("share")
    style.title(
        figure, f"{r['tokens']} tokens of self-attention on the sphere of R^{r['dimension']}"
    )
    return figure
