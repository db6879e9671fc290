"""Shapes of arguments for every function of a generated module, by its arguments' names.

A new model, or a new function of a known signature, needs nothing here; an unknown argument is an
error, so that no function is left out in silence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.closures.entry import ClosureModel
from derive.runtime.control.entry import ControlModel
from derive.runtime.flows.entry import FlowModel
from derive.runtime.paths.blocks import Block
from derive.runtime.paths.entry import CovarianceModel

SMALL = 2  # of every dimension of a closure or a control problem


def struct(shape: tuple[int, ...], kind: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, kind)


def sized(shape: tuple[Any, ...], sizes: Mapping[str, int] | int, kind: Any) -> Any:
    """A symbolic shape with numbers for its symbols."""
    known = sizes if isinstance(sizes, Mapping) else {}
    default = SMALL if isinstance(sizes, Mapping) else sizes
    return struct(tuple(s if isinstance(s, int) else known.get(s, default) for s in shape), kind)


def tuple_of(kind: type, shapes: Mapping[str, tuple[Any, ...]], dtype: Any) -> Any:
    """A NamedTuple of arrays by its fields' symbolic shapes."""
    return kind(*(sized(shapes[name], SMALL, dtype) for name in kind._fields))  # type: ignore[attr-defined]


def numbers(kind: type, dtype: Any) -> Any:
    return kind(*(struct((), dtype) for _ in kind._fields))  # type: ignore[attr-defined]


#: pure solvers, with numbers of steps and tokens that no shape gives: what they call is lowered
SOLVERS = {"path", "flow", "extremal", "terms", "normals", "match", "load_plan"}


def wrapper(function: Callable[..., Any]) -> bool:
    """Whether a function of a module runs on the host: it returns a record of the runtime's."""
    kind = get_type_hints(function).get("return")
    return kind is not None and kind.__module__.startswith("derive.runtime.")


def functions(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public functions that a module defines, without wrappers."""
    for name, value in vars(module).items():
        own = inspect.isfunction(value) and value.__module__ == module.__name__
        if own and not name.startswith("_") and not wrapper(value) and name not in SOLVERS:
            degrees = "degree" in inspect.signature(value).parameters  # static under jit
            yield name, partial(value, 2) if degrees else value


def arguments(module: ModuleType, function: Callable[..., Any], m: int, dtype: Any) -> list[Any]:
    """A shape for every argument of `function`; KeyError for an argument of unknown name."""
    spec = module._SPEC
    known: dict[str, Any]
    if isinstance(spec, CovarianceModel):
        known = _of_sde(module, spec, function.__name__, m, dtype)
    elif isinstance(spec, FlowModel):
        known = of_flow(spec, dtype) | _steering(getattr(function, "__name__", ""), dtype)
    elif isinstance(spec, ClosureModel):
        known = of_closure(spec, dtype)
    else:
        assert isinstance(spec, ControlModel), f"{module.__name__}: a model of an unknown method"
        known = of_control(spec, dtype)
    own = inspect.signature(function).parameters.values()
    return [known[one.name] for one in own if one.default is one.empty]


def _of_sde(
    module: ModuleType, spec: CovarianceModel, name: str, m: int, dtype: Any
) -> dict[str, Any]:
    at_width = name.endswith("_at_width")
    widths = {symbol: m for shape in spec.weight_shapes.values() for symbol in shape}
    sizes = {**widths, **{part: 2 for _, part in spec.shares.values()}, spec.width: 2 * m}
    sizes |= {share: sizes[whole] // sizes[part] for share, (whole, part) in spec.shares.items()}
    laws: Mapping[str, Block] = spec.step_blocks
    if at_width:
        assert spec.at_width is not None
        laws = spec.at_width.step_blocks
    if name == "reduced_layer":
        laws = spec.reduced_blocks
    V = struct((m, m), dtype)
    return {
        "key": jax.eval_shape(lambda: jax.random.key(0)),
        "V": V,
        "L": V,
        "X": struct((m, sizes[spec.width]), dtype),
        "t": struct((), dtype),
        "params": numbers(module.ParamsAtWidth if at_width else spec.params, dtype),
        "dims": numbers(spec.dims, dtype),
        "fields": [V for _ in spec.noise_fields],
        "blocks": [V for _ in laws],
        "weights": spec.weights(*(sized(s, sizes, dtype) for s in spec.weight_shapes.values())),
    }


def of_closure(spec: ClosureModel, dtype: Any) -> dict[str, Any]:
    blocks = (SMALL,) if spec.positional else ()
    return {
        "mean": struct((*blocks, SMALL), dtype),
        "cov": struct((*blocks, SMALL, SMALL), dtype),
        "x": struct((*(blocks or (3,)), SMALL), dtype),
        "y": struct((*(blocks or (3,)), SMALL), dtype),
        "params": tuple_of(spec.params, spec.param_shapes, dtype),
    }


def of_flow(spec: FlowModel, dtype: Any) -> dict[str, Any]:
    tokens, square = struct((3, SMALL), dtype), struct((3, 3), dtype)
    own = {"x": tokens, "z": tokens, "R": square, "G": square}
    rows = dict.fromkeys(("masses", "theta"), struct((3,), dtype))
    names = ("rho", "r", "n", "t", "d", "g", "mass", "other")
    scalars = dict.fromkeys(names, struct((), dtype))
    return own | rows | scalars | {"params": tuple_of(spec.params, spec.param_shapes, dtype)}


def _steering(name: str, dtype: Any) -> dict[str, Any]:
    """Arguments of what splits laws and pulls tokens."""
    if name in ("split", "pull"):
        vectors = dict.fromkeys(("alpha", "omega", "z"), struct((SMALL,), dtype))
        return vectors | dict.fromkeys(("c", "h"), struct((), dtype))
    if name in ("split_rate", "pull_rates", "split_time", "pull_time"):
        names = ("z", "mean", "c", "s", "g", "k", "h", "z0", "z1", "u0", "u1", "C")
        return dict.fromkeys(names, struct((), dtype))
    return {}


def of_control(spec: ControlModel, dtype: Any) -> dict[str, Any]:
    x = tuple_of(spec.state, spec.state_shapes, dtype)
    u = tuple_of(spec.control, spec.control_shapes, dtype)
    return {
        "x": x,
        "dx": x,
        "p": spec.costate(*x),
        "u": u,
        "du": u,
        "params": tuple_of(spec.params, spec.param_shapes, dtype),
    }


def filled(shapes: Any, seed: int) -> Any:
    """Positive numbers of these shapes; square matrices are positive definite."""
    rng = np.random.default_rng(seed)

    def array(s: Any) -> Any:
        if jnp.issubdtype(s.dtype, jax.dtypes.prng_key):
            return jax.random.key(seed)
        value = rng.uniform(0.3, 0.9, s.shape)
        if len(s.shape) >= 2 and s.shape[-1] == s.shape[-2]:
            value = value @ np.swapaxes(value, -1, -2) / s.shape[-1] + np.eye(s.shape[-1])
        return jnp.asarray(value, s.dtype)

    return jax.tree.map(array, shapes)
