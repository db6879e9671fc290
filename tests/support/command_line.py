"""The command line called in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from derive.cli import main


def run(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; argparse's own exit counts as the command's."""
    try:
        code = main([str(a) for a in argv])
    except SystemExit as leave:
        code = int(leave.code or 0)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err
