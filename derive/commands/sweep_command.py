"""Sweep a model's parameters over a grid: a table of observables, and a picture.

Writes NAME-sweep.csv and NAME-sweep.png.  Results are kept chunk by chunk in NAME-sweep-KEY/: a
killed run goes on where it was, and jobs (--shard K/N) share one folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

from derive.commands import sweep_grid
from derive.commands.options import add_kernels
from derive.dispatch import method, own
from derive.entry import Entry
from derive.errors import RequestError
from derive.files import require_writable, text_in, write_whole
from derive.kernels import file_of, kernel_of
from derive.registry import find, shown

SETTINGS = {"conflict_handler": "resolve"}  # kinds of models may share an option


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--grid",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUES",
        help=f"an axis each: {sweep_grid.FORMS}; of an array: multiples of it",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter off the grid: a number, or FILE.npy where it is an array",
    )
    parser.add_argument("--tokens", type=Path, metavar="FILE.npy", help="tokens to start from")
    parser.add_argument("--t1", type=float, help="final time (default: as each kind says)")
    parser.add_argument(
        "--saves", type=int, default=1, metavar="N", help="times t1/N, ..., t1 (default: t1 alone)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws, where there are any")
    parser.add_argument(
        "--chunk", type=int, metavar="POINTS", help="points in a file (default: at most 64 files)"
    )
    parser.add_argument("--shard", metavar="K/N", help="compute part K of N alone; write no table")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--show", metavar="COLUMN", help="what the picture shows")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help=".csv or .parquet (default: NAME-sweep.csv)"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="default results")
    add_kernels(parser)
    for word in own():
        sweep = method(word).sweep
        if sweep is not None:
            sweep.arguments(parser)


def run(options: argparse.Namespace) -> int:
    from derive.commands import sweep_chunks

    entry = find(options.model)
    kind = method(entry.method)
    if kind.sweep is None:
        raise RequestError(kind.unswept(entry.name))
    for name in ("saves", "chunk"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise RequestError(f"--{name} {getattr(options, name)}: take 1 or more")
    if options.t1 is not None and not 0 < options.t1 < float("inf"):
        raise RequestError(f"--t1 {options.t1:g}: take a positive time")
    _require_own(options, entry.method)
    part = sweep_chunks.shard(options.shard) if options.shard else None
    target = options.table or options.out / f"{entry.name}-sweep.csv"
    writer = _writer(target)
    module = kernel_of(entry, options.kernels)
    axes = sweep_grid.axes(options.grid, module.Params._fields, entry.name)
    points = sweep_grid.points(axes)
    swept = kind.sweep.prepare(module, points, options)
    if options.show is not None and options.show not in swept.quantities:
        raise RequestError(f"--show {options.show}: there are {', '.join(swept.quantities)}")
    for folder, option in ((options.out, "--out"), (target.parent, "--table")):
        require_writable(folder, option)
    folder = _folder(entry, axes, swept.identity, options)
    wanted = sweep_chunks.ranges(len(points), swept.tile, options.chunk)
    if part:
        wanted = wanted[part[0] - 1 :: part[1]]
    with warnings.catch_warnings(record=True) as told:
        found, there = sweep_chunks.fill(folder, points, wanted, swept)
    for said in sorted({str(w.message) for w in told}):
        print(f"note: {said}", file=sys.stderr)
    counted = f"{len(wanted)} chunks, {there} of them were there"
    if len(wanted) == 1:
        counted = f"1 chunk, which was {'there' if there else 'not there'}"
    kept = f"{shown(folder)}: {counted}"
    if part:
        print(f"{kept} (shard {part[0]} of {part[1]}); the same without --shard gathers all")
        return 0
    columns = sweep_chunks.table(points, swept.times, found)
    write_whole(target, lambda stream: writer(stream, columns))
    print(f"{kept}\n{shown(target)}")
    if said := swept.caution(columns):
        print(said)
    _draw(entry, axes, columns, swept, options)
    return 0


def _require_own(options: argparse.Namespace, word: str) -> None:
    """What only other kinds of models read would be lost without a word."""
    read: dict[str, dict[str, Any]] = {}
    for kind in own():
        sweep = method(kind).sweep
        if sweep is not None:
            alone = argparse.ArgumentParser(add_help=False)
            sweep.arguments(alone)
            read[kind] = {action.dest: action for action in alone._actions}
    mine = read.pop(word, {})
    for kind, actions in read.items():
        for name, action in actions.items():
            if name not in mine and getattr(options, name) != action.default:
                raise RequestError(
                    f"{action.option_strings[0]} is of {kind} models; {options.model} is of kind "
                    f"{word}"
                )


def _writer(target: Path) -> Any:
    from derive.commands import sweep_chunks

    if target.suffix == ".parquet":
        return sweep_chunks.parquet()
    if target.suffix != ".csv":
        raise RequestError(f"--table {target}: name a .csv or a .parquet file")
    return lambda stream, columns: stream.write(sweep_chunks.csv(columns).encode())


def _folder(
    entry: Entry, axes: sweep_grid.Axes, identity: Any, options: argparse.Namespace
) -> Path:
    """Where the chunks of this very sweep are kept; its key is over all they follow from."""
    from derive import cache

    settings = json.dumps({"grid": axes, **identity}, sort_keys=True)
    kernel = text_in(file_of(entry, options.kernels))
    key = cache.digest([kernel, *cache.engine(), settings])[:16]
    folder = options.out / f"{entry.name}-sweep-{key}"
    require_writable(folder)
    write_whole(folder / "settings.json", settings + "\n")
    return folder


def _draw(
    entry: Entry, axes: sweep_grid.Axes, columns: Any, swept: Any, options: argparse.Namespace
) -> None:
    moving = [name for name, values in axes.items() if len(values) > 1]
    if len(moving) not in (1, 2):
        print(f"no picture: it shows one or two parameters, and {len(moving)} of these move")
        return
    try:
        from derive.commands.sweep_picture import picture
        from derive.figures import style
    except ImportError:
        print("no picture: it needs matplotlib; pip install 'derive[plot]'")
        return
    drawn = picture(entry.name, {n: axes[n] for n in moving}, columns, swept, options.show)
    print("\n".join(map(shown, style.write(drawn, options.out / f"{entry.name}-sweep"))))
