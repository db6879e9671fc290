"""L5 of the simulator: its paths again, step by step in NumPy, from the same normals.

The stream of normals is taken from the runtime (and its law is tested here); blocks, step sizes,
times, dimensions and the step itself are written a second time, from the derivation alone.  The
rate that chooses the steps is compared with draws of the layer, see `mixing_draws`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import NormalDist
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.calculus.limit.scaling import ratio
from derive.emit.covariance_sde.names import layer_shaped
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common.graph import value
from derive.notation.layers.blocks import BlockLaw
from derive.runtime.paths.ensemble import IMPLEMENTATION, path_keys
from derive.runtime.paths.normals import normals
from derive.verify.common.compare import worst
from derive.verify.common.rung import Rung, digit
from derive.verify.covariance_sde.gate import congruence_step
from derive.verify.covariance_sde.instance import CovarianceInstance, instance
from derive.verify.covariance_sde.mixing_draws import WITHIN, mixing_ratios

PATHS, STEPS, TOKENS, T1, SEED = 3, 6, 3, 0.09, 17
BOUND = 1e-9  # rounding of a few steps
FAMILY = 1e-4  # chance of a false alarm of the tests of the normals


def replayed(result: CovarianceSDE, module: ModuleType) -> Rung:
    """Fixed steps of both schemes, replayed; and the law of the normals."""
    figures: dict[str, Any] = {}
    gap = 0.0
    for scheme, step in (("network", _network(result)), ("euler", _euler(result))):
        off = _difference(result, module, scheme, step)
        figures[f"{scheme} steps replayed"] = digit(off)
        pure = _pure_difference(result, module, scheme, step)
        figures[f"{scheme} steps of path replayed"] = digit(pure)
        gap = worst(gap, worst(off, pure))
    z, limit = _law_of_normals()
    ratios = mixing_ratios(result)
    figures |= {name: float(f"{ratio:.1g}") for name, ratio in ratios.items()}
    figures |= {"normals, largest |z|": round(z, 2), "threshold": round(limit, 2)}
    return Rung(
        "L5 simulator",
        f"{PATHS} paths of {STEPS} fixed steps at {TOKENS} tokens, written again in NumPy from the "
        "derivation and the same normals; moments and correlations of 2^17 normals; the rate that "
        "chooses steps against draws of the layer",
        gap < BOUND and z < limit and all(1 / WITHIN < ratio < WITHIN for ratio in ratios.values()),
        figures,
        f"relative errors of a step above {BOUND / STEPS:.0e}; of moments of normals above 1 %; "
        f"of the rate of mixing a factor of {WITHIN:g}",
    )


def _difference(
    result: CovarianceSDE, module: ModuleType, scheme: str, step: Callable[..., Any]
) -> float:
    """Largest difference of the saved covariances, relative to their size."""
    one = instance(result, TOKENS, 60)
    at_time = _parameters(result, one)
    given = [
        (lambda t, n=n: at_time(n, t)) if _varies(result, n) else one.params[n]
        for n in module.Params._fields
    ]
    h = T1 / STEPS
    found = module.simulate(
        one.V,
        module.Params(*given),
        t1=T1,
        paths=PATHS,
        seed=SEED,
        dt=h,
        saves=[T1 / 2, T1],
        scheme=scheme,
    )
    right = np.empty_like(found.V)
    for path in range(PATHS):
        states = _walked(result, one, step, partial(_drawn, path))
        right[path] = states[STEPS // 2], states[STEPS]
    return float(np.max(np.abs(found.V - right)) / np.max(np.abs(right)))


def _pure_difference(
    result: CovarianceSDE, module: ModuleType, scheme: str, step: Callable[..., Any]
) -> float:
    """The same of every state of `path`, whose normals come from one key."""
    one = instance(result, TOKENS, 60)
    at_time, ends = _parameters(result, one), np.array([0.0, T1])
    given = [
        np.array([ends, at_time(n, ends)]) if _varies(result, n) else one.params[n]
        for n in module.Params._fields
    ]
    with jax.enable_x64(True):
        key = jax.random.key(SEED)
        params = module.Params(*given)
        found = np.asarray(module.path(key, one.V, params, t1=T1, steps=STEPS, scheme=scheme))

    def drawn(number: int) -> Callable[[int], np.ndarray]:
        def first(count: int) -> np.ndarray:
            with jax.enable_x64(True):
                own = jax.random.fold_in(key, number)
                return np.asarray(jax.random.normal(own, (count,), np.float64))

        return first

    right = np.array(_walked(result, one, step, drawn))
    return float(np.max(np.abs(found - right)) / np.max(np.abs(right)))


def _varies(result: CovarianceSDE, name: str) -> bool:
    return any(p.name == name and p.varying for p in result.model.params)


def _parameters(result: CovarianceSDE, one: CovarianceInstance) -> Callable[[str, Any], Any]:
    """A parameter's value at a time: linear in it where it depends on depth."""

    def at_time(name: str, t: Any) -> Any:
        return one.params[name] * (1 - 0.9 * t) if _varies(result, name) else one.params[name]

    return at_time


def _walked(
    result: CovarianceSDE,
    one: CovarianceInstance,
    step: Callable[..., Any],
    drawn: Callable[[int], Callable[[int], np.ndarray]],
) -> list[np.ndarray]:
    """The states of one path, its start included."""
    at_time, h = _parameters(result, one), T1 / STEPS
    states = [one.V]
    for number in range(STEPS):
        moved = {p: at_time(p.name, number * h) for p in result.model.params}
        states.append(step(states[-1], drawn(number), h, {**one.numbers, **moved}))
    return states


