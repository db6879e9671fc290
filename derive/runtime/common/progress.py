"""A progress bar on stderr, or a callable of the user's."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

Progress = Callable[[float], None]


def reporter(progress: bool | None | Progress, label: str) -> Progress:
    """`report(share)`, share in [0, 1]; True draws a bar, None and False say nothing."""
    if callable(progress):
        return progress
    if not progress:
        return lambda share: None
    start = time.monotonic()
    shown = [-1.0]

    def bar(share: float) -> None:
        now = time.monotonic()
        if share < 1 and now - shown[0] < 0.2:
            return
        shown[0] = now
        filled = int(30 * min(share, 1.0))
        spent = time.monotonic() - start
        end = "\n" if share >= 1 else ""
        text = f"\r{label:<16} [{'#' * filled}{'.' * (30 - filled)}] {share:6.1%} {spent:6.1f} s"
        sys.stderr.write(text + end)
        sys.stderr.flush()

    return bar
