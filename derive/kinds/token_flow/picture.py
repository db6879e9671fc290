"""The picture of a token flow: tokens at four times, cosines of all pairs, the energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.patches import Circle

from derive.figures import style

PAIRS = 300  # that have a line


def flow_picture(name: str, arrays: Mapping[str, Any], sphere: bool) -> Any:
    """From the arrays of the simulation."""
    times, x = arrays["times"], arrays["tokens"]
    figure, axes = style.panels(3 if "energy" in arrays else 2, width=3.4, height=3.2)
    _tokens(axes[0][0], times, x, sphere)
    _cosines(axes[0][1], arrays)
    if "energy" in arrays:
        _energy(axes[0][2], arrays)
    n, d = x.shape[1:]
    where = f"on the sphere of $\\mathbb{{R}}^{{{d}}}$" if sphere else f"in $\\mathbb{{R}}^{{{d}}}$"
    style.title(figure, f"{name.replace('_', ' ')}: {n} tokens {where}")
    return figure


def _tokens(axis: Any, times: np.ndarray, x: np.ndarray, sphere: bool) -> None:
    """Ways of the tokens in two coordinates; more than three are seen along the principal axes."""
    good = np.isfinite(x).all(axis=(1, 2))
    seen, times = x[good], times[good]
    d = x.shape[-1]
    label = "coordinates 1, 2"
    if d > 3:
        flat = seen.reshape(-1, d)
        axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:2]
        seen, label = seen @ axes.T, "two principal axes"
    if d == 1:
        axis.plot(times, seen[..., 0], color=style.BLUE, linewidth=0.7)
        axis.set_title("tokens", loc="left")
        axis.set_xlabel("time")
        return
    if sphere and d <= 3:
        axis.add_patch(Circle((0, 0), 1, fill=False, color="0.7", linewidth=0.8))
    axis.plot(seen[..., 0], seen[..., 1], color=style.SKY, linewidth=0.6, alpha=0.7, zorder=1)
    for k, colour, size in ((0, style.ORANGE, 14), (-1, style.RED, 22)):
        label_ = f"t = {times[k]:.3g}"
        axis.scatter(seen[k, :, 0], seen[k, :, 1], s=size, color=colour, label=label_, zorder=3)
    axis.set_aspect("equal", adjustable="datalim")
    style.legend(axis)
    axis.set_title(f"tokens, {label}", loc="left")


def _cosines(axis: Any, arrays: Mapping[str, Any]) -> None:
    times, x = arrays["times"], arrays["tokens"]
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    first, second = np.triu_indices(x.shape[1], 1)
    chosen = np.linspace(0, len(first) - 1, min(PAIRS, len(first))).astype(int)
    pairs = np.einsum("tpi,tpi->tp", unit[:, first[chosen]], unit[:, second[chosen]])
    axis.plot(times, pairs, color=style.BLUE, linewidth=0.5, alpha=0.35)
    if "equal_angle" in arrays:
        axis.plot(times, arrays["equal_angle"], "--", color=style.RED, label="reduced equation")
        style.legend(axis)
    axis.set_ylim(-1.05, 1.05)
    axis.set_title("cosines of pairs of tokens", loc="left")
    axis.set_xlabel("time")


def _energy(axis: Any, arrays: Mapping[str, Any]) -> None:
    axis.plot(arrays["times"], arrays["energy"], color=style.BLUE)
    axis.set_title("energy", loc="left")
    axis.set_xlabel("time")