def _drawn(path: int, step: int) -> Callable[[int], np.ndarray]:
    """The first normals of a path's step."""
    with jax.enable_x64(True):
        keys = jax.random.wrap_key_data(jnp.asarray(path_keys(SEED, path, 1)), impl=IMPLEMENTATION)
        folded = jax.vmap(jax.random.fold_in)(keys, np.array([step], np.int32))

        def first(count: int) -> np.ndarray:
            with jax.enable_x64(True):
                return np.asarray(normals(folded, count, np.dtype("float64"), 0))[0]

        return first


def _blocks(kinds: list[str], drawn: Callable[[int], np.ndarray]) -> list[np.ndarray]:
    """m x m blocks in order: iid by rows, symmetric ones by their lower triangle."""
    m = TOKENS
    sizes = [m * m if k == "gaussian" else m * (m + 1) // 2 for k in kinds]
    z, out = drawn(sum(sizes)), []
    for kind, part in zip(kinds, np.split(z, np.cumsum(sizes)[:-1]), strict=True):
        if kind == "gaussian":
            out.append(part.reshape(m, m))
            continue
        lower = np.zeros((m, m))
        lower[np.tril_indices(m)] = part
        out.append(lower + np.tril(lower, -1).T + (np.sqrt(2) - 1) * np.diag(np.diag(lower)))
    return out


def _network(result: CovarianceSDE) -> Callable[..., np.ndarray]:
    """The step shaped like a layer where there is one, else the congruence."""
    if not layer_shaped(result):
        kinds = ["symmetric" if f.drawn.symmetric else "gaussian" for f in result.noise.fields]
        names = [*(f.drawn.name for f in result.noise.fields), *result.step.blocks]
        kinds += ["gaussian"] * len(result.step.blocks)

        def congruent(V: np.ndarray, drawn: Any, h: float, numbers: dict[Any, Any]) -> np.ndarray:
            fields = dict(zip(names, _blocks(kinds, drawn), strict=True)) if names else {}
            arrays = {"V": V, "L": np.linalg.cholesky(V), **fields}
            return congruence_step(result, arrays, h, numbers)

        return congruent
    assert result.reduction is not None and result.reduction.step is not None
    chain = result.reduction.step
    laws: list[BlockLaw] = [b.data for _, b in chain.blocks]

    def shaped(V: np.ndarray, drawn: Any, h: float, numbers: dict[Any, Any]) -> np.ndarray:
        sizes = _at_width(result, 1 / h, numbers)
        leaves = {chain.factor: np.linalg.cholesky(V)}
        blocks = _blocks([law.kind for law in laws], drawn)
        for (_, array), law, block in zip(chain.blocks, laws, blocks, strict=True):
            if law.kind == "wishart_root":
                freedom = sizes[law.dim] - law.used * TOKENS
                block = block / 2 + np.sqrt(freedom - (TOKENS + 1) / 4) * np.eye(TOKENS)
            leaves[array] = block
        return value(chain.output, leaves, sizes)

    return shaped


def _at_width(
    result: CovarianceSDE, width: float, numbers: dict[Any, Any]
) -> dict[sp.Symbol, float]:
    """Dimensions of a step: the clock is 1/h, what grows with it keeps its ratio."""
    sizes: dict[sp.Symbol, float] = {d: 1.0 for d in result.model.dims}
    for d in result.law.scaling.proportional:
        sizes[d] = width * numbers.get(ratio(d), 1.0)
    sizes[result.law.gram.dims[0]] = float(TOKENS)
    return {**sizes, **numbers, result.model.clock: width}


def _euler(result: CovarianceSDE) -> Callable[..., np.ndarray]:
    """V + h b + sqrt(h) N, by the equations."""
    names = [f.drawn.name for f in result.noise.fields]
    kinds = ["symmetric" if f.drawn.symmetric else "gaussian" for f in result.noise.fields]

    def step(V: np.ndarray, drawn: Any, h: float, numbers: dict[Any, Any]) -> np.ndarray:
        fields = dict(zip(names, _blocks(kinds, drawn), strict=True)) if names else {}
        arrays = {"V": V, "L": np.linalg.cholesky(V), **fields}
        noise = evaluate(result.noise.expanded, arrays, numbers) if names else 0.0
        return V + h * evaluate(result.drift, {"V": V}, numbers) + np.sqrt(h) * noise

    return step


def _law_of_normals() -> tuple[float, float]:
    """Largest z of mean, second, third and fourth moment and of correlations between neighbours
    and between keys, in 2^17 normals; and the threshold for that many tests."""
    keys, each = 2**13, 16
    with jax.enable_x64(True):
        data = jax.random.wrap_key_data(jnp.asarray(path_keys(SEED, 0, keys)), impl=IMPLEMENTATION)
        z = np.asarray(normals(data, each, np.dtype("float64"), 0))
    samples = [z, z**2 - 1, z**3, z**4 - 3, z[:, 1:] * z[:, :-1], z[1:] * z[:-1]]
    scores = [abs(s.mean()) / (s.std() / np.sqrt(s.size)) for s in samples]
    return float(max(scores)), NormalDist().inv_cdf(1 - FAMILY / (2 * len(scores)))
