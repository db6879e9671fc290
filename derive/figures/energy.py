"""Energy along the flow, and what the identity of its dissipation says it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "models": ["sphere_attention", "sphere_attention_unnormalised"],
    "titles": ["softmax", "without a normaliser"],
    "tokens": 32,
    "dimension": 3,
    "beta": 3.0,
    "t1": [12.0, 3.0],
    "intervals": 24,
    "nodes": 6,
    "seed": 4,
}


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    """The energy at the ends of intervals, and the start's plus the integral of the dissipation,
    by Gauss points within each."""
    r = request
    x0 = np.random.default_rng(r["seed"]).standard_normal((r["tokens"], r["dimension"]))
    x0 /= np.linalg.norm(x0, axis=1, keepdims=True)
    out: dict[str, Any] = {}
    z, w = np.polynomial.legendre.leggauss(r["nodes"])
    for k, (name, t1) in enumerate(zip(r["models"], r["t1"], strict=True)):
        module = model(name)
        params = module.Params(beta=np.float64(r["beta"]))
        ends = np.linspace(0.0, np.sqrt(t1), r["intervals"] + 1) ** 2  # closer at the start
        inside = ends[:-1, None] + (z + 1) / 2 * np.diff(ends)[:, None]
        times = np.sort(np.concatenate([ends, inside.ravel()]))
        found = module.solve(x0, params, t1=t1, saves=times, rtol=1e-9)
        rate = _dissipation(module, found.x[np.isin(times, inside)], params)
        grown = (rate.reshape(inside.shape) * w / 2).sum(1) * np.diff(ends)
        energy = found.energy[np.isin(times, ends)]
        out[f"{name}_times"], out[f"{name}_energy"] = ends, energy
        out[f"{name}_identity"] = energy[0] + np.concatenate([[0.0], np.cumsum(grown)])
        progress((k + 1) / len(r["models"]))
    return out


def _dissipation(module: Any, x: np.ndarray, params: Any) -> np.ndarray:
    """Sum of mass g |x'|^2 at every time, with the derived weights g of the metric."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):

        def of(tokens: Any) -> Any:
            v = module.velocity(tokens, params)
            g = module.metric(tokens, params) if hasattr(module, "metric") else 1.0
            return jnp.mean(g * jnp.sum(v * v, axis=-1))

        return np.asarray(jax.jit(jax.vmap(of))(x))


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    figure, axes = style.panels(len(request["models"]), width=3.4, height=3.0)
    for axis, name, title in zip(axes[0], request["models"], request["titles"], strict=True):
        t = arrays[f"{name}_times"]
        axis.plot(t, arrays[f"{name}_energy"], color=style.BLUE, label="energy")
        identity = arrays[f"{name}_identity"]
        axis.plot(t, identity, "o", color=style.ORANGE, markersize=3.5, label="by its dissipation")
        off = np.max(np.abs(identity / arrays[f"{name}_energy"] - 1))
        axis.set_title(f"{title}: equal to {off:.0e}", loc="left")
        axis.set_xlabel("time")
    style.legend(axes[0][0])
    n, d, beta = request["tokens"], request["dimension"], request["beta"]
    style.title(figure, f"{n} tokens on the sphere of $\\mathbb{{R}}^{{{d}}}$, $\\beta$ = {beta:g}")
    return figure
