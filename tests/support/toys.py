"""A method of another package, as an installer leaves it, and a definition of its kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from derive import dispatch

TOY = Path(__file__).parent / "toy_method"
TEXT = '''"""Three times, and one more."""

from toy_means import layer_mean


@layer_mean
def tripled(x):
    return BODY
'''


def installed(folder: Path) -> Path:
    """`folder` with the toy's package in `installed`, and the definition `mine.py`."""
    package = folder / "installed"
    shutil.copytree(TOY, package)
    info = package / "toy_means-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy_means\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{dispatch.GROUP}]\nlayer_mean = toy_means:METHOD\n")
    (folder / "mine.py").write_text(TEXT.replace("BODY", "3 * x + 1"))
    return folder


def python(place: Path, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A process that stands in `place` and sees the toy's package."""
    seen = os.pathsep.join([str(place / "installed"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *argv],
        cwd=place,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": seen, **more},
    )
