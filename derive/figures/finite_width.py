"""Weak error against the width: the SDE of the limit, and the SDE with its first correction.

E V_12 at time T of the finite network, of the SDE and of the SDE at the network's width.  All three
are V_12(0) plus the mean drifts summed along paths: for the network the mean of one layer, which
the derivation gives exactly at every width.  What V does beyond its summed drifts is a martingale,
so its entries, at T and averaged over time, are control variates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.figures import style
from derive.figures.models import model
from derive.registry import find, load
from derive.verify.covariance_sde.layer_mean import layer_mean

REQUEST: dict[str, Any] = {
    "model": "shaped_relu_mlp",
    "params": {"gamma": 0.8, "c_plus": 0.0, "c_minus": -2.0},
    "V_12": 0.2,
    "T": 0.5,
    "widths": [8, 16, 32, 64],
    "networks": 2**14,  # of one width
    "paths": 2**15,  # of an SDE
    "dt": 1 / 256,
    "seed": 7,
}


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    parts, done = 2 * len(r["widths"]) + 1, 0
    rows = {"network": [], "corrected": []}  # type: dict[str, list[tuple[float, float]]]
    limit = _sde(r, None)
    for n in r["widths"]:
        rows["network"].append(_network(r, n))
        done += 1
        progress(done / parts)
        rows["corrected"].append(_sde(r, n))
        done += 1
        progress(done / parts)
    return {"limit": np.array(limit), **{k: np.array(v) for k, v in rows.items()}}


def _sde(r: dict[str, Any], width: int | None) -> tuple[float, float]:
    """Mean of V_12 and its standard error."""
    module = model(r["model"])
    params = module.Params(**r["params"])
    V0 = style.start(2, r["V_12"])
    options = {} if width is None else {"width": width}
    steps = round(r["T"] / r["dt"] / 8)
    run = module.simulate(
        V0,
        params,
        t1=r["T"],
        paths=r["paths"],
        seed=r["seed"],
        dt=r["dt"],
        saves=steps + 1,
        **options,
    )
    drift = module.drift
    if width is not None:
        params = module.ParamsAtWidth(**r["params"], width=float(width))
        drift = module.drift_at_width
    with jax.enable_x64(True):
        rates = np.asarray(jax.jit(lambda V: drift(V, params))(jnp.asarray(run.V)))
    summed = np.zeros_like(rates)
    step = r["T"] / steps
    summed[:, 1:] = np.cumsum((rates[:, 1:] + rates[:, :-1]) * step / 2, axis=1)
    away = run.V - V0 - summed
    return _controlled(r["V_12"] + summed[:, -1, 0, 1], away[:, -1], away.mean(axis=1))


def _network(r: dict[str, Any], n: int) -> tuple[float, float]:
    """The same of the network of width n, layer by layer from the definition's text."""
    module, rate = model(r["model"]), _rate(r["model"])
    depth = round(r["T"] * n)
    V0 = style.start(2, r["V_12"])
    paths = r["networks"]
    shapes = [(n,) * len(shape) for shape in module._SPEC.weight_shapes.values()]
    with jax.enable_x64(True):
        params = module.Params(**r["params"])
        X = jnp.zeros((paths, 2, n)).at[:, :, :2].set(np.sqrt(n) * np.linalg.cholesky(V0))
        key = jax.random.key(r["seed"] + n)
        summed, mean_away = np.zeros((paths, 2, 2)), np.zeros((paths, 2, 2))
        V = np.tile(V0, (paths, 1, 1))
        for _ in range(depth):
            key, *keys = jax.random.split(key, 1 + len(shapes))
            weights = module.Weights(*(Drawn(k, s) for k, s in zip(keys, shapes, strict=True)))
            summed += rate(V, r["params"], n) / n
            X = module.layer(X, weights, params, module.Dims(n=float(n)))
            V = np.asarray(X @ X.mT) / n
            away = V - V0 - summed
            mean_away += away / depth
    return _controlled(r["V_12"] + summed[:, 0, 1], away, mean_away)


@cache
def _rate(name: str) -> Callable[..., np.ndarray]:
    return layer_mean(load(find(name)))


class Drawn:
    """A weight of iid normals that is multiplied once: rows @ W = L G with L L^T = rows rows^T.

    In law the dense product, for a hundredth of the normals; the rows must be independent.
    """

    def __init__(self, key: jax.Array, shape: tuple[int, ...]) -> None:
        self.key: jax.Array | None = key
        self.shape = shape

    def __rmatmul__(self, rows: jax.Array) -> jax.Array:
        if self.key is None:
            raise ValueError("this weight is used twice: it must be drawn as a whole")
        key, self.key = self.key, None
        L = jnp.linalg.cholesky(rows @ rows.mT)
        return L @ jax.random.normal(key, (*rows.shape[:-1], self.shape[1]), rows.dtype)


def _controlled(value: np.ndarray, *away: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of `value` after regression on martingales (paths, 2, 2)."""
    entries = [(0, 0), (0, 1), (1, 1)]
    controls = np.stack([a[:, i, j] for a in away for i, j in entries], axis=-1)
    slope = np.linalg.lstsq(controls, value - value.mean(), rcond=None)[0]
    left = value - controls @ slope
    return float(left.mean()), float(left.std() / np.sqrt(len(left)))


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    r = request
    n = np.array(r["widths"], dtype=float)
    network, corrected, limit = (arrays[k] for k in ("network", "corrected", "limit"))
    figure, ((left, right),) = style.panels(2, width=3.4)
    left.axhline(limit[0], color=style.ORANGE, label="SDE of the limit")
    left.plot(n, corrected[:, 0], "s-", color=style.BLUE, markersize=4, label="SDE at width n")
    left.errorbar(
        n, network[:, 0], 2 * network[:, 1], fmt="o", color="black", markersize=4, label="network"
    )
    left.set_ylabel(f"E V$_{{12}}$ at t = {r['T']:g}")
    for reference, colour, mark, label in (
        (limit[None], style.ORANGE, "o", "SDE of the limit"),
        (corrected, style.BLUE, "s", "SDE at width n"),
    ):
        gap = np.abs(network[:, 0] - reference[:, 0])
        error = 2 * np.hypot(network[:, 1], reference[:, 1])
        right.errorbar(n, gap, error, fmt=mark, color=colour, markersize=4, label=label)
        power = -0.5 if colour == style.ORANGE else -1.0
        line = gap[0] * (n / n[0]) ** power
        right.plot(n, line, "--", color=colour, linewidth=1)
        text = "n$^{-1/2}$" if power == -0.5 else "n$^{-1}$"
        right.annotate(text, (n[-1], line[-1]), xytext=(5, -3), textcoords="offset points")
    right.set_ylabel("error of E V$_{12}$")
    right.set_yscale("log")
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xticks(n, [f"{k:g}" for k in n])
        axis.minorticks_off()
        axis.set_xlabel("width n, depth n T")
        style.legend(axis)
    right.set_xlim(n[0] / 1.2, n[-1] * 1.6)
    given = ", ".join(f"{k} = {v:g}" for k, v in r["params"].items())
    style.title(figure, f"{r['model']}: two tokens, {given}, V$_{{12}}$(0) = {r['V_12']:g}")
    return figure
