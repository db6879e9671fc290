"""Films: pictures one after the other as an animated GIF."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import IO, Any


def write(stream: IO[bytes], figures: Iterable[Any]) -> None:
    """Fourteen pictures a second, the last one for two seconds; each is closed once drawn."""
    import matplotlib.pyplot as plt
    from PIL import Image

    frames = []
    for figure in figures:
        held = io.BytesIO()
        figure.savefig(held, dpi=90, format="png")
        plt.close(figure)
        frames.append(Image.open(held).convert("P", palette=Image.Palette.ADAPTIVE))
    times = [70] * (len(frames) - 1) + [2000]
    frames[0].save(
        stream, format="gif", save_all=True, append_images=frames[1:], duration=times, loop=0
    )
