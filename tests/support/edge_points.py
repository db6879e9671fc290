"""Arguments of generated functions at the edge of their domain, and directions into the domain.

Every public function of a generated module is a function of one tree of float arrays here; leaves
that are infinite stay where they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SDE = ("drift", "diffusion", "mixing_rate", "mixing_effect", "volatility", "noise_from", "layer")
SDE += ("reduced_layer", "step_layer", "drift_at_width", "lift_at_width", "step_layer_at_width")
CLOSURE = ("velocity", "mean_rate", "jacobian", "cov_rate", "noise", "margin", "particle_velocity")
CONTROL = ("running_cost", "terminal_cost", "terminal_rate", "hamiltonian", "state_rate")
CONTROL += ("costate_rate", "stationarity", "control", "static_residual")
GENERATED = Path(__file__).parents[2] / "generated"
SIZES = {"n": 6, "width": 6, "n_k": 3, "H": 2, "d": 3, "d_k": 2, "B": 2, "N": 3}
TOKENS = 3


class Point(NamedTuple):
    """`function(tree)` at `at`, which may be left along `along` (for small positive times)."""

    name: str
    edge: str
    function: Callable[[Any], Any]
    at: Any
    along: Any


def points_of(module: Any, functions: tuple[str, ...] | None = None) -> Iterator[Point]:
    """Of the functions of a module that there are, or of some of them."""
    known: tuple[str, ...]
    make: Callable[[Any, list[str]], Iterator[Point]]
    if hasattr(module, "drift"):
        known, make = SDE, _of_sde
    elif hasattr(module, "velocity"):
        known, make = CLOSURE, _of_closure
    else:
        known, make = CONTROL, _of_control
    names = [n for n in known if callable(getattr(module, n, None))]
    yield from make(module, [n for n in names if functions is None or n in functions])


def _into_cone(rng: np.random.Generator, size: int) -> np.ndarray:
    G = rng.standard_normal((size, size))
    return 0.2 * G @ G.T + 0.1 * np.eye(size)


def _covariances(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    X = rng.standard_normal((size, 2 * size)) / np.sqrt(2 * size)
    equal, line = X.copy(), np.outer(rng.uniform(0.5, 1, size), X[0])
    equal[1] = equal[0]
    return {
        "regular": X @ X.T,
        "equal tokens": equal @ equal.T,
        "rank one": line @ line.T,
        "zero": np.zeros((size, size)),
        "isotropic": np.eye(size),
    }


def _scalar(rng: np.random.Generator, low: float, high: float) -> float:
    least = max(low, 0.3)
    return rng.uniform(least, min(high, least + 0.5))


# covariance SDEs


def _of_sde(module: Any, names: list[str]) -> Iterator[Point]:
    spec = module._SPEC
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        call = _sde_call(module, name, rng)
        for edge, V in _covariances(rng, TOKENS).items():
            if spec.unit_rows and edge in ("zero", "rank one"):
                continue
            params, slopes = _sde_params(module, name, rng)
            yield _sde_point(module, name, edge, rng, V, params, slopes, call)
        for field in module.Params._fields:
            # a dimension among the parameters has no range
            _, high, _, high_open, _ = spec.ranges.get(field, ("1", "inf", False, True, ""))
            if float(high) == np.inf and not high_open:
                params, slopes = _sde_params(module, name, rng)
                params[field], slopes[field] = np.inf, 0.0
                V = _covariances(rng, TOKENS)["regular"]
                yield _sde_point(module, name, f"{field} = inf", rng, V, params, slopes, call)


def _sde_params(module: Any, name: str, rng: np.random.Generator) -> tuple[dict, dict]:
    kind = module.ParamsAtWidth if name.endswith("at_width") else module.Params
    values = {}
    for field in kind._fields:
        low, high, *_ = module._SPEC.ranges.get(field, ("30", "60"))
        values[field] = _scalar(rng, float(low), float(high))
        if field == "width":
            values[field] = 64.0
    return values, {field: 0.1 * rng.standard_normal() for field in values}


@lru_cache(maxsize=4)  # one function, compiled once
def _at_counts(
    call: Callable[[Any], Any], counts: tuple[tuple[str, float], ...]
) -> Callable[[Any], Any]:
    return lambda tree: call({**tree, "params": {**tree["params"], **dict(counts)}})


def _dims(module: Any) -> Any:
    return module.Dims(
        *(float({**SIZES, "n": 64, "d": 64}.get(f, 12)) for f in module.Dims._fields)
    )


def _sde_point(
    module: Any,
    name: str,
    edge: str,
    rng: Any,
    V: np.ndarray,
    params: dict,
    slopes: dict,
    call: Callable[[Any], Any],
) -> Point:
    # sizes (heads, a key width) are counts: nobody differentiates by them
    smooth = set(module._SPEC.ranges) | {"width"}
    counts = tuple((f, v) for f, v in params.items() if f not in smooth)
    call = _at_counts(call, counts)
    tree: dict[str, Any] = {"params": {f: v for f, v in params.items() if f in smooth}}
    along: dict[str, Any] = {"params": {f: v for f, v in slopes.items() if f in smooth}}
    wanted = list(inspect.signature(getattr(module, name)).parameters)
    values, vectors = np.linalg.eigh(V)
    root = vectors * np.sqrt(np.maximum(values, 0))
    if "V" in wanted:
        tree["V"], along["V"] = V, _into_cone(rng, TOKENS)
    if "L" in wanted:
        tree["L"], along["L"] = root, 0.2 * rng.standard_normal(root.shape)
    if "X" in wanted:
        n = SIZES[module._SPEC.width]
        tree["X"] = np.concatenate([root, np.zeros((TOKENS, n - TOKENS))], 1) * np.sqrt(n)
        along["X"] = 0.2 * rng.standard_normal(tree["X"].shape)
    return Point(name, edge, call, tree, along)


def _sde_call(module: Any, name: str, rng: Any) -> Callable[[Any], Any]:
    """The function of the tree alone: random fields, blocks and weights are fixed."""
    spec, function = module._SPEC, getattr(module, name)
    kind = module.ParamsAtWidth if name.endswith("at_width") else module.Params
    wanted = list(inspect.signature(function).parameters)
    fixed: dict[str, Any] = {}
    if "blocks" in wanted:
        laws = spec.reduced_blocks if name == "reduced_layer" else spec.step_blocks
        laws = spec.at_width.step_blocks if name == "step_layer_at_width" else laws
        fixed["blocks"] = _drawn(rng, laws)
    if "fields" in wanted:
        fixed["fields"] = [
            G + G.T if k == "symmetric" else G
            for k in spec.noise_fields.values()
            for G in [0.5 * rng.standard_normal((TOKENS, TOKENS))]
        ]
    if "dims" in wanted:
        fixed["dims"] = _dims(module)
    if "weights" in wanted:
        small = {f: SIZES.get(f, 2) for f in module.Dims._fields}
        shape = lambda d: SIZES[d] if d in SIZES else _share(spec, d, small)  # noqa: E731
        fixed["weights"] = module.Weights(
            **{
                w: rng.standard_normal([shape(d) for d in dims])
                for w, dims in spec.weight_shapes.items()
            }
        )
        fixed["dims"] = module.Dims(**{f: float(s) for f, s in small.items()})

    def call(x: Any) -> Any:
        given = {k: v for k, v in x.items() if k != "params"}
        return function(**given, **fixed, params=kind(**x["params"]))

    return call


def _share(spec: Any, dim: str, sizes: dict[str, int]) -> int:
    whole, count = spec.shares.get(dim) or dim.split("/")
    return sizes[whole] // sizes[count]


def _drawn(rng: Any, laws: Any) -> list[np.ndarray]:
    out = []
    for block in laws.values():
        G = rng.standard_normal((TOKENS, TOKENS))
        out.append(G if block.kind == "gaussian" else G + G.T if block.kind == "symmetric" else
                   8 * np.eye(TOKENS) + G + G.T)  # fmt: skip
    return out


# Gaussian closures


def _of_closure(module: Any, names: list[str]) -> Iterator[Point]:
    spec = module._SPEC
    d = SIZES["d"]
    for number, name in enumerate(names):
        rng = np.random.default_rng(50 + number)
        stack = (SIZES["B"],) if spec.positional else ()
        function = getattr(module, name)

        def call(x: Any, function: Any = function) -> Any:
            given = {k: v for k, v in x.items() if k != "params"}
            return function(**given, params=module.Params(**x["params"]))

        for edge, cov in _covariances(rng, d).items():
            for weak in (False, True) if name != "particle_velocity" else (False,):
                params, slopes = {}, {}
                for field, shape in spec.param_shapes.items():
                    size = tuple(SIZES.get(s, 2) for s in shape)
                    params[field] = (
                        0.4 * rng.standard_normal(size) if size else np.asarray(rng.uniform(0.7, 1))
                    )
                    slopes[field] = 0.1 * rng.standard_normal(size)
                    if field.endswith("_cov"):
                        params[field], slopes[field] = 0.5 * cov, _into_cone(rng, len(cov))
                    if field == "theta":
                        params[field] = np.full(size, 0.5)
                    if weak and field == "Q":
                        params[field] = np.zeros(size)
                tree: dict[str, Any] = {"params": params}
                along: dict[str, Any] = {"params": slopes}
                for argument in inspect.signature(function).parameters:
                    if argument == "cov":
                        tree["cov"] = np.broadcast_to(0.5 * cov, (*stack, d, d)).copy()
                        along["cov"] = np.broadcast_to(_into_cone(rng, d), tree["cov"].shape)
                    elif argument != "params":
                        lead = (SIZES["N"],) if name == "particle_velocity" else stack
                        tree[argument] = 0.5 * rng.standard_normal((*lead, d))
                        if name == "particle_velocity" and edge == "equal tokens":
                            tree[argument][1] = tree[argument][0]
                        if name == "particle_velocity" and edge == "zero":
                            tree[argument][:] = 0
                        along[argument] = 0.3 * rng.standard_normal(tree[argument].shape)

                yield Point(name, edge + (", Q = 0" if weak else ""), call, tree, along)


# optimal control


def _of_control(module: Any, names: list[str]) -> Iterator[Point]:
    spec = module._SPEC
    for number, name in enumerate(names):
        function = getattr(module, name)
        wanted = set(inspect.signature(function).parameters)

        def call(tree: Any, function: Any = function, wanted: Any = wanted) -> Any:
            made = {
                "params": module.Params(**tree["params"]),
                "x": module.State(**tree["x"]),
                "p": module.Costate(*tree["p"].values()),
                "u": module.Control(**tree["u"]),
            }
            return function(**{k: v for k, v in made.items() if k in wanted})

        for edge in ("regular", "equal tokens", "zero", "isotropic"):
            rng = np.random.default_rng(90 + number)

            def drawn(shapes: Any, rng: Any = rng) -> dict[str, Any]:
                return {
                    k: 0.5 * rng.standard_normal(tuple(SIZES.get(s, 2) for s in shape))
                    for k, shape in shapes.items()
                }

            params, x, u = drawn(spec.param_shapes), drawn(spec.state_shapes), None
            u = drawn(spec.control_shapes)
            for field, value in params.items():
                if value.ndim == 0 or spec.kinds.get(field) == "positive":
                    params[field] = np.abs(value) + 0.4
            p = drawn(spec.state_shapes)
            tree = {"params": params, "x": x, "p": p, "u": u}
            along: Any = jax.tree.map(
                lambda a, rng=rng: 0.2 * rng.standard_normal(np.shape(a)), tree
            )
            for k, value in x.items():
                square = value.ndim == 2 and value.shape[0] == value.shape[1]
                if k in spec.symmetric or (square and spec.kinds.get(k) == "positive"):
                    x[k] = _covariances(rng, len(value))[edge]
                    along["x"][k] = _into_cone(rng, len(value))
                    along["p"][k] = along["p"][k] + along["p"][k].T
                    p[k] = p[k] + p[k].T
                elif edge == "equal tokens" and value.ndim == 2:
                    value[1] = value[0]
                elif edge == "zero" and k not in spec.sphere:
                    value[:] = 0
            yield Point(name, edge, call, tree, along)


# values and derivatives along the direction

ORDER, STEP = 8, 0.02


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(a, float)) for a in jax.tree.leaves(tree)])


def _moved(at: Any, along: Any, t: float) -> Any:
    # a leaf without direction stays, an infinite one too
    return jax.tree.map(
        lambda a, d: np.asarray(a + t * d if np.all(np.isfinite(a)) else a), at, along
    )


def value(point: Point, t: float) -> np.ndarray:
    """The function's values, flat, at the time t along the direction."""
    return _flat(_compiled(point.function)(_moved(point.at, point.along, t)))


