"""Settings and fixtures of all tests.  No seed is set here: every test makes its own generator."""

from __future__ import annotations

import gc
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

# Terms and traced programs are many, and few of them are in cycles: looking for those less often
# takes 7 % off the time of a derivation.
gc.set_threshold(50_000, 20, 50)

# Every core has a worker: threads of BLAS would only wait for each other's core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# XLA's older generator of loops compiles in half the time, and a program that is not cut into parts
# for more threads in less; LLVM's optimisations are left out too in folders whose programs run for
# no time at all.  What users have, the defaults, is what `make slow` and
# tests/runtime/test_default_code.py take; XLA_FLAGS= gives them to any run.
OLDER_LOOPS = "xla_cpu_use_fusion_emitters"
IN_ONE_PART = "xla_cpu_parallel_codegen_split_count"
BRIEF = ("emit", "notation", "runtime/common", "runtime/control", "methods", "face")


def _is_known(flag: str) -> bool:
    """Whether this XLA has the flag: it ends the process at one that it does not know."""
    found = importlib.util.find_spec("jaxlib")
    library = Path(str(found and found.origin)).with_name("libjax_common.so")
    if not library.is_file():
        return False
    with library.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ).find(flag.encode()) >= 0


if "XLA_FLAGS" not in os.environ and _is_known(OLDER_LOOPS) and _is_known(IN_ONE_PART):
    os.environ["XLA_FLAGS"] = f"--{OLDER_LOOPS}=false --{IN_ONE_PART}=1"

# Tests derive anew: a text kept from another run could hide what they break in memory.
os.environ.setdefault("DERIVE_CACHE", "off")

#: A run ends with its last file: the dearest, those of ten seconds and more, come first.
DEAREST = (
    "runtime/test_cuda_lowering.py",
    "runtime/control/test_extremals.py",
    "runtime/paths/test_networks.py",
    "runtime/paths/test_simulate.py",
    "methods/gaussian_closure/test_any_definition.py",
    "runtime/test_default_code.py",
    "runtime/control/test_sparse_shapes.py",
    "runtime/paths/test_pure_paths.py",
    "notation/control/test_costs_and_bounds.py",
    "emit/optimal_control/test_kernels.py",
    "verify/gaussian_closure/test_ladder.py",
    "commands/test_sweep_of_flows_and_controls.py",
    "commands/test_sweep.py",
    "commands/test_new_commands.py",
    "commands/test_command_line.py",
    "commands/test_own_files.py",
    "face/test_matrix.py",
    "emit/common/test_short_form.py",
    "emit/gaussian_closure/test_margin_of_integrals.py",
    "methods/token_flow/test_any_definition.py",
    "methods/covariance_sde/test_odd_layers.py",
    "runtime/test_gradients_at_the_edge.py",
    "test_gate.py",
)

THEORY = Path(__file__).parent.parent / "theory"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With the option of `make` that leaves this order to us (--no-loadscope-reorder)."""
    place = {name: k for k, name in enumerate(DEAREST)}
    items.sort(key=lambda item: place.get(_within_tests(item.path), len(place)))


def _within_tests(file: Path) -> str:
    tests = Path(__file__).parent
    return file.relative_to(tests).as_posix() if file.is_relative_to(tests) else ""


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
    file = _within_tests(request.path)
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
