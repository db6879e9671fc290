"""Draw a figure: `derive figure NAME` writes NAME.png, .svg and .pdf; without a name, lists them.

Its arrays are kept in the folder `cache` beside it, so that drawing again is instant.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from derive.entry import generated_folder
from derive.errors import RequestError
from derive.files import require_writable, write_whole
from derive.registry import shown


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="default: list the figures")
    parser.add_argument(
        "--out", type=Path, default=Path("results"), help="folder (default results)"
    )
    parser.add_argument(
        "--film", action="store_true", help="write NAME.gif too, for figures that have a film"
    )
    parser.add_argument("--anew", action="store_true", help="compute even what is cached")


def run(options: argparse.Namespace) -> int:
    from derive.figures.catalogue import figure, titles

    if options.name is None:
        known = titles()
        width = max(map(len, known))
        for name, text in known.items():
            print(f"{name:<{width}}  {text}")
        return 0
    known_names = titles()
    if options.name not in known_names:
        figure(options.name)  # says what is meant
    try:
        import matplotlib
    except ImportError:
        raise RequestError(
            "figures need matplotlib, which is not installed; run: pip install 'derive[plot]'"
        ) from None
    del matplotlib
    from derive.figures.cache import cached, key
    from derive.figures.style import write
    from derive.runtime.common.progress import reporter

    chosen = figure(options.name)
    if options.film and chosen.film is None:
        raise RequestError(f"{options.name} has no film; derive figure lists those that have one")
    require_writable(options.out)
    models = chosen.request.get("models") or [chosen.request.get("model", options.name)]
    # The code that the arrays follow from: the figure's own and the generated modules.
    code = Path(sys.modules[chosen.compute.__module__].__file__ or "")
    modules = [generated_folder() / f"{model}.py" for model in models]
    sources = [f.read_bytes() for f in (code, *modules) if f.is_file()]
    if options.name.startswith("turnpike_"):
        sources.append((code.parent / "instances.py").read_bytes())
    file = (
        options.out / "cache" / f"{options.name}-{key(options.name, chosen.request, sources)}.npz"
    )
    if options.anew:
        file.unlink(missing_ok=True)
    report = reporter(True, options.name)
    arrays, kept = cached(file, lambda: _whole(chosen, report))
    drawn = chosen.draw(chosen.request, arrays)
    files = [shown(picture) for picture in write(drawn, options.out / options.name)]
    files.append(f"{shown(file)}{' (was there)' if kept else ''}")
    if options.film and chosen.film is not None:
        gif = options.out / f"{options.name}.gif"
        from derive.figures import gif as movie

        frames = chosen.film(chosen.request, arrays)
        write_whole(gif, lambda stream: movie.write(stream, frames))
        files.insert(-1, shown(gif))
    print("\n".join(files))
    return 0


def _whole(chosen, report):  # type: ignore[no-untyped-def]
    arrays = chosen.compute(chosen.request, report)
    report(1.0)
    return arrays
