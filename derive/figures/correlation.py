"""Correlation of tokens against depth: shaped, Pre-LN and unshaped attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "model": "shaped_attention",
    "m": 6,
    "width": 200,
    "depth": 200,
    "covariance": 0.2,
    "gamma": 8**-0.5,
    "tau_0": 1.0,
    "paths": 256,
    "seed": 0,
}
NETWORKS = ("shaped", "Pre-LN", "unshaped")


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module = model(r["model"])
    V0 = style.start(r["m"], r["covariance"])
    layers = np.arange(r["depth"] + 1)
    params = module.Params(gamma=r["gamma"], tau_0=r["tau_0"])
    shaped = module.reduced_network(
        V0,
        params,
        width=r["width"],
        depth=r["depth"],
        paths=r["paths"],
        seed=r["seed"],
        saves=layers,
    )
    sde = module.simulate(
        V0,
        params,
        t1=r["depth"] / r["width"],
        paths=4096,
        seed=r["seed"] + 1,
        saves=layers / r["width"],
    )
    progress(0.2)
    out = {
        "layers": layers,
        "shaped": _percentiles(shaped.V),
        "sde": _percentiles(sde.V),
    }
    for k, name in enumerate(NETWORKS[1:]):
        rng = np.random.default_rng((r["seed"], k))
        step = _pre_ln if name == "Pre-LN" else _unshaped
        V = _network(V0, step, r, rng, lambda s, k=k: progress(0.2 + 0.4 * (k + s)))
        out[name] = _percentiles(V)
    progress(1.0)
    return out


def _percentiles(V: np.ndarray) -> np.ndarray:
    return style.percentiles(np.abs(np.moveaxis(style.correlations(V), 1, 0)))


def _network(
    V0: np.ndarray, step: Any, r: dict[str, Any], rng: np.random.Generator, progress: Any
) -> np.ndarray:
    """Covariances (paths, depth + 1, m, m) of a network of dense layers."""
    n, m = r["width"], r["m"]
    # Rows of a random orthonormal frame: X_0 X_0^T / n = V_0 exactly, in no special direction.
    frame = np.linalg.qr(rng.standard_normal((r["paths"], n, m)))[0].transpose(0, 2, 1)
    X = np.sqrt(n) * np.linalg.cholesky(V0) @ frame
    found = [X @ X.transpose(0, 2, 1) / n]
    for layer in range(r["depth"]):
        X = step(X, r, rng)
        found.append(X @ X.transpose(0, 2, 1) / n)
        progress((layer + 1) / r["depth"])
    return np.stack(found, axis=1)


def _attention(Y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Softmax attention of Y (paths, m, n) with weights iid N(0, 1 / n), n_k = n.

    Y W of a Gaussian matrix W is L Z in law, L L^T = Y Y^T / n and Z iid: no n x n matrix is drawn.
    """
    paths, m, n = Y.shape
    values, vectors = np.linalg.eigh(Y @ Y.transpose(0, 2, 1) / n)
    L = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
    queries, keys, carried = (L @ rng.standard_normal((paths, m, n)) for _ in range(3))
    logits = queries @ keys.transpose(0, 2, 1) / np.sqrt(n)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ carried


def _unshaped(X: np.ndarray, r: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    gamma = r["gamma"]
    return np.sqrt(1 - gamma**2) * X + gamma * _attention(X, rng)


def _pre_ln(X: np.ndarray, r: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    centred = X - X.mean(-1, keepdims=True)
    return X + _attention(centred / centred.std(-1, keepdims=True), rng)


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    r = request
    figure, axes = style.panels(3, sharey=True)
    words = {
        "shaped": r"shaped: $A = I + \mathrm{softmax} - 1/m$",
        "Pre-LN": r"Pre-LN: $X + \mathrm{softmax}(\cdot)\,\mathrm{LN}(X)\,W_V$",
        "unshaped": r"unshaped: $A = \mathrm{softmax}$",
    }
    colours = (style.BLUE, style.GREEN, style.RED)
    for axis, name, colour in zip(axes[0], NETWORKS, colours, strict=True):
        style.bands(axis, arrays["layers"], arrays[name], colour, "network, median")
        axis.set_title(words[name], loc="left")
        axis.set_xlabel("layer")
        axis.set_xlim(0, r["depth"])
        axis.set_ylim(0, 1.02)
    first = axes[0][0]
    for row in (0, 2, 4):
        label = "SDE: 5, 50, 95 %" if row == 2 else None
        style_ = {"color": "black", "linewidth": 1.0, "linestyle": (0, (4, 2)), "label": label}
        first.plot(arrays["layers"], arrays["sde"][row], **style_)
    style.legend(first)
    first.set_ylabel(r"$|\rho^{ab}|$, all pairs of tokens")
    style.title(
        figure,
        f"m = {r['m']} tokens, n = $n_k$ = {r['width']}, $\\gamma = 1/\\sqrt{{8}}$, "
        f"$\\tau_0$ = {r['tau_0']:g}, $V_0^{{ab}}$ = {r['covariance']:g}; median, "
        f"25-75 % and 5-95 % of {r['paths']} networks",
    )
    return figure
