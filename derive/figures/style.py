"""One look for all figures.  Colours: Okabe and Ito's, told apart by all common kinds of sight."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from derive.files import write_whole
from derive.observables import correlations as correlations

BLUE, ORANGE, GREEN, RED, SKY, PURPLE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
)
LEVELS = (5, 25, 50, 75, 95)


def panels(count: int, *, width: float = 3.3, height: float = 3.0, **options: Any) -> Any:
    """A figure of `count` panels beside each other, and their axes."""
    return grid(1, count, width=width, height=height, **options)


def grid(rows: int, columns: int, *, width: float, height: float, **options: Any) -> Any:
    """A figure of panels of the given size in inches, and their axes (rows, columns)."""
    plt.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 9.5,
            "legend.frameon": False,
            "legend.fontsize": 8,
            "lines.linewidth": 1.6,
        }
    )
    return plt.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows),
        layout="constrained",
        squeeze=False,
        **options,
    )


def write(figure: Any, stem: Path, dpi: int = 180) -> list[Path]:
    """The picture as PNG, SVG and PDF: the same bytes for the same figure, which is closed.

    Raises RequestError for a folder that cannot be written.
    """
    undated: dict[str, dict[str, Any]] = {
        "png": {"dpi": dpi},
        "svg": {"metadata": {"Date": None}},
        "pdf": {"metadata": {"CreationDate": None}},
    }
    files = []
    with plt.rc_context({"svg.hashsalt": stem.name}):
        for kind, options in undated.items():
            files.append(stem.parent / f"{stem.name}.{kind}")
            write_whole(files[-1], partial(figure.savefig, format=kind, **options))
    plt.close(figure)
    return files


def legend(axis: Any) -> None:
    """Below the axis and its label, where no data can be."""
    count = len(axis.get_legend_handles_labels()[1])
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        borderaxespad=4.4,  # ticks and label stand between
        ncols=min(count, 3),
        fontsize=7.5,
        handlelength=1.4,
        columnspacing=1.0,
        frameon=False,
    )


def title(figure: Any, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=9)


def percentiles(values: np.ndarray) -> np.ndarray:
    """Percentiles LEVELS over all axes but the first: (k, ...) to (5, k)."""
    return np.percentile(values.reshape(len(values), -1), LEVELS, axis=1)


def bands(axis: Any, x: np.ndarray, found: np.ndarray, colour: str, label: str | None) -> None:
    """Median, 25-75 % and 5-95 % of `percentiles` against x."""
    axis.fill_between(x, found[0], found[4], color=colour, alpha=0.16, linewidth=0)
    axis.fill_between(x, found[1], found[3], color=colour, alpha=0.30, linewidth=0)
    axis.plot(x, found[2], color=colour, label=label)


def start(m: int, covariance: float) -> np.ndarray:
    """V_0 of m tokens: variances 1, all covariances the same."""
    return covariance + (1 - covariance) * np.eye(m)
