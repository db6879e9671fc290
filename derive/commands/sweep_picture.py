"""The picture of a sweep: lines with bands over one parameter, maps with their values over two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from derive.contract import Swept
from derive.figures import style
from derive.kinds.tex import tex

COLOURS = (style.SKY, style.ORANGE, style.GREEN, style.BLUE)  # times; the last one is t1
WRITTEN = 16  # columns of a map up to which its values are written into it


def picture(
    model: str,
    axes: Mapping[str, list[float]],
    columns: Mapping[str, np.ndarray],
    swept: Swept,
    show: str | None,
) -> Any:
    """The quantity `show`, and the share beside it, against the one or two parameters."""
    show = show or next(iter(swept.quantities))
    shape = tuple(len(values) for values in axes.values())
    table = {name: x.reshape(*shape, len(swept.times)) for name, x in columns.items()}
    panels = ((show, swept.quantities[show]), swept.share)
    if len(shape) == 1:
        figure, drawn = style.panels(2, width=3.9, height=3.2)
        for axis, (name, title) in zip(drawn[0], panels, strict=True):
            _lines(axis, axes, table, name, title, swept.times)
        told = [axis for axis in drawn[0] if len(axis.lines) == min(4, len(swept.times)) > 1]
        if told:  # where bands are, a legend would lie on them
            told[-1].legend()
        last = f"t = {swept.times[-1]:.3g}"
        words = f"medians; bands at {last}: 25-75 % and 5-95 %" if f"{show}_q50" in table else ""
        if show in table and np.isnan(table[show]).any():
            words = "no mark: no solution there"
    else:
        wide = max(3.6, 0.52 * shape[1] + 1.6) if shape[1] <= WRITTEN else 5.0
        tall = max(2.8, 0.34 * shape[0] + 1.2) if shape[0] <= WRITTEN else 4.4
        figure, drawn = style.panels(2, width=wide, height=tall)
        for axis, (name, title) in zip(drawn[0], panels, strict=True):
            _map(figure, axis, axes, table, name, title)
        words = f"at t = {swept.times[-1]:.4g}"
        words += ", medians" if f"{show}_q50" in table else ""
    head = f"{model.replace('_', ' ')}: {swept.caption}; t: {swept.clock}"
    style.title(figure, "\n".join(filter(None, [head, words])))
    return figure


def _lines(
    axis: Any,
    axes: Mapping[str, list[float]],
    table: Mapping[str, np.ndarray],
    name: str,
    title: str,
    times: np.ndarray,
) -> None:
    (parameter, values), *_ = axes.items()
    places, ticks = _places(values)
    chosen = np.unique(np.linspace(0, len(times) - 1, min(4, len(times))).round().astype(int))
    for save, colour in zip(chosen, COLOURS[-len(chosen) :], strict=True):
        label = f"t = {times[save]:.3g}"
        if f"{name}_q50" in table:
            found = np.stack([table[f"{name}_q{level:02d}"][:, save] for level in style.LEVELS])
            if save == chosen[-1]:
                style.bands(axis, places, found, colour, label)
            else:
                axis.plot(places, found[2], color=colour, label=label)
            continue
        shown = np.where(np.isfinite(table[name][:, save]), table[name][:, save], np.nan)
        axis.plot(places, shown, color=colour, marker=".", label=label)
    constant = name in table and all(
        np.array_equal(table[name][:, 0], table[name][:, s], equal_nan=True) for s in chosen
    )
    if constant:  # one line for all times, such as the time of a blow-up
        for line in axis.lines[:-1]:
            line.remove()
    axis.set_title(title, loc="left")
    axis.set_xlabel(tex(parameter))
    margin = 0.03 * (places.max() - places.min())
    if _geometric(values):
        axis.set_xscale("log")
        axis.set_xlim(places.min() / 1.05, places.max() * 1.05)
    else:
        axis.set_xlim(places.min() - margin, places.max() + margin)
        if not ticks:  # few enough that their labels do not meet
            axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    if ticks:
        axis.set_xticks(places, ticks)
    if name in table and not np.isfinite(table[name]).any():
        axis.text(0.5, 0.5, "none", transform=axis.transAxes, ha="center", color="0.4")
        axis.set_yticks([])


def _map(
    figure: Any,
    axis: Any,
    axes: Mapping[str, list[float]],
    table: Mapping[str, np.ndarray],
    name: str,
    title: str,
) -> None:
    """Rows are the first parameter, increasing upwards; infinite values are written, not shaded."""
    values = table[f"{name}_q50" if f"{name}_q50" in table else name][..., -1]
    (below, rows), (across, columns) = axes.items()
    order = np.ix_(np.argsort(rows), np.argsort(columns))
    values, rows, columns = values[order], sorted(rows), sorted(columns)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    image = axis.imshow(
        np.where(np.isfinite(values), values, np.nan),
        **{"origin": "lower", "aspect": "auto", "cmap": "viridis"},
        **{"vmin": low, "vmax": high if high > low else low + 1},
    )
    axis.set_facecolor("0.92")
    if max(len(rows), len(columns)) <= WRITTEN:
        for (i, j), x in np.ndenumerate(values):
            dark = np.isfinite(x) and image.norm(x) < 0.6
            text, colour = _short(x), "white" if dark else "black"
            axis.text(j, i, text, ha="center", va="center", fontsize=6.5, color=colour)
    else:
        figure.colorbar(image, ax=axis)
    for set_ticks, ticks in ((axis.set_xticks, columns), (axis.set_yticks, rows)):
        kept = range(0, len(ticks), -(-len(ticks) // 10))
        set_ticks(list(kept), [_short(ticks[i]) for i in kept])
    axis.set_xlabel(tex(across))
    axis.set_ylabel(tex(below))
    axis.set_title(title + " (∞: none)" * bool(np.isinf(values).any()), loc="left")
    axis.spines[:].set_visible(False)


def _places(values: list[float]) -> tuple[np.ndarray, list[str]]:
    """Where values stand on the axis: an infinite one beyond the others, with its name."""
    x = np.array(values)
    finite = x[np.isfinite(x)]
    if len(finite) == len(x) or not finite.size:
        return (x, []) if finite.size else (np.arange(len(x)), [_short(v) for v in values])
    step = (finite.max() - finite.min()) / max(1, len(finite) - 1) or 1.0
    places = np.where(np.isfinite(x), x, np.where(x > 0, finite.max() + step, finite.min() - step))
    return places, [_short(v) for v in values]


def _geometric(values: list[float]) -> bool:
    """Whether the values stand at equal ratios rather than at equal distances."""
    x = np.array(values)
    if len(x) < 3 or not np.all((x > 0) & np.isfinite(x)):
        return False
    ratios = np.diff(np.log(x))
    return bool(np.allclose(ratios, ratios[0], rtol=1e-6)) and x.max() > 8 * x.min()


def _short(x: float) -> str:
    if np.isinf(x):
        return "∞" if x > 0 else "-∞"
    return "-" if np.isnan(x) else f"{x:.3g}".replace("e-0", "e-").replace("e+0", "e")
