"""Tell what is here: Python, JAX and its devices, libraries, folders; and what is missing.

Exit code 1 if something that derive needs is missing or does not work.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from derive import cache
from derive.entry import generated_folder
from derive.version import ENGINE

AVOIDED = {"jax": {"0.10.2"}}  # releases with faults that kernels meet


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(options: argparse.Namespace) -> int:
    del options
    faults = [*_python(), *_packages(), *_devices(), *_folders()]
    print(f"\n{len(faults)} to mend" if faults else "\nnothing is missing")
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


def _say(name: str, words: str) -> None:
    print(f"{name:<12} {words}")


def _python() -> list[str]:
    _say("derive", f"{ENGINE}, {Path(__file__).resolve().parents[1]}")
    _say("python", f"{platform.python_version()}, {sys.executable}")
    return []


def _packages() -> list[str]:
    """Every library that derive names, those of extras with the extra."""
    faults = []
    try:
        wanted = requires("derive") or []
    except PackageNotFoundError:
        return ["derive is run from a folder and is not installed: pip install -e ."]
    for line in wanted:
        need, _, condition = line.partition(";")
        name = re.match(r"[\w.-]+", need)[0]  # type: ignore[index]  # a requirement has a name
        if name == "derive":
            continue
        extra = condition.rpartition("==")[2].strip(" \"'") if "extra" in condition else ""
        try:
            found = version(name)
        except PackageNotFoundError:
            _say(name, "not installed" + (f" (extra {extra})" if extra else ""))
            if not extra:
                faults.append(f"{name} is missing: pip install {name}")
            continue
        _say(name, found)
        if found in AVOIDED.get(name, set()):
            faults.append(f"{name} {found} has a fault that kernels meet: take another release")
    return faults


def _devices() -> list[str]:
    try:
        import jax

        devices = jax.devices()
    except Exception as problem:  # whatever a backend raises is what is to be told
        return [f"JAX finds no device ({type(problem).__name__}: {problem})"]
    kinds = [f"{d.platform}: {d.device_kind}" for d in devices]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    _say("devices", ", ".join(f"{count} x {kind}" for kind, count in counts.items()))
    _say("cores", str(os.cpu_count()))
    with jax.enable_x64(True):
        if jax.numpy.ones(1, "float64").dtype != "float64":
            return ["JAX gives no float64 on this device: kernels run in float32 alone"]
    return []


def _folders() -> list[str]:
    faults = []
    kernels = sorted(f for f in generated_folder().glob("*.py") if f.stem != "__init__")
    _say("generated", f"{len(kernels)} kernels, {generated_folder()}")
    folder = cache.folder()
    texts = [f for f in folder.glob("*") if f.is_file()] if folder.is_dir() else []
    size = sum(f.stat().st_size for f in texts) / 2**20
    off = ", off by DERIVE_CACHE" if cache.is_off() else ""
    _say("cache", f"{len(texts)} texts, {size:.1f} MiB, {folder}{off}")
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(there, os.W_OK):
        faults.append(f"{there} cannot be written: set XDG_CACHE_HOME to a folder that can")
    compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    _say("compiled", compiled or "not kept between runs (JAX_COMPILATION_CACHE_DIR is not set)")
    _say("git", shutil.which("git") or "not found: derive diff --against REVISION needs it")
    return faults
