"""What `derive simulate` reads and writes for every method: numbers and arrays of the command line,
the sizes that they fix, the two files that come out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derive.entry import Entry
from derive.errors import RequestError
from derive.files import write_whole

if TYPE_CHECKING:
    import numpy as np

T1 = 0.5  # final time of a sweep
Options = argparse._ActionsContainer  # a parser, or a group of one
Shapes = Mapping[str, Sequence[Any]]  # names of dimensions (or numbers) by array


def count(least: int) -> Callable[[str], int]:
    """An integer on the command line, at least `least`."""

    def read(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    read.__name__ = "integer"
    return read


def sized(parser: argparse.ArgumentParser) -> None:
    """The options of models with parameters and dimensions of any shape."""
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE|FILE.npy",
        help="a parameter or an array of data; repeat for more (default: drawn, see --seed)",
    )
    size(parser)


def size(parser: Options) -> None:
    parser.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="of a dimension, for what is drawn; repeat for more (default: 2 or 3)",
    )


def stored(label: str, file: Path) -> np.ndarray:
    """The array of a file; what is not needed of a large one stays there."""
    import numpy as np

    try:
        found = np.load(file, allow_pickle=False, mmap_mode="r")
    except Exception as problem:  # whatever a file that is none makes the reader do
        said = str(problem).split("\n")[0]
        why = "it holds Python objects" if "allow_pickle" in said else said
        raise RequestError(f"{label}: cannot be read as .npy ({why})") from None
    if not isinstance(found, np.ndarray):
        raise RequestError(
            f"{label}: cannot be read as .npy (it is an archive of {', '.join(found.files)}); save "
            "the one array with numpy.save"
        )
    return found


def array(label: str, file: Path, shape: Sequence[Any]) -> np.ndarray:
    """Finite real numbers of a file, with as many axes as `shape` has."""
    import numpy as np

    found = stored(label, file)
    if found.dtype.kind not in "fiu":
        raise RequestError(f"{label}: holds {found.dtype}; wanted real numbers")
    if found.ndim != len(shape) or not found.size:
        raise RequestError(f"{label}: has shape {found.shape}; wanted {shown(shape)}")
    out = np.array(found, dtype=float)
    if not np.all(np.isfinite(out)):
        where = [int(k) for k in np.argwhere(~np.isfinite(out))[0]]
        raise RequestError(f"{label}: has entries that are not finite, {where} the first of them")
    return out


def shown(shape: Sequence[Any]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def given(option: str, texts: Iterable[str], shapes: Shapes) -> dict[str, Any]:
    """Values by name, of NAME=VALUE for numbers and NAME=FILE.npy for arrays."""
    import math

    out: dict[str, Any] = {}
    for text in texts:
        name, value = _named(option, text, shapes, "VALUE, or NAME=FILE.npy for an array,")
        if name in out:
            raise RequestError(f"{option} {text}: {name} is given twice")
        if shapes[name] or value.endswith(".npy"):
            if not value.endswith(".npy"):
                raise RequestError(
                    f"{option} {text}: {name} is an array {shown(shapes[name])}; save it with "
                    f"numpy.save and write {option} {name}=FILE.npy"
                )
            out[name] = array(f"{option} {text}", Path(value), shapes[name])
            continue
        try:
            out[name] = float(value)
        except ValueError:
            raise RequestError(f"{option} {text}: {value!r} is not a number") from None
        if math.isnan(out[name]):
            raise RequestError(f"{option} {text}: {name} is not a number")
    return out


def _named(option: str, text: str, names: Iterable[str], what: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or name not in names:
        known = ", ".join(names) or "nothing: this model has none"
        raise RequestError(f"{option} {text}: write NAME={what} with NAME in {known}")
    return name, value


def sizes(texts: Iterable[str], arrays: Mapping[str, Any], shapes: Shapes) -> dict[str, int]:
    """Sizes that --size says or that arrays have; raises where two of them disagree."""
    from derive.runtime.control.coordinates import bind_sizes

    dims = dict.fromkeys(s for shape in shapes.values() for s in shape if not isinstance(s, int))
    out: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        name, value = _named("--size", text, dims, "NUMBER")
        try:
            out[name] = count(1)(value), f"--size {text}"
        except (ValueError, argparse.ArgumentTypeError):
            raise RequestError(f"--size {text}: {value!r} is not a number from 1 on") from None
    bind_sizes({n: tuple(s) for n, s in shapes.items()}, arrays, out)
    return {name: int(size) for name, (size, _) in out.items()}


def based(spec: Any, texts: Sequence[str], sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Every parameter of a sweep: from the command line, else identities, ones and 1.

    A number that is given for an array is a multiple of those; `sizes`: of dimensions by name.
    """
    import numpy as np

    found: dict[str, np.ndarray] = {}
    for text in texts:
        name, value = _named("--param", text, spec.params._fields, "VALUE or NAME=FILE.npy")
        try:
            found[name] = np.asarray(float(value))
        except ValueError:
            found[name] = np.array(stored(f"--param {text}", Path(value)), float)
    known = dict(sizes)
    for name, x in found.items():
        shape = spec.param_shapes.get(name, ())
        if x.ndim and x.ndim != len(shape):
            raise RequestError(f"--param {name}: shape {x.shape}; wanted {shown(shape)}")
        known = {**dict(zip(shape, x.shape, strict=False)), **known}
    for name in spec.params._fields:
        symbols = spec.param_shapes.get(name, ())
        shape = tuple(known.get(s, 2 if s == "H" else known["d"]) for s in symbols)
        unit = np.eye(*shape[-2:]) if len(shape) > 1 else np.ones(shape)
        whole = np.broadcast_to(unit, shape)
        own = found.get(name)
        found[name] = whole if own is None else own if own.ndim else own * whole
    return found


def said_drawn(values: Mapping[str, Any], fixed: Iterable[str], seed: int) -> str:
    """What was drawn, since it was not given."""
    import numpy as np

    names = [n for n in values if n not in set(fixed)]
    words = [
        f"{n} = {float(values[n]):.4g}" if np.ndim(values[n]) == 0 else f"{n} {np.shape(values[n])}"
        for n in names
    ]
    return f"drawn at random, seed {seed}: {', '.join(words)}" if words else ""


def picture(module: str) -> Any:
    """A module that draws, or the reason why it cannot."""
    try:
        return import_module(module)
    except ImportError as problem:
        if (problem.name or "").split(".")[0] != "matplotlib":
            raise
        raise RequestError("pictures need matplotlib; pip install 'derive[plot]'") from None


def write(
    entry: Entry, folder: Path, arrays: Mapping[str, Any], draw: Callable[[], Any]
) -> list[Path]:
    """NAME.npz in a folder, and the figure that is drawn as NAME.png, .svg and .pdf."""
    import numpy as np

    from derive.figures import style

    file = folder / f"{entry.name}.npz"
    write_whole(file, lambda stream: np.savez_compressed(stream, **arrays))
    return [file, *style.write(draw(), folder / entry.name)]
