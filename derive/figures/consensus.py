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
    "tokens": [32, 128],
    "dimension": 64,
    "systems": [4, 1],
    "betas": [0.1, 1.0, 2.0, 3.0, 4.0, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 9.0],
    "t1": 30.0,
    "saves": 91,
    "agreed": 0.999,
    "seed": 0,
}


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module = model(r["models"][0])
    times = np.linspace(0, r["t1"], r["saves"])
    out: dict[str, Any] = {"times": times}
    for row, (n, systems) in enumerate(zip(r["tokens"], r["systems"], strict=True)):
        rng = np.random.default_rng([r["seed"], row])
        x0 = rng.standard_normal((systems, n, r["dimension"]))
        pairs = np.triu_indices(n, 1)
        shares, curve = [], []
        for k, beta in enumerate(r["betas"]):
            p = module.Params(beta=np.float64(beta))
            found = module.solve(x0, p, t1=r["t1"], saves=times, rtol=1e-5, project=True)
            gram = found.x @ found.x.mT
            agreed = (gram > r["agreed"])[..., pairs[0], pairs[1]]
            shares.append(agreed.mean(axis=(0, 2)))
            curve.append(_agreed(module, p, n, r["agreed"]))
            progress((row + (k + 1) / len(r["betas"])) / len(r["tokens"]))
        out[f"share_{n}"], out[f"curve_{n}"] = np.array(shares), np.array(curve)
    return out


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
    figure, axes = style.panels(len(r["tokens"]), width=4.0, height=3.3)
    for axis, n in zip(axes[0], r["tokens"], strict=True):
        mesh = axis.pcolormesh(
            arrays["times"],
            r["betas"],
            arrays[f"share_{n}"],
            cmap="Blues",
            vmin=0,
            vmax=1,
            shading="nearest",
        )
        axis.plot(arrays[f"curve_{n}"], r["betas"], color=style.RED, label="equal angles, derived")
        axis.set_xlim(0, r["t1"])
        axis.set_xlabel("time")
        axis.set_title(f"{n} tokens", loc="left")
    axes[0][0].set_ylabel(r"$\beta$")
    style.legend(axes[0][0])
    figure.colorbar(mesh, ax=axes[0][-1]).ax.set_title("share", fontsize=8)
    style.title(
        figure,
        f"share of pairs whose cosine is above {r['agreed']}: self-attention on the sphere of "
        f"$\\mathbb{{R}}^{{{r['dimension']}}}$",
    )
    return figure
