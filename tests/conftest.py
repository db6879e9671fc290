"""Settings and fixtures of all tests.  No seed is set here: every test makes its own generator."""

from __future__ import annotations

import importlib.util
import mmap
import os
import sys
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

# Every core has a worker: threads of BLAS would only wait for each other's core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# XLA's older generator of loops compiles in half the time; LLVM's optimisations are left out too in
# folders whose programs run for no time at all.  What users have, the defaults, is what `make slow`
# and tests/runtime/test_default_code.py take; XLA_FLAGS= gives them to any run.
OLDER_LOOPS = "xla_cpu_use_fusion_emitters"
BRIEF = ("emit", "notation", "runtime/common", "runtime/control")


def _is_known(flag: str) -> bool:
    """Whether this XLA has the flag: it ends the process at one that it does not know."""
    found = importlib.util.find_spec("jaxlib")
    library = Path(str(found and found.origin)).with_name("libjax_common.so")
    if not library.is_file():
        return False
    with library.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ).find(flag.encode()) >= 0


if "XLA_FLAGS" not in os.environ and _is_known(OLDER_LOOPS):
    os.environ["XLA_FLAGS"] = f"--{OLDER_LOOPS}=false"

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


@pytest.fixture(autouse=True, scope="module")
def optimised_where_that_pays(request):  # type: ignore[no-untyped-def]
    """Bits are compared within a file: no file goes on with what another compiled otherwise."""
    file = request.path.relative_to(Path(__file__).parent).as_posix()
    brief = file.startswith(BRIEF) and OLDER_LOOPS in os.environ.get("XLA_FLAGS", "")
    if brief or "jax" in sys.modules:
        import jax

        if jax.config.values["jax_disable_most_optimizations"] != brief:
            jax.config.update("jax_disable_most_optimizations", brief)
            jax.clear_caches()
    yield


@pytest.fixture(autouse=True, scope="module")
def compiled_code_is_dropped_once_there_is_much_of_it():  # type: ignore[no-untyped-def]
    """A run of all files in one process once died of it; until then the next file goes on with
    what was traced and compiled for those before it (22,000 maps held 3.5 GB)."""
    yield
    if "jax" in sys.modules:
        from derive.verify.common.compare import drop_compiled

        drop_compiled()
