"""Emitted functions run on JAX beside their right values: what every method's gate shares."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

# what is compiled here runs once: compile fast
_ONCE = {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": True}
ROUNDING = 1e-11  # of a function in double precision


@dataclass(frozen=True)
class Target:
    """A function of a module, arguments, its right value there, and the size of its terms.

    `right` is an array, or a sequence of them where the function returns several.  Terms may
    cancel: an error is relative to the larger one of `scale` and the value.  `allowed`: how large
    it may be; more than rounding only where one of the sides is a quadrature.  `call(function,
    *arguments)` is how the function is called, if not plainly.
    """

    name: str
    arguments: tuple[Any, ...]
    right: Any
    scale: float = 0.0
    allowed: float = ROUNDING
    call: Callable[..., Any] = lambda function, *arguments: function(*arguments)

    def error(self, got: Any) -> float:
        found, wanted = jax.tree.leaves(got), jax.tree.leaves(self.right)
        if len(found) != len(wanted):
            return np.inf
        pairs = zip(found, wanted, strict=True)
        return max((apart(np.asarray(g), np.asarray(w), self.scale) for g, w in pairs), default=0.0)


def apart(got: np.ndarray, right: np.ndarray, scale: float = 0.0) -> float:
    """Largest difference, relative to the right value or to `scale`; infinite for other shapes."""
    if got.shape != right.shape:
        return np.inf
    size = max(float(np.max(np.abs(right), initial=0.0)), scale, 1e-300)
    return worst(0.0, float(np.max(np.abs(got - right), initial=0.0)) / size)


def worst(known: float, found: float) -> float:
    """The larger one; NaN is the worst of all."""
    return float("inf") if np.isnan(found) else max(known, found)


def together(module: ModuleType, targets: Sequence[Target]) -> Iterator[tuple[Target, Any]]:
    """Every target with what the module returns, all functions in one program."""

    def run(arguments: list[tuple[Any, ...]]) -> list[Any]:
        pairs = zip(targets, arguments, strict=True)
        return [t.call(getattr(module, t.name.partition(",")[0]), *a) for t, a in pairs]

    found = jax.jit(run, compiler_options=_ONCE)([t.arguments for t in targets])
    yield from zip(targets, found, strict=True)


@dataclass(frozen=True)
class Finding:
    """How far an emitted function is from its equation, and how far it may be."""

    name: str
    error: float
    allowed: float = ROUNDING

    def __str__(self) -> str:
        if np.isinf(self.error):
            return f"{self.name}: no value, or one of another shape"
        return f"{self.name}: off by {self.error:.1g}, where {self.allowed:.0g} is allowed"


def findings(
    module: ModuleType, batches: Iterable[Sequence[Target]], bound: Collection[str]
) -> list[Finding]:
    """The worst of every function over all batches of targets; one program a batch.

    `bound`: functions that only hand their arguments to the runtime.  Whatever else the module
    defines must be among the targets: a function that nothing compares is in error by infinity.
    """
    found: dict[str, Finding] = {}
    for batch in batches:
        for target, got in together(module, batch):
            known = found[target.name].error if target.name in found else 0.0
            off = worst(known, target.error(got))
            found[target.name] = Finding(target.name, off, target.allowed)
    names = {name.partition(",")[0] for name in found}
    left = sorted(defined(module) - set(bound) - names)
    return [*found.values(), *(Finding(f"{name}, which nothing compares", np.inf) for name in left)]


def defined(module: ModuleType) -> set[str]:
    """The public functions that a generated module defines itself."""
    return {
        name
        for name, found in vars(module).items()
        if isinstance(found, Callable)  # type: ignore[arg-type]
        and not isinstance(found, type)
        and not name.startswith("_")
        and getattr(found, "__module__", "") == module.__name__
    }


@contextmanager
def strict_jax() -> Iterator[None]:
    """Double precision; no silent broadcasting of ranks or mixing of types."""
    with (
        jax.enable_x64(True),
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
    ):
        yield


def module_of(text: str, name: str) -> ModuleType:
    """A generated module from its text, before anything is written.  Raises what it raises."""
    module = ModuleType(f"_emitted_{name}")
    sys.modules[module.__name__] = module  # NamedTuples look their module up
    exec(compile(text, f"<kernel of {name}>", "exec"), vars(module))
    return module


def load_module(file: Path) -> ModuleType:
    """A generated module from its file."""
    return module_of(file.read_text(encoding="utf-8"), file.stem)


MOST_MAPS = 8_000  # about 1.3 GB; the kernel's own limit is some 65,000 maps


def drop_compiled() -> None:
    """Forget compiled programs once there is much of them: each maps memory, of which a process
    may hold only so many maps; a run over many models once died of it inside the compiler."""
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") < MOST_MAPS:
        return
    jax.clear_caches()
    gc.collect()
