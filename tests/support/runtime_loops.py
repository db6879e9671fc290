"""Every program that the runtime compiles, with shapes of arguments, by the place that compiles it.

`PROGRAMS` maps 'module.function' to a generator of (what, program, arguments) for one generated
module.  `places` reads the same names off the sources: a test compares the two.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from kernel_arguments import SMALL, filled, numbers, of_closure, of_control, sized, struct

import derive.runtime
from derive.runtime.closures import entry as gaussian_closure
from derive.runtime.closures import particle_system
from derive.runtime.closures import solver as closure_solver
from derive.runtime.common import adaptive, normal_nodes
from derive.runtime.control import (
    continuation,
    creases,
    extremal_checks,
    extremal_system,
    extremals,
    function_checks,
    pure,
    second_variation,
    sparse_checks,
    sparse_control,
    sparse_discrete,
    sparse_turnpike,
    static_problem,
    trials,
    turnpike,
)
from derive.runtime.control.coordinates import Flat, flatten
from derive.runtime.flows import cluster_steps
from derive.runtime.flows import solver as flow_solver
from derive.runtime.paths import ensemble, networks
from derive.runtime.paths.at_width import specification
from derive.runtime.paths.stepping import Layout

Programs = Iterator[tuple[str, Any, tuple[Any, ...]]]

MECHANISM = {"common.compiling", "paths.sharding"}  # how the others compile
PATHS, LAWS, NODES, BATCH = 64, 8, 5, 2


def places() -> set[str]:
    """'folder.module.function' of each outermost function of the runtime that compiles."""
    found = set()
    home = Path(derive.runtime.__path__[0])
    for file in sorted(home.rglob("*.py")):
        place = ".".join(file.relative_to(home).with_suffix("").parts)
        if place in MECHANISM:
            continue
        for outer in ast.parse(file.read_text()).body:
            for node in ast.walk(outer):
                if _compiles(node):
                    assert isinstance(outer, ast.FunctionDef), f"{file.name}: {ast.dump(outer)}"
                    found.add(f"{place}.{outer.name}")
    return found


def _compiles(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in ("jit", "pjit", "pmap") or ast.unparse(node).endswith(".over_paths")
    return isinstance(node, ast.Name) and node.id in ("jit", "over_paths", "brief")


def _block(m: int, kind: Any) -> ensemble.InFlight:
    layout = Layout(m)
    state = (m * (m + 1) // 2, PATHS) if layout.tiles else (PATHS, m, m)
    number, keys = struct((PATHS,), jnp.int32), struct((PATHS, 2), jnp.uint32)
    times = struct((PATHS,), kind)
    return ensemble.InFlight(struct(state, kind), times, number, times, keys)


def _models(module: ModuleType) -> Iterator[tuple[str, Any]]:
    yield "", module._SPEC
    if module._SPEC.at_width is not None:
        yield " at width", specification(module._SPEC)


def _adaptive(module: ModuleType, m: int, kind: Any) -> Programs:
    one, count = struct((), kind), struct((), jnp.int32)
    for what, spec in _models(module):
        control, params = ensemble.Control(one, one, one), numbers(spec.params, kind)
        yield what, ensemble.adaptive(spec, m), (_block(m, kind), one, control, params, count)


def _fixed(module: ModuleType, m: int, kind: Any) -> Programs:
    one, count = struct((), kind), struct((), jnp.int32)
    for what, spec in _models(module):
        control, params = ensemble.Control(one, one, one), numbers(spec.params, kind)
        for scheme in ("network", "euler"):
            program = ensemble.fixed(spec, m, scheme)
            yield scheme + what, program, (_block(m, kind), count, one, control, params)


def _path_keys(module: ModuleType, m: int, kind: Any) -> Programs:
    yield "", ensemble._path_keys, (struct((), jnp.int32), struct((PATHS,), jnp.uint32))


def _factor(module: ModuleType, m: int, kind: Any) -> Programs:
    yield "", normal_nodes._factor, (struct((m, m), kind),)


def _networks(module: ModuleType, m: int, kind: Any) -> Programs:
    spec, one, count = module._SPEC, struct((), kind), struct((), jnp.int32)
    sizes = {symbol: m for shape in spec.weight_shapes.values() for symbol in shape}
    sizes |= {name: m for name in spec.dims._fields} | {part: 2 for _, part in spec.shares.values()}
    sizes[spec.width] = 2 * m
    sizes |= {share: sizes[whole] // sizes[part] for share, (whole, part) in spec.shares.items()}
    kinds = [("dense", networks._dense_layers, sizes[spec.width])]
    if spec.reduced_layer is not None:
        kinds.append(("reduced", networks._reduced_layers, m))
    for what, make, columns in kinds:
        state, exit = struct((16, m, columns), kind), struct((16,), kind)
        keys, params = struct((16, 2), jnp.uint32), numbers(spec.params, kind)
        program = make(spec, tuple(sorted(sizes.items())), ())
        yield what, program, (state, exit, keys, count, count, one, one, params)


def _laws(module: ModuleType, kind: Any) -> tuple[Any, Any, Any]:
    """State and parameters of laws, lanes last."""
    spec, known = module._SPEC, of_closure(module._SPEC, kind)
    state = tuple(struct((*known[n].shape, LAWS), kind) for n in ("mean", "cov"))
    return state, ({}, known["params"]._asdict()), spec


def _advancing(module: ModuleType, m: int, kind: Any) -> Programs:
    state, params, spec = _laws(module, kind)
    lane, count = struct((LAWS,), kind), struct((LAWS,), jnp.int32)
    one, number = struct((), kind), struct((), jnp.int32)
    for method in ("auto", "stiff"):
        keeps = method != "stiff" and closure_solver._tableau(spec).first_same_as_last
        flight = adaptive.Flight(
            state, state if keeps else (), lane, lane, lane, count, count, count, lane
        )
        control = adaptive.Control(one, number, one)
        program = closure_solver.advancing(spec, method)
        yield method, program, (flight, lane, params, control, one, number)


def _starting(module: ModuleType, m: int, kind: Any) -> Programs:
    state, params, spec = _laws(module, kind)
    program = closure_solver.starting(spec, "auto")
    yield "", program, (state, struct((LAWS,), kind), params, struct((), kind))


def _particles(module: ModuleType, m: int, kind: Any) -> Programs:
    x = of_closure(module._SPEC, kind)["x"]
    program = particle_system._advancing(module._SPEC)
    params = of_closure(module._SPEC, kind)["params"]
    systems = struct((1, *x.shape), kind)
    yield "", program, (systems, params, struct((), kind), struct((), jnp.int32))


def _error_of_laws(module: ModuleType, m: int, kind: Any) -> Programs:
    spec = module._SPEC
    if spec.rate_error is None:
        return
    known = of_closure(spec, kind)
    mean, cov = (struct((LAWS, *known[n].shape), kind) for n in ("mean", "cov"))
    program = gaussian_closure._error_of_laws(spec, frozenset())
    yield "", program, (mean, cov, {}, known["params"]._asdict())


TOKENS, DIMENSION = 6, 3


def _system(module: ModuleType, kind: Any) -> tuple[Any, Any, Any]:
    """Specification, tokens with lanes last, and parameters that all lanes share."""
    spec = module._SPEC
    sizes = {"n": TOKENS, "d": DIMENSION}
    shapes = {n: spec.param_shapes.get(n, ()) for n in spec.params._fields}
    params = {n: sized(shape, sizes, kind) for n, shape in shapes.items()}
    return spec, struct((TOKENS, DIMENSION, LAWS), kind), ({}, params)


def _tokens_advancing(module: ModuleType, m: int, kind: Any) -> Programs:
    spec, x, params = _system(module, kind)
    lane, count = struct((LAWS,), kind), struct((LAWS,), jnp.int32)
    one, number = struct((), kind), struct((), jnp.int32)
    flight = adaptive.Flight((x,), (), lane, lane, lane, count, count, count, lane)
    control = adaptive.Control(one, number, one)
    yield "", flow_solver.advancing(spec), (flight, lane, params, control, one, number)


def _tokens_starting(module: ModuleType, m: int, kind: Any) -> Programs:
    spec, x, params = _system(module, kind)
    yield "", flow_solver.starting(spec), ((x,), struct((LAWS,), kind), params, struct((), kind))


def _probing(module: ModuleType, m: int, kind: Any) -> Programs:
    spec, x, params = _system(module, kind)
    yield "", flow_solver.probing(spec), (x, params)


def _energies(module: ModuleType, m: int, kind: Any) -> Programs:
    spec, x, params = _system(module, kind)
    if spec.energy is not None:
        yield "", flow_solver.energies(spec), (x, params)


def _clusters(module: ModuleType, kind: Any) -> tuple[Any, Any, Any]:
    spec, _, (_, params) = _system(module, kind)
    state = struct((TOKENS, TOKENS, 1), kind), struct((TOKENS, 1), kind)
    alive = struct((TOKENS,), bool)
    return spec, state, cluster_steps.Group(alive, struct((TOKENS,), kind), spec.params(**params))


def _leaping(module: ModuleType, m: int, kind: Any) -> Programs:
    spec, state, group = _clusters(module, kind)
    if spec.gram_rate is not None:
        yield "", cluster_steps.leaping(spec), (state, group, struct((), kind))


def _stepping(module: ModuleType, m: int, kind: Any) -> Programs:
    spec, state, group = _clusters(module, kind)
    one = struct((), kind)
    control = cluster_steps.Control(one, one, one, struct((), jnp.int32))
    if spec.gram_rate is not None:
        yield "", cluster_steps.stepping(spec), (state, one, one, group, control)


def _gram_energies(module: ModuleType, m: int, kind: Any) -> Programs:
    spec, _, group = _clusters(module, kind)
    R, masses = struct((5, TOKENS, TOKENS), kind), struct((5, TOKENS), kind)
    if spec.gram_energy is not None:
        yield "", cluster_steps.energies(spec), (R, masses, group.params)


class Problem:
    """A control problem on vectors, and shapes of what its programs take."""

    def __init__(self, module: ModuleType, kind: Any) -> None:
        spec = module._SPEC
        symbols = {
            s
            for shapes in (spec.param_shapes, spec.state_shapes, spec.control_shapes)
            for shape in shapes.values()
            for s in shape
            if isinstance(s, str)
        }
        self.flat: Flat = flatten(spec, dict.fromkeys(symbols, SMALL))
        self.kind = kind
        self.params = of_control(spec, kind)["params"]
        self.z, self.v = struct((self.flat.n,), kind), struct((self.flat.m,), kind)
        self.one = struct((), kind)
        end = self.z if spec.fixed_end else None
        self.theta = extremal_system.Theta(self.params, self.many(self.z), end, self.v)
        self.nodes = struct((BATCH, NODES + 1), kind)
        self.y = struct((BATCH, NODES + 1, 2 * self.flat.n), kind)

    def many(self, x: Any, count: int = BATCH) -> Any:
        return struct((count, *x.shape), self.kind)


Recipe = Callable[[Problem], Programs]


def _control(recipe: Recipe) -> Callable[[ModuleType, int, Any], Programs]:
    def programs(module: ModuleType, m: int, kind: Any) -> Programs:
        yield from recipe(Problem(module, kind))

    return programs


def _field(p: Problem) -> Programs:
    theta = p.theta._replace(z0=p.z)
    yield "", extremal_system.problem(p.flat).field, (struct((2 * p.flat.n,), p.kind), theta)


def _solver(p: Problem) -> Programs:
    yield "", continuation._solver(p.flat, NODES, 1e-8, 40), (p.theta, p.nodes, p.y)
    eased = p.theta._replace(ease=p.one)
    yield "eased", continuation._solver(p.flat, NODES, 1e-8, 40, True), (eased, p.nodes, p.y)


def _pure(p: Problem) -> Programs:
    theta = p.theta._replace(z0=p.z, zT=p.z)
    yield "", pure.solver(p.flat), (theta, *(struct(a.shape[1:], p.kind) for a in (p.nodes, p.y)))


def _on_a_mesh(make: Callable[[Flat, int], Any]) -> Recipe:
    def programs(p: Problem) -> Programs:
        yield "", make(p.flat, NODES), (p.theta, p.nodes, p.y)

    return programs


def _resample(p: Problem) -> Programs:
    times = struct((BATCH, 3), p.kind)
    yield "", extremals._resample(p.flat, NODES, 3), (p.theta, p.nodes, p.y, times)


def _curvature(p: Problem) -> Programs:
    yield "", extremals._curvature(p.flat, NODES), (p.theta, p.y)


def _unpacked(p: Problem) -> Programs:
    yield "", extremals._unpacked(p.flat), (p.theta, p.y)


def _missed(flat: Flat, N: int) -> Any:
    return extremal_checks._missed(extremal_system.problem(flat), N)


def _second(flat: Flat, N: int) -> Any:
    return second_variation.tested(flat, extremal_system.problem(flat), N)


def _static(p: Problem) -> Programs:
    w = struct((2 * p.flat.n + p.flat.m,), p.kind)
    yield "", static_problem._search(p.flat, 30), (p.many(w), p.params)


def _static_pieces(p: Problem) -> Programs:
    w = struct((2 * p.flat.n + p.flat.m,), p.kind)
    yield "", static_problem._pieces(p.flat), (w, p.params)


def _at_points(make: Callable[[Flat], Any], batched: bool) -> Recipe:
    def programs(p: Problem) -> Programs:
        yield "", make(p.flat), (p.many(p.z) if batched else p.z, p.z, p.v, p.params)

    return programs


def _constant(p: Problem) -> Programs:
    yield "", trials._constant(p.flat), (p.many(p.z), p.many(p.v), p.one, p.params)


def _moves(p: Problem) -> Programs:
    yield "", trials._moves(p.flat), (p.z, p.many(p.v), p.one, p.one, p.params)


def _norms(p: Problem) -> tuple[str, ...]:
    return (sparse_control.norm_of(p.flat),) if p.flat.spec.sparse else ()


def _sparse_pieces(p: Problem) -> Programs:
    for norm in _norms(p):
        z, v = p.many(p.z), p.many(p.v)
        program = sparse_checks._pieces(p.flat, norm)
        yield norm, program, (z, v, v, z, p.one, p.one, p.params)


def _along(p: Problem) -> Programs:
    K, fields = 4, sparse_checks.Answer._fields
    shapes = {
        "z": p.many(p.z, K + 1),
        "p": p.many(p.z, K + 1),
        "u": p.many(p.v, K),
        "p_rest": p.many(p.z, K),
    }
    answer = sparse_checks.Answer(**{name: shapes.get(name, p.one) for name in fields})
    for norm in _norms(p):
        yield norm, sparse_checks._along(p.flat, norm, K), (answer, p.one, p.one, p.params)


def _sparse_functions(p: Problem) -> Programs:
    K, data = 4, sparse_discrete.Data(p.z, p.one, p.one, p.one, p.params)
    for norm in _norms(p):
        width = p.flat.m * (2 if norm == "l1" else 1)
        for k, program in enumerate(sparse_discrete.functions_of(p.flat, norm, K)):
            yield f"{norm} {k}", program, (struct((K * width + 1,), p.kind), data)


def _handed(call: Callable[[], Any]) -> list[Callable[..., Any]]:
    """What a call of a function in `sparse_turnpike` hands to jax.jit."""
    found: list[Callable[..., Any]] = []

    def jit(function: Callable[..., Any]) -> Callable[..., Any]:
        found.append(function)
        return function

    real = sparse_turnpike.jax
    stub = SimpleNamespace(jit=jit, grad=jax.grad, hessian=jax.hessian)
    sparse_turnpike.jax = stub  # type: ignore[assignment]
    try:
        call()
    finally:
        sparse_turnpike.jax = real
    return found


def _rests(p: Problem) -> Programs:
    given = filled(p.params, 0)
    for k, function in enumerate(_handed(lambda: sparse_turnpike.rests(p.flat, given))):
        yield str(k), jax.jit(function), (p.z,)


def _minima(p: Problem) -> Programs:
    given = filled(p.params, 0)
    for k, function in enumerate(_handed(lambda: sparse_turnpike._minima(p.flat, given, []))):
        yield str(k), jax.jit(function), (p.z,)


SDE: dict[str, Callable[[ModuleType, int, Any], Programs]] = {
    "paths.ensemble._path_keys": _path_keys,
    "paths.ensemble.adaptive": _adaptive,
    "paths.ensemble.fixed": _fixed,
    "paths.networks._advance": _networks,
    "common.normal_nodes._factor": _factor,
}
CLOSURE = {
    "closures.solver.advancing": _advancing,
    "closures.solver.starting": _starting,
    "closures.entry._error_of_laws": _error_of_laws,
    "closures.particle_system._advancing": _particles,
}
#: one problem at a time, a few of their states wide: a library's call is no harm there
ALONE = ("control.switching_", "flows.match.")
FLOW = {
    "flows.solver.advancing": _tokens_advancing,
    "flows.solver.starting": _tokens_starting,
    "flows.solver.probing": _probing,
    "flows.solver.energies": _energies,
    "flows.cluster_steps.leaping": _leaping,
    "flows.cluster_steps.stepping": _stepping,
    "flows.cluster_steps.energies": _gram_energies,
}
CONTROL = {
    place: _control(recipe)
    for place, recipe in {
        "control.creases._slopes": _at_points(creases._slopes, True),
        "control.extremal_checks._missed": _on_a_mesh(_missed),
        "control.extremals._curvature": _curvature,
        "control.extremals._error": _on_a_mesh(extremals._error),
        "control.extremals._kinks": _on_a_mesh(extremals._kinks),
        "control.extremals._report": _on_a_mesh(extremals._report),
        "control.extremals._resample": _resample,
        "control.continuation._solver": _solver,
        "control.extremals._unpacked": _unpacked,
        "control.extremal_system.problem": _field,
        "control.function_checks._values": _at_points(function_checks._values, True),
        "control.pure.solver": _pure,
        "control.second_variation.tested": _on_a_mesh(_second),
        "control.sparse_checks._along": _along,
        "control.sparse_checks._pieces": _sparse_pieces,
        "control.sparse_discrete.functions_of": _sparse_functions,
        "control.sparse_turnpike._minima": _minima,
        "control.sparse_turnpike.rests": _rests,
        "control.static_problem._pieces": _static_pieces,
        "control.static_problem._search": _static,
        "control.trials._constant": _constant,
        "control.trials._moves": _moves,
        "control.turnpike._law_slope": _at_points(turnpike._law_slope, False),
        "control.turnpike._second_derivatives": _at_points(turnpike._second_derivatives, False),
    }.items()
}
