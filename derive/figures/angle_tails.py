"""How angles close, by scheme of normalisation: reduced equations beside their derived tails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.dispatch import method
from derive.figures import style
from derive.figures.models import model
from derive.registry import find, load

REQUEST: dict[str, Any] = {
    "models": [
        "sphere_attention",
        "normalised_attention",
        "normalised_attention_peri",
        "normalised_attention_root",
    ],
    "titles": ["on the sphere", "pre", "peri", "root of the norm"],
    "tokens": 32,
    "beta": 1.0,
    "t1": 1e3,
    "points": 2000,
}
COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.RED)


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    clock = np.linspace(np.log(0.05), np.log(r["t1"]), r["points"])
    out: dict[str, Any] = {"times": np.exp(clock)}
    for k, name in enumerate(r["models"]):
        module = model(name)
        params = module.Params(beta=np.float64(r["beta"]))
        out[name] = _gap(module, params, r["tokens"], clock)
        out[f"{name}_power"] = _power(name)
        progress((k + 1) / len(r["models"]))
    return out


def _power(name: str) -> float:
    """The derived power of t with which 1 - rho falls; nan where it falls faster."""
    entry = find(name)
    found: Any = method(entry.method).derive(load(entry))
    found = found.closing
    return float(found.exponent) if found.kind == "power" else float("nan")


def _gap(module: Any, params: Any, n: int, clock: np.ndarray) -> np.ndarray:
    """1 - rho at the times of the clock from right angles and norm one, steps in log t."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):

        def rate(y: Any, s: Any) -> Any:
            if module._SPEC.sphere:
                found = module.equal_angle_rate(y[0], n, params), 0.0 * y[1]
            else:
                found = module.equal_angle_rate(y[0], y[1], n, params)
            return jnp.stack(found) * jnp.exp(s)

        def step(y: Any, given: Any) -> Any:
            s, h = given
            one = rate(y, s)
            two = rate(y + h / 2 * one, s + h / 2)
            three = rate(y + h / 2 * two, s + h / 2)
            new = y + h * (one + 2 * two + 2 * three + rate(y + h * three, s + h)) / 6
            return new, new[0]

        # up to the first time the rate at the start is all there is to tell
        first = rate(jnp.asarray([0.0, 1.0]), clock[0])
        start = jnp.asarray([0.0, 1.0]) + first
        h = np.diff(clock)
        _, way = jax.jit(lambda: jax.lax.scan(step, start, (jnp.asarray(clock[:-1]), h)))()
    return np.concatenate([[1 - float(start[0])], 1 - np.asarray(way)])


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    r, t = request, arrays["times"]
    figure, axes = style.panels(1, width=4.6, height=3.4)
    axis = axes[0][0]
    for name, title, colour in zip(r["models"], r["titles"], COLOURS, strict=True):
        power = float(arrays[f"{name}_power"])
        gap = np.where(arrays[name] > 1e-13, arrays[name], np.nan)
        axis.loglog(t, gap, color=colour, label=title)
        if np.isfinite(power):
            late = t > 20
            tail = arrays[name][-1] * (t[late] / t[-1]) ** -power
            axis.loglog(t[late], tail, "--", color="0.3", linewidth=0.9)
    axis.set_ylim(1e-8, 2)
    axis.set_xlabel("time")
    axis.set_title(r"$1 - \rho$ at equal angles; dashed: the derived powers", loc="left")
    style.legend(axis)
    style.title(
        figure, f"{r['tokens']} tokens, $\\beta$ = {r['beta']:g}, by scheme of normalisation"
    )
    return figure
