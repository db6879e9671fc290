"""List the models that are registered."""

from __future__ import annotations

import argparse

from derive.registry import generated_folder, registered


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(options: argparse.Namespace) -> int:
    del options
    entries = registered()
    width = max((len(e.name) for e in entries), default=0)
    for entry in entries:
        folder = generated_folder()
        built = "built" if (folder / f"{entry.name}.py").exists() else "not built"
        if (folder / f"{entry.name}.cert.json").exists():
            built += ", verified"
        print(f"{entry.name:<{width}}  {entry.method}  [{built}]  {entry.title}")
    return 0
