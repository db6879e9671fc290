"""Settings and fixtures of all tests.  No seed is set here: every test makes its own generator."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before any test imports jax
# What is compiled is kept by its content (program, flags, version of XLA), for all tests, their
# processes and the next run: the small programs too, which are the most by far and take together
# as long as the large ones.
COMPILED = Path(__file__).parents[1] / ".pytest_cache" / "compiled"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Tests derive anew: a text kept from another run could hide what they break in memory.
os.environ.setdefault("DERIVE_CACHE", "off")

THEORY = Path(__file__).parent.parent / "theory"


@pytest.fixture
def load_theory() -> Callable[[str | Path], ModuleType]:
    """Run a theory file by path (relative: within theory/), past the registry and its errors."""

    def load(path: str | Path) -> ModuleType:
        file = THEORY / path  # an absolute path stays as it is
        spec = importlib.util.spec_from_file_location(f"theory_under_test_{file.stem}", file)
        assert spec is not None and spec.loader is not None, file
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


MOST_MAPS = 8_000  # about 1.3 GB; the kernel's own limit is some 65,000 maps


@pytest.fixture(autouse=True, scope="module")
def compiled_code_is_dropped_once_there_is_much_of_it():  # type: ignore[no-untyped-def]
    """Every compiled function maps memory, and a process may hold only so many maps: a run of all
    files in one process once died of it inside the compiler.  Until then the next file goes on
    with what was traced and compiled for those before it (22,000 maps held 3.5 GB)."""
    yield
    import gc
    import sys

    maps = Path("/proc/self/maps")
    few = maps.exists() and maps.read_bytes().count(b"\n") < MOST_MAPS
    if "jax" in sys.modules and not few:
        sys.modules["jax"].clear_caches()
        gc.collect()
