"""The picture of a closure: laws as ellipses over the tokens, eigenvalues against time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from derive.figures import style

COLOURS = (style.BLUE, style.GREEN, style.ORANGE, style.RED)  # of four times, or of positions
MOST = 4  # positions that have a panel
SHOWN = 400  # tokens


def closure_picture(name: str, arrays: Mapping[str, Any], exact: bool) -> Any:
    """From the arrays of the simulation; `exact`: Gaussian laws stay Gaussian."""
    mean, cov, times = arrays["mean"], arrays["cov"], arrays["times"]
    blocks = mean.shape[1] if mean.ndim == 3 else 0
    count = min(blocks, MOST) or 1
    figure, axes = style.panels(count + 1, width=3.4, height=3.2)
    for k, axis in enumerate(axes[0][:-1]):
        law = (mean[:, k], cov[:, k]) if blocks else (mean, cov)
        (_plane if mean.shape[-1] > 1 else _line)(axis, times, *law, arrays.get("tokens"))
        if blocks:
            axis.set_title(f"position {k + 1}: {axis.get_title(loc='left')}", loc="left")
    style.legend(axes[0][0])
    _eigenvalues(axes[0][-1], arrays)
    d = mean.shape[-1]
    words = f"{name.replace('_', ' ')}, d = {d}"
    words += f", {blocks} positions{f', {MOST} of them shown' * (blocks > MOST)}" * bool(blocks)
    words += "; Gaussian laws stay Gaussian" if exact else "; the law is closed as if Gaussian"
    if "tokens" in arrays:
        words += f"; lines: closure, dots: {arrays['tokens'].shape[1]} tokens"
    else:
        words += "; the closure alone"
    style.title(figure, words)
    return figure


def _chosen(times: np.ndarray, mean: np.ndarray) -> list[int]:
    """Four saves from the first to the last that holds numbers."""
    last = int(np.isfinite(mean).all(axis=-1).sum()) - 1
    return sorted({round(last * k / 3) for k in range(4)})


def _plane(axis: Any, times: np.ndarray, mean: np.ndarray, cov: np.ndarray, tokens: Any) -> None:
    angle = np.linspace(0, 2 * np.pi, 121)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    chosen = _chosen(times, mean)
    for k, colour in zip(chosen, COLOURS, strict=False):
        if tokens is not None and k < len(tokens):
            x = tokens[k, :SHOWN]
            axis.plot(x[:, 0], x[:, 1], ".", color=colour, markersize=2, alpha=0.3, zorder=1)
        values, vectors = np.linalg.eigh(cov[k][:2, :2])
        ring = vectors * np.sqrt(np.maximum(values, 0)) @ (2 * circle) + mean[k][:2, None]
        axis.plot(*ring, color=colour, linewidth=1.5, label=f"t = {times[k]:.3g}", zorder=3)
        axis.plot(*mean[k][:2], "+", color=colour, markersize=6, zorder=3)
    axis.set_aspect("equal", adjustable="datalim")
    plane = "" if mean.shape[-1] == 2 else ", coordinates 1, 2"
    axis.set_title(f"two standard deviations{plane}", loc="left")


def _line(axis: Any, times: np.ndarray, mean: np.ndarray, cov: np.ndarray, tokens: Any) -> None:
    """A law on the line against time."""
    m, s = mean[:, 0], np.sqrt(cov[:, 0, 0])
    if tokens is not None:
        axis.plot(times[: len(tokens)], tokens[:, :40, 0], color=style.ORANGE, linewidth=0.4)
    axis.plot(times, m, color=style.BLUE, label="mean")
    axis.plot(times, m - 2 * s, "--", color=style.BLUE, linewidth=1.1, label="2 deviations")
    axis.plot(times, m + 2 * s, "--", color=style.BLUE, linewidth=1.1)
    axis.set_title("mean, two standard deviations", loc="left")
    axis.set_xlabel("time")


def _eigenvalues(axis: Any, arrays: Mapping[str, Any]) -> None:
    times, cov = arrays["times"], arrays["cov"]
    blocks = cov if cov.ndim == 4 else cov[:, None]
    least, most = np.inf, 0.0
    for k in range(min(blocks.shape[1], MOST)):
        good = np.isfinite(blocks[:, k]).all(axis=(-1, -2))
        values = np.linalg.eigvalsh(blocks[good, k])
        colour = COLOURS[k] if cov.ndim == 4 else style.BLUE
        lines = axis.plot(times[good], values, color=colour, linewidth=1.4)
        if cov.ndim == 4:
            lines[0].set_label(f"position {k + 1}")
        least, most = min(least, values.min()), max(most, values.max())
    if "tokens" in arrays:
        found = arrays["tokens_cov"]
        good = np.isfinite(found).all(axis=(-1, -2))
        at = np.flatnonzero(good)[:: max(1, len(found) // 20)]
        dots = np.linalg.eigvalsh(found[at])
        axis.plot(arrays["tokens_times"][at], dots, ".", color=style.RED, markersize=5)
    if most > 30 * max(least, 1e-12 * most):
        axis.set_yscale("log")
        axis.set_ylim(bottom=max(least, 1e-12 * most) / 2)
    blow_up = float(arrays["blow_up_time"])
    if np.isfinite(blow_up):
        axis.axvline(blow_up, color="0.4", linewidth=0.9, linestyle="--")
    if cov.ndim == 4:
        style.legend(axis)
    end = f", blow-up at {blow_up:.4g}" * bool(np.isfinite(blow_up))
    axis.set_title(f"eigenvalues{end}" if end else "eigenvalues of the covariance", loc="left")
    axis.set_xlabel("time")
    axis.set_xlim(left=0)
