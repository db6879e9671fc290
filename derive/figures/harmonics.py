"""Growth of the uniform law's harmonics on the circle: derived rates beside tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "models": ["sphere_attention"],
    "tokens": 256,
    "betas": [1.0, 4.0, 16.0],
    "degrees": [1, 2, 3, 4, 5, 6, 7, 8],
    "size": 1e-5,
}
COLOURS = (style.BLUE, style.ORANGE, style.GREEN)
GROWN, LONGEST = 0.25, 2.0  # log of the growth at which a rate is read off; or the time


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module = model(r["models"][0])
    derived, measured = [], []
    for k, beta in enumerate(r["betas"]):
        params = module.Params(beta=np.float64(beta))
        rates = [float(module.growth(degree, params, 2)) for degree in r["degrees"]]
        derived.append(rates)
        pairs = zip(r["degrees"], rates, strict=True)
        measured.append([_of_tokens(module, params, r, degree, rate) for degree, rate in pairs])
        progress((k + 1) / len(r["betas"]))
    return {"derived": np.array(derived), "measured": np.array(measured)}


def _of_tokens(module: Any, params: Any, r: dict[str, Any], degree: int, rate: float) -> float:
    """The rate of a Fourier mode of tokens that are uniform but for a little of it."""
    even = 2 * np.pi * np.arange(r["tokens"]) / r["tokens"]
    angle = even - r["size"] / degree * np.sin(degree * even)
    x0 = np.stack([np.cos(angle), np.sin(angle)], 1)
    t1 = min(GROWN / rate, LONGEST)
    found = module.solve(x0, params, t1=t1, saves=[0.0, t1], rtol=1e-10)
    turned = np.arctan2(found.x[..., 1], found.x[..., 0])
    modes = np.exp(1j * degree * turned).mean(axis=1).real
    return float(np.log(modes[1] / modes[0]) / t1)


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    figure, axes = style.panels(1, width=4.6, height=3.4)
    axis = axes[0][0]
    colours = COLOURS[: len(request["betas"])]
    rows = zip(request["betas"], arrays["derived"], arrays["measured"], colours, strict=True)
    for beta, derived, measured, colour in rows:
        axis.plot(request["degrees"], derived, color=colour, label=f"$\\beta$ = {beta:g}")
        axis.plot(request["degrees"], measured, "o", color=colour, markersize=4)
    axis.set_xlabel("degree of the harmonic")
    axis.set_ylim(0, 1.2 * float(np.max(arrays["derived"])))
    axis.set_title("growth rate; lines derived, dots tokens", loc="left")
    style.legend(axis)
    style.title(figure, f"{request['tokens']} tokens, nearly uniform on the circle")
    return figure
