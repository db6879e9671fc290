"""Figures at a small size, each computed once."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from derive.figures import (
    angle_tails,
    blow_up,
    cone,
    consensus,
    correlation,
    densities,
    energy,
    explosion,
    finite_width,
    harmonics,
    limit_objects,
    limiting_rank,
    match,
    metastability,
    staircase,
    sweeps,
)

SMALL: dict[str, dict[str, Any]] = {
    "correlation": {"width": 64, "depth": 32, "paths": 64},
    "densities": {"width": 32, "depth": 8, "paths": 512, "bins": 20},
    "sweeps": {"width": 16, "gammas": [0.2, 0.7], "taus": [0.5, 1.0], "paths": 256, "networks": 64},
    "explosion": {"paths": 256, "t1": 1.0, "below": [0.25], "above": [0.9], "shown": [0.25, 0.9]}
    | {"radii": [1e2, 1e6]},
    "finite_width": {"widths": [8, 16], "networks": 512, "paths": 512, "dt": 1 / 64},
    "limiting_rank": {"dims": [3], "draws": 12, "limit": 2000},
    "cone": {
        "models": {"softmax_closure": "softmax", "l2_closure": "L2"},
        "clustering": cone.REQUEST["clustering"] | {"V": [[1, 0], [0, 1]], "saves": 4},
        "blow_up": cone.REQUEST["blow_up"] | {"saves": 4},
        "rings": {"0": 1, "0.8": 3},
    },
    "consensus": {
        "tokens": [8, 12],
        "dimension": 48,
        "systems": [3, 1],
        "betas": [0.5, 6.0],
        "t1": 12.0,
    }
    | {"saves": 25},
    "staircase": {"tokens": 8, "times": [0.05, 60.0], "saves": 24},
    "angle_tails": {"t1": 100.0, "points": 400},
    "limit_objects": {"dimensions": [1, 2, 3], "tokens": [6, 6, 6], "time": 8.0, "saves": 9},
    "blow_up": {"systems": 3, "tokens": 6, "saves": 301},
    "metastability": {"per_cap": 2, "angles": [0.0, 2.4], "beta": 6.0, "orders": 1.0}
    | {"closed": 1e-4, "saves": 40},
    "energy": {"tokens": 6, "t1": [2.0, 1.0], "intervals": 12},
    "harmonics": {"tokens": 64, "betas": [1.0, 4.0], "degrees": [1, 3]},
    "match": {"laws": 2, "tokens": 12, "atoms": 3},
}
#: drawn where their arrays are looked at: a worker has the tests of one file
OF_FLOWS = ("consensus", "staircase", "angle_tails", "limit_objects", "blow_up")
OF_FLOWS += ("metastability", "energy", "harmonics", "match")
#: quick: the others, of paths, of a threshold, of closures; mypy reads all of them
DEAR = ("correlation", "finite_width", "limiting_rank", "sweeps")
MODULES: dict[str, ModuleType] = {
    "correlation": correlation,
    "densities": densities,
    "sweeps": sweeps,
    "explosion": explosion,
    "finite_width": finite_width,
    "limiting_rank": limiting_rank,
    "cone": cone,
    "consensus": consensus,
    "staircase": staircase,
    "angle_tails": angle_tails,
    "limit_objects": limit_objects,
    "blow_up": blow_up,
    "metastability": metastability,
    "energy": energy,
    "harmonics": harmonics,
    "match": match,
}


def draw(small: Callable[[str], Any], name: str, folder: Path) -> None:
    """The figure is a picture, and all of its axes are told and hold something."""
    request, arrays = small(name)
    figure = MODULES[name].draw(request, arrays)
    figure.savefig(folder / "a.png")
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")
    for axis in figure.axes:
        told = axis.get_xlabel() or axis.get_title() or axis.get_title(loc="left")
        assert told and axis.has_data()
    drawing = figure.canvas.get_renderer()
    for axis in figure.axes:
        legend = axis.get_legend()
        box = axis.get_window_extent(drawing)
        assert legend is None or not legend.get_window_extent(drawing).overlaps(box)
        for side in (axis.xaxis, axis.yaxis):
            boxes = [t.get_window_extent(drawing) for t in side.get_ticklabels() if t.get_text()]
            shown = [b for b in boxes if b.width > 0]
            assert not any(a.overlaps(b) for a, b in pairwise(shown)), (name, side)
    said = [figure.get_suptitle(), *(a.get_title(loc="left") for a in figure.axes)]
    plain = " ".join(re.sub(r"\$[^$]*\$", "", words) for words in said)
    assert not re.search(r"\b(alpha|beta|gamma|tau)\b|\^", plain), plain
