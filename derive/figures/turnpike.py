"""State, control and costate over a long horizon, and the distance to the static optimum.

Where the control stops at a time T*, the last panel shows what it could gain against its price;
where there is no turnpike, the size of the control.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from derive.figures import style
from derive.figures.instances import TITLES, instance
from derive.figures.models import model

REQUEST: dict[str, Any] = {"saves": 401, "tolerance": 1e-10, "starts": 16, "seed": 0}
PARTS = ("x", "u", "p")


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module = model(r["model"])
    params, first, T = instance(r["model"])
    progress(0.05)
    params = module.Params(**params)
    found = module.turnpike(params, starts=r["starts"], seed=r["seed"])
    progress(0.5)
    options = solver_options(module, found, T, r["saves"], r["tolerance"])
    solution = module.solve(module.State(**first), params, T=T, **options)
    progress(0.9)
    return series(module, params, solution, found, T)


def solver_options(
    module: Any, found: Any, T: float, saves: int, tolerance: float
) -> dict[str, Any]:
    """What `solve` is handed beside the problem; `found`: the turnpike."""
    if module._SPEC.free_time:
        return {"near": found, "saves": saves, "tolerance": tolerance}
    if found.verdict == "finite_time" or module._SPEC.sparse in ("l1", "l2norm"):
        return {"near": found}  # the solution comes at its own times
    return {"near": found, "saves": np.linspace(0, T, saves), "tolerance": tolerance}


def series(module: Any, params: Any, solution: Any, found: Any, T: float) -> dict[str, Any]:
    """What is drawn of an extremal beside its static optimum."""
    out: dict[str, Any] = {
        "times": solution.times,
        "rate": found.rate,
        "verdict": found.verdict,
        "cost": solution.cost,
        "stop": np.nan if solution.stop is None else solution.stop,
        "T": T,
    }
    if solution.stop is None:
        out["defect"] = solution.residuals.defect
    else:
        out |= _pull(module, params, solution)
    for part in PARTS:
        along, static = getattr(solution, part), getattr(found, part)
        flat = [np.reshape(a, (len(solution.times), -1)) for a in along]
        out[part] = np.concatenate(flat, axis=1)
        out[f"{part}_static"] = np.concatenate([np.ravel(s) for s in static])
        out[f"{part}_names"] = [
            f"{name}_{{{''.join(str(i + 1) for i in at)}}}"
            for name in along._fields
            for at in np.ndindex(np.shape(getattr(static, name)))
        ]
    return out


def _pull(module: Any, params: Any, solution: Any) -> dict[str, Any]:
    """What a control of size one would gain, max |H_u| without its price, and that price."""
    x, p = (type(a)(*a) for a in (solution.x, solution.p))
    none = type(solution.u)(*(np.zeros_like(a) for a in solution.u))
    slopes = module.stationarity(x, p, none, params)
    count = len(solution.times)
    flat = np.concatenate([np.reshape(np.asarray(s), (count, -1)) for s in slopes], 1)
    one = [np.zeros_like(np.asarray(a)[0]) for a in none]
    still = type(none)(*one)
    one[0] = np.array(one[0])
    one[0].flat[0] = 1.0
    first = type(x)(*(np.asarray(a)[0] for a in x))
    price = module.running_cost(first, type(none)(*one), params) - module.running_cost(
        first, still, params
    )
    return {"pull": np.max(np.abs(flat), axis=1), "price": np.asarray(price)}


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    return drawn(request["model"], TITLES[request["model"]], arrays)


def drawn(name: str, what: str, arrays: dict[str, Any]) -> Any:
    """The figure of a model; `what` it is, in words."""
    figure, axes = style.panels(4, width=2.9, height=2.9)
    times = arrays["times"]
    words = {"x": "state", "u": "control", "p": "costate"}
    palette = (style.BLUE, style.RED, style.GREEN, style.ORANGE, style.PURPLE, style.SKY)
    for axis, part in zip(axes[0], PARTS, strict=False):
        values, names = arrays[part], [str(n) for n in arrays[f"{part}_names"]]
        columns = [k for k in range(values.shape[1]) if not _repeats(values, k)]
        _stop(axis, arrays)
        for k in columns:
            colour, dash = palette[k % 6], ("-", "--", ":", "-.")[k // 6 % 4]
            shown = names[k] if part != "p" else f"p_{{{names[k]}}}"
            label = f"${shown}$" if len(columns) <= 6 else None
            steps = "steps-post" if part == "u" and np.isfinite(arrays["stop"]) else "default"
            line = {"color": colour, "linewidth": 1.3, "label": label, "drawstyle": steps}
            axis.plot(times, values[:, k], dash, **line)
            static = arrays[f"{part}_static"][k]
            if str(arrays["verdict"]) != "none" and np.isfinite(static):
                axis.axhline(static, color=colour, linewidth=0.7, linestyle=(0, (1, 2)))
        axis.set_title(words[part], loc="left")
        axis.set_xlabel("time")
        axis.set_xlim(0, times[-1])
        if len(columns) <= 6:
            style.legend(axis)
    if np.isfinite(arrays["stop"]):
        _price(axes[0][3], arrays)
        said = f", $T^*$ = {float(arrays['stop']):.4g}"
    elif np.isfinite(arrays["rate"]):
        _distance(axes[0][3], arrays)
        said = f", rate $\\mu$ = {float(arrays['rate']):.4g}"
    else:
        _size(axes[0][3], arrays)
        said = ""
    verdict = str(arrays["verdict"])
    dotted = verdict != "none" and np.all(np.isfinite(arrays["x_static"]))
    static = "dotted: static optimum, " if dotted else ""
    style.title(
        figure,
        f"{name.replace('_', ' ')}: {what}; {static}verdict {verdict.replace('_', ' ')}{said}",
    )
    return figure


def _stop(axis: Any, arrays: dict[str, Any]) -> None:
    if np.isfinite(arrays["stop"]):
        axis.axvline(arrays["stop"], color="0.4", linewidth=0.9, linestyle="--")


def _price(axis: Any, arrays: dict[str, Any]) -> None:
    price, times = float(arrays["price"]), arrays["times"]
    axis.semilogy(times, np.maximum(arrays["pull"], 1e-3 * price), color=style.BLUE)
    axis.axhline(price, color=style.RED, linewidth=1.1, linestyle="--")
    axis.text(times[-1], 1.25 * price, "price of the control", ha="right", color=style.RED)
    _stop(axis, arrays)
    axis.annotate(
        "$T^*$", (arrays["stop"], 0.96), xycoords=("data", "axes fraction"), xytext=(3, 0),
        textcoords="offset points", va="top",
    )  # fmt: skip
    axis.set_title("gain of the best control, $|F^\\top p|_\\infty$", loc="left")
    axis.set_xlabel("time")
    axis.set_xlim(0, times[-1])


def _size(axis: Any, arrays: dict[str, Any]) -> None:
    times = arrays["times"]
    size = np.linalg.norm(arrays["u"], axis=1)
    axis.plot(times, size, color=style.BLUE)
    axis.set_ylim(0, 1.5 * size.max())
    axis.set_title("size of the control, $|u|$", loc="left")
    axis.set_xlabel("time")
    axis.set_xlim(0, times[-1])


def _repeats(values: np.ndarray, k: int) -> bool:
    """Whether a column is one of those before it, as in a symmetric matrix."""
    return any(np.allclose(values[:, k], values[:, j], atol=1e-12) for j in range(k))


def distance(arrays: dict[str, Any]) -> np.ndarray:
    """|x - xs| + |p - ps| at the saved times."""
    gaps = [np.linalg.norm(arrays[k] - arrays[f"{k}_static"], axis=1) for k in ("x", "p")]
    return np.asarray(gaps[0] + gaps[1])


def _distance(axis: Any, arrays: dict[str, Any]) -> None:
    times, gap = arrays["times"], distance(arrays)
    rate, T = float(arrays["rate"]), float(arrays["times"][-1])
    axis.semilogy(times, gap, color=style.BLUE, label=r"$|x - \bar x| + |p - \bar p|$")
    # Slopes are predicted, offsets fitted where the end in question alone matters.
    ends = [(0.0, -rate)] if str(arrays["verdict"]) == "entry_only" else [(0.0, -rate), (T, rate)]
    reach = 1.0 if len(ends) == 1 else 0.5
    shown = gap > 10 * gap.min()
    for end, slope in ends:
        near = shown & (np.abs(times - end) > 0.15 * T) & (np.abs(times - end) < 0.35 * T)
        if not near.any() or not np.isfinite(rate):
            continue
        offset = np.mean(np.log(gap[near]) - slope * times[near])
        span = times[np.abs(times - end) <= reach * T]
        sign = "-" if len(ends) == 1 else r"\pm"
        label = rf"slope ${sign}\mu$, predicted" if end == 0 else None
        line = {"color": style.RED, "linestyle": "--", "linewidth": 1.1, "label": label}
        axis.semilogy(span, np.exp(offset + slope * span), **line)
    axis.set_ylim(max(gap.min() / 5, 1e-13), 30 * gap.max())
    axis.set_title("distance to the turnpike", loc="left")
    axis.set_xlabel("time")
    axis.set_xlim(0, T)
    style.legend(axis)
