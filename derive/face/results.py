"""What simulations and solutions return, shown: a line in a terminal, a picture, a labelled array.

The runtime imports JAX and NumPy alone, and its files are copied into other packages; so what
needs matplotlib or xarray lies here, and kernels that come through `derive.load` and
`derive.compile` have it as methods of their results: `paths.plot()`, `paths.to_xarray()`.  For a
module that was imported otherwise: `derive.plot(paths)`, `derive.to_xarray(paths)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from derive.errors import RequestError
from derive.runtime.closures.results import Moments, Particles
from derive.runtime.control.results import Extremal, Turnpike
from derive.runtime.flows.results import Clusters, Flow
from derive.runtime.paths.results import Paths

TIMED = (Paths, Moments, Particles, Extremal, Flow, Clusters)
CLASSES = (*TIMED, Turnpike)
OWN_WORDS = (Flow, Clusters)  # say themselves what they are
MOST = 8  # curves of a picture


def equip() -> None:
    """Give the runtime's results their short repr, and those over time `plot` and `to_xarray`."""
    kinds: tuple[Any, ...] = CLASSES
    for kind in kinds:
        if kind not in OWN_WORDS:
            kind.__repr__ = brief
        if kind is not Turnpike:
            kind.plot, kind.to_xarray = plot, to_xarray


def brief(result: Any) -> str:
    """Kind, span of time, and the shape of every array."""
    parts = [f"{name} {_said(value)}" for name, value in _fields(result)]
    return f"<{type(result).__name__}: {', '.join(parts)}>"


def _fields(result: Any) -> Iterator[tuple[str, Any]]:
    for name in result._fields:
        value = getattr(result, name)
        if value is not None and not (isinstance(value, tuple) and not value):
            yield name, value


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value
    if hasattr(value, "_fields"):
        return "(" + ", ".join(f"{n} {_said(v)}" for n, v in _fields(value)) + ")"
    if isinstance(value, tuple):
        return f"of {len(value)}"
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{array.item():.6g}" if array.dtype.kind in "if" else str(array.item())
    rising = array.ndim == 1 and len(array) > 1 and np.all(np.isfinite(array))
    if rising and np.all(np.diff(array) > 0):
        return f"{array[0]:.4g}..{array[-1]:.4g} ({len(array)})"
    if array.dtype.kind == "f" and array.ndim == 1 and np.all(np.isposinf(array)):
        return f"inf ({len(array)})"
    return "x".join(map(str, array.shape))


def curves(result: Any) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Names of the axes and the values of every array that a result holds."""
    if isinstance(result, Paths):
        return {
            "V": (("path", "time", "token", "other"), result.V),
            "exit_time": (("path",), result.exit_time),
        }
    if isinstance(result, Particles):
        return {"x": (_axes(result.x, ("time", "particle", "coordinate")), result.x)}
    if isinstance(result, Flow):
        found = {
            "x": (("time", "token", "coordinate"), result.x),
            "error": (("time",), result.error),
            "clusters": (("time", "token"), result.clusters),
        }
        if result.energy is not None:
            found["energy"] = (("time",), result.energy)
        return {n: (_axes(v, own), np.asarray(v)) for n, (own, v) in found.items()}
    if isinstance(result, Clusters):
        return {
            "gram": (("time", "cluster", "other"), result.gram),
            "masses": (("time", "cluster"), result.masses),
            "labels": (("time", "cluster"), result.labels),
        }
    if isinstance(result, Moments):
        more = ("block",) if result.cov.ndim - np.ndim(result.blow_up_time) == 4 else ()
        found = {
            "mean": (("time", *more, "coordinate"), result.mean),
            "cov": (("time", *more, "coordinate", "other"), result.cov),
            "factor": (("time", *more, "coordinate", "column"), result.factor),
            "blow_up_time": ((), result.blow_up_time),
        }
        return {n: (_axes(v, own), np.asarray(v)) for n, (own, v) in found.items()}
    if isinstance(result, Extremal):
        batch = np.ndim(result.cost)
        out: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
        for head in ("x", "p", "u"):
            group = getattr(result, head)
            for name, value in zip(group._fields, group, strict=True):
                rank = np.ndim(value) - batch - 1
                own = ("time", *(f"{name}_{k}" for k in range(rank)))
                label = f"p_{name}" if head == "p" else name
                out[label] = (_axes(value, own), np.asarray(value))
        return out
    raise RequestError(
        f"{type(result).__name__} is no result over time; {', '.join(k.__name__ for k in TIMED)} "
        "are"
    )


def _axes(value: Any, own: tuple[str, ...]) -> tuple[str, ...]:
    batch = np.ndim(value) - len(own)
    return (*(f"batch_{k}" for k in range(batch)), *own)


def to_xarray(result: Any) -> Any:
    """An `xarray.Dataset` with named axes (path, time, token, ...) and the times as coordinate.

    Needs the extra `xarray`.  Raises RequestError without it, or for what is no result over time.
    """
    arrays = curves(result)
    try:
        import xarray
    except ImportError:
        raise RequestError(
            "to_xarray needs xarray: pip install 'derive[xarray]', or take the arrays "
            "themselves, which are fields of the result"
        ) from None
    times = np.asarray(result.times)
    coords = {"time": times} if times.ndim == 1 else {}
    return xarray.Dataset(arrays, coords=coords)


def plot(result: Any, ax: Any = None) -> Any:
    """Curves of a `result` against time on matplotlib axes (`ax`, or new ones), which are returned.

    Of an ensemble the median of every entry with the band of 10 to 90 %; of other batches every
    curve, at most eight an array.  Needs the extra `plot`; RequestError without it.
    """
    arrays = curves(result)
    try:
        from matplotlib import pyplot
    except ImportError:
        raise RequestError("plot needs matplotlib: pip install 'derive[plot]'") from None
    axes = pyplot.subplots()[1] if ax is None else ax
    draw: Callable[..., None] = _bands if isinstance(result, Paths) else _lines
    times = np.asarray(result.times)
    for name, (labels, values) in arrays.items():
        if "time" in labels and name != "factor":
            draw(axes, times, name, np.moveaxis(values, labels.index("time"), 0))
    axes.set_xlabel("t")
    axes.legend(fontsize="small")
    return axes


def _bands(axes: Any, times: np.ndarray, name: str, values: np.ndarray) -> None:
    """Medians over the paths; entries on and above the diagonal."""
    for a, b in list(zip(*np.triu_indices(values.shape[-1]), strict=True))[:MOST]:
        low, middle, high = np.quantile(values[..., a, b], (0.1, 0.5, 0.9), axis=1)
        (line,) = axes.plot(times, middle, label=f"{name}[{a + 1},{b + 1}]")
        axes.fill_between(times, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def _lines(axes: Any, times: np.ndarray, name: str, values: np.ndarray) -> None:
    flat = values.reshape(len(values), -1)
    if times.ndim > 1:  # every solution of a batch has times of its own
        times = times.reshape(-1, times.shape[-1])[0]
    for k in range(min(flat.shape[1], MOST)):
        axes.plot(times, flat[:, k], label=name if k == 0 else None)
