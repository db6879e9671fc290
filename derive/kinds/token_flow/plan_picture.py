"""The picture and the film of a plan: laws on the sphere, at the ends of its pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from derive.figures import gif, match
from derive.files import write_whole


def write(plan: Any, out: Path, film: bool) -> list[Path]:
    """OUT.png and, if asked, OUT.gif."""
    arrays = match.arrays_of(plan)
    figure = match.draw({}, arrays)
    files = [out.with_suffix(".png")]
    write_whole(files[0], lambda stream: figure.savefig(stream, dpi=180, format="png"))
    plt.close(figure)
    if film:
        files.append(out.with_suffix(".gif"))
        write_whole(files[1], lambda stream: gif.write(stream, match.film({}, arrays)))
    return files
