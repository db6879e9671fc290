"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_kernels(parser: argparse.ArgumentParser, *names: str) -> None:
    """The folder of kernels and certificates, under `names`; the first one is the attribute's."""
    parser.add_argument(
        *(names or ("--kernels",)),
        type=Path,
        metavar="DIR",
        help="folder of the kernels (default: generated/, and kernels/ beside a file of yours)",
    )
