"""Rank of the limit covariance of softmax attention: adaptive solver beside clipped Euler.

The experiment of Castin, Ablin, Carrillo and Peyre (arXiv 2501.18322): Q normal of shape
(d // 2, d), K = -Q, V = I, mean 0, S_0 = G G^T; the limit has rank dim ker Q = d - d // 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "model": "softmax_closure",
    "dims": [3, 4, 5],
    "draws": 100,
    "seed": 40,
    "T": 1e9,
    "step": 0.1,
    "clip": 1e-14,
    "stop": 1e-5,
    "limit": 20_000,
    "threshold": 0.1,
}


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module = model(r["model"])
    out: dict[str, Any] = {}
    for k, d in enumerate(r["dims"]):
        rng = np.random.default_rng((r["seed"], d))
        Q = rng.normal(size=(r["draws"], d // 2, d))
        G = rng.normal(size=(r["draws"], d, d))
        S0 = G @ np.swapaxes(G, -1, -2)
        progress(k / len(r["dims"]))
        out[f"solve_{d}"] = _solved(module, Q, S0, r["T"])
        progress((k + 0.4) / len(r["dims"]))
        out[f"euler_{d}"] = _euler(Q, S0, r)
    return out


def _solved(module: Any, Q: np.ndarray, S0: np.ndarray, T: float) -> np.ndarray:
    """Ranks: an eigenvalue is lost if log eigenvalue against log t falls faster than -1/2.

    Lost ones fall like 1 / t; kept ones, however small, stand still.
    """
    d = S0.shape[-1]
    params = module.Params(Q=Q, K=-Q, V=np.eye(d))
    found = module.solve(np.zeros(d), S0, params, t1=10 * T, saves=[T, 10 * T])
    sizes = np.linalg.svd(found.factor, compute_uv=False) ** 2
    return d - np.sum(np.log10(sizes[:, 1] / sizes[:, 0]) < -0.5, axis=-1)


def _euler(Q: np.ndarray, S0: np.ndarray, r: dict[str, Any]) -> np.ndarray:
    """Ranks by the usual shortcut: explicit Euler, negative eigenvalues clipped, a threshold."""
    d = S0.shape[-1]
    A = -np.swapaxes(Q, -1, -2) @ Q / np.sqrt(d)
    S, alive = S0.copy(), np.arange(len(S0))
    for _ in range(r["limit"]):
        half = S[alive] @ A[alive] @ S[alive]
        rate = half + np.swapaxes(half, -1, -2)
        values, vectors = np.linalg.eigh(S[alive] + r["step"] * rate)
        clipped = np.maximum(values, r["clip"])[:, None, :]
        S[alive] = (vectors * clipped) @ np.swapaxes(vectors, -1, -2)
        alive = alive[np.linalg.norm(rate, axis=(-1, -2)) >= r["stop"]]
        if not alive.size:
            break
    return np.sum(np.linalg.eigvalsh(S) > r["threshold"], axis=-1)


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    r = request
    figure, axes = style.panels(len(r["dims"]), width=2.9, sharey=True)
    for axis, d in zip(axes[0], r["dims"], strict=True):
        ranks = np.arange(d + 1)
        for shift, name, colour, hatch in (
            (-0.2, "solve", style.BLUE, None),
            (0.2, "euler", style.ORANGE, "///"),
        ):
            share = [100 * np.mean(arrays[f"{name}_{d}"] == k) for k in ranks]
            label = "adaptive solver" if name == "solve" else "Euler, clipped eigenvalues"
            axis.bar(
                ranks + shift,
                share,
                0.4,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.5,
                label=label,
            )
        right = d - d // 2
        axis.axvspan(right - 0.48, right + 0.48, color="0.9", zorder=0, label="dim ker Q")
        axis.set_xticks(ranks)
        axis.set_xlabel("rank of the limit")
        axis.set_title(f"d = {d}", loc="left")
    axes[0][0].set_ylabel("draws, %")
    axes[0][0].set_ylim(0, 102)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    style.title(
        figure,
        f"softmax attention on Gaussian laws, K = $-$Q of shape (d // 2, d), V = I; {r['draws']} "
        f"draws; Euler: step {r['step']:g}, eigenvalues above {r['threshold']:g} counted",
    )
    return figure