class Differences(NamedTuple):
    """From values at 0, h, ..., 8 h along the direction; `scale`: the size of these values."""

    value: np.ndarray
    first: np.ndarray
    second: np.ndarray
    scale: float


class Derivatives(NamedTuple):
    """By JAX: along the direction, forward; of the weighted sum, reverse, every entry; twice."""

    first: Any
    second: Any
    gradient: Any
    bent: Any


def differences(point: Point, step: float = STEP) -> Differences:
    times = np.arange(ORDER + 1)
    values = [value(point, t * step) for t in times]
    powers = np.linalg.solve(np.vander(times.astype(float), increasing=True), np.array(values))
    scale = float(np.max(np.abs(values)))
    return Differences(powers[0], powers[1] / step, 2 * powers[2] / step**2, scale)


def derivatives(point: Point, weights: np.ndarray, reverse: bool = True) -> Derivatives:
    """`reverse`: False where the function's docstring says forward mode alone."""
    along = jax.tree.map(lambda a, d: np.broadcast_to(d, np.shape(a)) * 1.0, point.at, point.along)
    return jax.tree.map(np.asarray, _derived(point.function, reverse)(point.at, along, weights))


@lru_cache(maxsize=4)
def _compiled(function: Callable[[Any], Any]) -> Callable[..., Any]:
    return jax.jit(function)


@lru_cache(maxsize=4)
def _derived(function: Callable[[Any], Any], both: bool) -> Callable[..., Any]:
    def flat(x: Any) -> Any:
        return jnp.concatenate([jnp.ravel(a) for a in jax.tree.leaves(function(x))])

    @jax.jit
    def run(at: Any, along: Any, weights: Any) -> Derivatives:
        def forward(x: Any) -> Any:
            return jax.jvp(flat, (x,), (along,))[1]

        def reverse(x: Any) -> Any:
            return jax.vjp(flat, x)[1](weights)[0]

        first, second = jax.jvp(forward, (at,), (along,))
        gradient, bent = jax.jvp(reverse, (at,), (along,)) if both else (None, None)
        return Derivatives(first, second, gradient, bent)

    return run
