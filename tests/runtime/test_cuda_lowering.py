"""Lowered for CUDA, kernels and loops call no library but the documented ones.

Nothing is compiled or run: lowering needs no GPU.  Every public function of every generated module
and every program that the runtime compiles is lowered at sizes within `LARGEST`, where random
numbers alone may come from a library; above it the documented factorisations appear.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import flow_models
import jax
import jax.numpy as jnp
import kernel_arguments as shapes
import pytest
import runtime_loops
from representatives import spread

import derive.generated
from derive.runtime.closures.entry import ClosureModel
from derive.runtime.common import small_matrices as small
from derive.runtime.common.custom_calls import LARGE, RANDOM, targets
from derive.runtime.common.precision import precision
from derive.runtime.flows.entry import FlowModel
from derive.runtime.paths.entry import CovarianceModel
from derive.runtime.paths.stepping import TILES

MODELS = sorted(
    file.stem
    for file in Path(derive.generated.__path__[0]).glob("*.py")
    # a flow with noise has no solver, and is bound to no specification
    if not file.stem.startswith("_") and "_SPEC = " in file.read_text(encoding="utf-8")
)
LIBRARY = {"rescaled_velocity"}  # the exponential of a matrix solves a system, by cuSOLVER
M = 12  # more than what has a step of its own, fewer than what is left to a library
assert TILES < M <= small.LARGEST


def module_of(model: str) -> ModuleType:
    return importlib.import_module(f"derive.generated.{model}")


def recipes(module: ModuleType) -> dict[str, Any]:
    if isinstance(module._SPEC, CovarianceModel):
        return runtime_loops.SDE
    if isinstance(module._SPEC, FlowModel):
        return runtime_loops.FLOW
    return (
        runtime_loops.CLOSURE if isinstance(module._SPEC, ClosureModel) else runtime_loops.CONTROL
    )


def _looped(model: str) -> Any:
    """Quick: of the representatives those whose loops are traced in a second or two; of control
    problems, which take longest, one."""
    spec = module_of(model)._SPEC
    estimated = isinstance(spec, ClosureModel) and spec.rate_error is not None
    steered = recipes(module_of(model)) is runtime_loops.CONTROL and model != "mean_tracking"
    return pytest.param(model, marks=pytest.mark.slow) if estimated or steered else spread(model)


@pytest.fixture(autouse=True, scope="module")
def _traced_for_a_gpu() -> Iterator[None]:
    with small.for_gpu():
        yield


def calls(program: Any, *arguments: Any) -> set[str]:
    return targets(program, *arguments) - set(RANDOM)


@pytest.mark.parametrize("model", [spread(name) for name in MODELS])
def test_a_kernels_functions_call_no_library(model: str) -> None:
    module = module_of(model)
    with precision("float64") as kind:
        found = {
            name: calls(jax.jit(function), *shapes.arguments(module, function, M, kind))
            for name, function in shapes.functions(module)
            if name not in LIBRARY
        }
    least = 1 if isinstance(module._SPEC, FlowModel) else 5
    assert len(found) >= least, f"{model} has more public functions than {sorted(found)}"
    assert not any(found.values()), {name: names for name, names in found.items() if names}


@pytest.mark.parametrize("model", ["shaped_attention", "l2_closure", "mean_tracking"])
def test_nor_in_single_precision(model: str) -> None:
    module = module_of(model)
    with precision("float32") as kind:
        for name, function in shapes.functions(module):
            arguments = shapes.arguments(module, function, M, kind)
            assert not calls(jax.jit(function), *arguments), name


@pytest.mark.parametrize("model", [_looped(name) for name in MODELS])
def test_a_kernels_loops_call_no_library(model: str) -> None:
    module = module_of(model)
    with precision("float64") as kind:
        for place, recipe in recipes(module).items():
            for what, program, arguments in recipe(module, M, kind):
                assert not calls(program, *arguments), f"{place} {what}"


def test_nor_does_the_error_of_an_integral_over_laws() -> None:
    """The one loop that no quick model above has."""
    place = "closures.entry._error_of_laws"
    with precision("float64") as kind:
        ((_, program, arguments),) = runtime_loops.CLOSURE[place](
            module_of("sigmoid_closure"), M, kind
        )
        assert not calls(program, *arguments)


def _path(scheme: str, kind: Any) -> tuple[Any, ...]:
    module = module_of("shaped_attention")

    def end(V: Any, gamma: Any) -> Any:
        params = module.Params(gamma, 1.0)
        return module.path(jax.random.key(0), V, params, t1=0.1, steps=8, scheme=scheme)

    return end, shapes.struct((M, M), kind), shapes.struct((), kind)


def _flow(kind: Any) -> tuple[Any, ...]:
    module = module_of("l2_closure")
    given = shapes.of_closure(module._SPEC, kind)

    def end(mean: Any, cov: Any, params: Any) -> Any:
        return module.flow(mean, cov, params, t1=0.1, steps=8)[1]

    return end, *(given[name] for name in ("mean", "cov", "params"))


def _extremal(kind: Any) -> tuple[Any, ...]:
    module = module_of("mean_tracking")
    given = shapes.of_control(module._SPEC, kind)

    def cost(x0: Any, params: Any) -> Any:
        return module.extremal(x0, params, T=1.0, intervals=8).cost

    return cost, given["x"], given["params"]


PURE = {
    "path": partial(_path, "network"),
    "path by Euler": partial(_path, "euler"),
    "flow": _flow,
    "extremal": _extremal,
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float64") for name in PURE),
        ("flow", "float32"),
        *(pytest.param(n, "float32", marks=pytest.mark.slow) for n in ("path", "path by Euler")),
    ],
)
def test_pure_solvers_and_their_slopes_call_no_library(name: str, dtype: str) -> None:
    """An extremal holds its numbers in float64, whatever it is given, and needs x64."""
    with precision("float64" if name == "extremal" else dtype):  # type: ignore[arg-type]
        program, *arguments = PURE[name](jnp.dtype(dtype))

        def slope(*given: Any) -> Any:
            return jax.grad(lambda *a: jnp.sum(program(*a)), tuple(range(len(given))))(*given)

        for function in (program, slope):
            assert not calls(jax.jit(function), *arguments)


def by_hand(spec: FlowModel) -> ModuleType:
    module = ModuleType("a module")
    module._SPEC = spec  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("spec", [flow_models.sa, flow_models.causal, flow_models.softmax])
def test_loops_of_flows_call_no_library(spec: FlowModel) -> None:
    with precision("float64") as kind:
        for place, recipe in runtime_loops.FLOW.items():
            for what, program, arguments in recipe(by_hand(spec), M, kind):
                assert not calls(program, *arguments), f"{place} {what}"


#: what they have between them is every part that a recipe may find missing
RECIPES = ("shaped_relu_mlp", "sigmoid_closure", "mean_tracking", "sparse_neural_ode")
PLACES = {
    *runtime_loops.SDE,
    *runtime_loops.CLOSURE,
    *runtime_loops.FLOW,
    *runtime_loops.CONTROL,
}


def test_every_place_that_compiles_is_lowered_here() -> None:
    alone = {p for p in runtime_loops.places() if p.startswith(runtime_loops.ALONE)}
    assert runtime_loops.places() - alone == PLACES
    assert len({p.rpartition(".")[0] for p in alone}) == 6  # another file is looked at first


def test_every_recipe_yields_programs() -> None:
    """A recipe may yield nothing for a model without that part, but not for all of them."""
    left = set(PLACES)
    with precision("float64") as kind:
        for module in (*map(module_of, RECIPES), by_hand(flow_models.sa)):
            left -= {
                p for p, make in recipes(module).items() if p in left and any(make(module, M, kind))
            }
    assert not left


@pytest.mark.parametrize("what", [{"fixed_end": True}, {"implicit": True, "control_law": None}])
def test_what_no_kernel_has_calls_no_library_either(what: dict[str, Any]) -> None:
    module = ModuleType("a module")
    module._SPEC = replace(module_of("mean_tracking")._SPEC, **what)  # type: ignore[attr-defined]
    with precision("float64") as kind:
        for place in ("control.extremal_system.problem", "control.extremals._report"):
            for _, program, arguments in runtime_loops.CONTROL[place](module, M, kind):
                assert not calls(program, *arguments), place


WORDS: dict[str, tuple[Callable[..., Any], set[str]]] = {
    "solve": (lambda a: small.solve(a, a), {"cusolver_getrf_ffi", "cublas_trsm"}),
    "inverse": (small.inverse, {"cusolver_getrf_ffi", "cublas_trsm"}),
    "slogdet": (small.slogdet, {"cusolver_getrf_ffi"}),
    "factored": (small.factored, {"cusolver_getrf_ffi"}),
    "cholesky": (small.cholesky, {"cusolver_potrf_ffi"}),
    "eigh": (small.eigh, {"cusolver_syevd_ffi"}),
    "eigvalsh": (small.eigvalsh, {"cusolver_syevd_ffi"}),
}


@pytest.mark.parametrize("word", WORDS)
def test_the_threshold_is_where_it_is_said_to_be(word: str) -> None:
    function, names = WORDS[word]
    within, above = (
        jax.ShapeDtypeStruct((3, n, n), jnp.float32) for n in (small.LARGEST, small.LARGEST + 1)
    )
    assert calls(jax.jit(function), within) == set()
    found = calls(jax.jit(function), above)
    assert names <= found <= set(LARGE)


def test_above_the_threshold_a_kernel_calls_what_is_documented() -> None:
    module = module_of("shaped_attention")
    with precision("float64") as kind:
        arguments = shapes.arguments(module, module.noise, small.LARGEST + 1, kind)
        assert calls(jax.jit(module.noise), *arguments) == {"cusolver_potrf_ffi"}


def test_the_cpu_keeps_its_library() -> None:
    a = jax.ShapeDtypeStruct((3, 4, 4), jnp.float32)
    assert targets(jax.jit(small.cholesky), a, platform="cpu") == {"lapack_spotrf_ffi"}


def test_without_a_gpu_programs_are_traced_for_the_library_alone() -> None:
    """`targets` traces anew where nothing was said; `for_gpu` ends with its block."""
    a = jax.ShapeDtypeStruct((3, 4, 4), jnp.float32)
    token = small._for_gpu.set(False)
    try:
        plain = jax.jit(lambda a: small.cholesky(a) + 1)
        assert "platform_index" not in str(plain.trace(a).jaxpr)
        assert targets(plain, a) == set()  # a library's call, had it not been traced anew
        assert "platform_index" not in str(plain.trace(a).jaxpr)
        with small.for_gpu():
            assert "platform_index" in str(plain.trace(a).jaxpr)
    finally:
        small._for_gpu.reset(token)


def test_derivatives_call_no_library() -> None:
    a = jax.ShapeDtypeStruct((2, 2), jnp.float32)

    def everything(a: jax.Array) -> jax.Array:
        a = a @ a.T
        values, vectors = small.eigh(a)
        solved = small.solve_factored(small.factored(a), a[0])
        return (
            small.inverse(a).sum()
            + small.slogdet(a)[1]
            + small.cholesky(a).sum()
            + (vectors * values).sum()
            + solved.sum()
        )

    for derivative in (jax.grad(everything), jax.hessian(everything)):
        assert not calls(
            jax.jit(jax.vmap(derivative)), jax.ShapeDtypeStruct((2, *a.shape), a.dtype)
        )
