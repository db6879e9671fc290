"""Every function of a kernel agrees with the equations, whatever the patterns are called."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pattern_layers
import pytest
from built_modules import imported

from derive.calculus.index.evaluate import evaluate
from derive.emit.covariance_sde.module import render
from derive.methods.covariance_sde.derivation import derive
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.runtime.common.precision import precision

NAMES = (
    "pattern_d",
    "pattern_z",
    "pattern_small_p",
    "two_patterns",
    "product_of_patterns",
    "before_and_after",
)
SCALARS = {"gamma": 0.6, "tau_0": 0.8, "V_diag": 0.7}


def own(module: Any) -> dict[str, float]:
    """Those that the model reads."""
    return {name: SCALARS[name] for name in SCALARS if name in module.Params._fields}


@pytest.fixture(scope="module", params=NAMES)
def built(request: Any, tmp_path_factory: Any) -> tuple[CovarianceSDE, ModuleType]:
    result = derive(getattr(pattern_layers, request.param))
    file = tmp_path_factory.mktemp("kernels") / f"{request.param}.py"
    file.write_text(render(result, "pattern_layers.py", "pattern_layers.py"))
    return result, imported(file)


def rows(rng: np.random.Generator, m: int) -> np.ndarray:
    weight = rng.uniform(0.1, 1, (m, m))
    return weight / weight.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    "m", [1, pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow), 5]
)
def test_every_function_is_its_equation(built: tuple[CovarianceSDE, ModuleType], m: int) -> None:
    """For one token to five; two and four, between them, are slow."""
    result, module = built
    rng = np.random.default_rng(m)
    G = rng.standard_normal((m, m + 2))
    V = G @ G.T / m
    given = {name: rows(rng, m) for name in module.Params._fields if name not in SCALARS}
    arrays = {"V": V, **given}
    numbers = {s: SCALARS[s.name] for s in result.model.params} | {result.law.gram.dims[0]: m}
    params = module.Params(**own(module), **given)
    quotients = {}
    for name in ("mixing_effect", "volatility"):
        above, below = (evaluate(e, arrays, numbers) for e in getattr(result, name))
        quotients[name] = above / below
    expected = {
        "drift": evaluate(result.drift, arrays, numbers),
        "diffusion": evaluate(result.diffusion, arrays, numbers),
        "mixing_rate": evaluate(result.mixing_rate, arrays, numbers),
        **quotients,
    }
    with precision("float64"):
        all_of = jax.jit(lambda V, p: {name: getattr(module, name)(V, p) for name in expected})
        for name, found in all_of(jnp.asarray(V), params).items():
            value = expected[name]
            scale = max(1.0, float(np.abs(value).max()))
            np.testing.assert_allclose(found, value, rtol=0, atol=1e-11 * scale, err_msg=name)
        _noise_has_the_covariance(module, V, params, expected["diffusion"])


def _noise_has_the_covariance(
    module: ModuleType, V: np.ndarray, params: Any, diffusion: np.ndarray
) -> None:
    """The noise is linear in its normals: J J^T over all of them is the diffusion."""
    m, L = len(V), np.linalg.cholesky(V)
    kinds = module._SPEC.noise_fields
    total = np.zeros((m,) * 4)
    zeros = {name: np.zeros((m, m)) for name in kinds}
    noise_from = jax.jit(module.noise_from)
    for name, kind in kinds.items():
        for i in range(m):
            for j in range(m):
                unit = np.zeros((m, m))
                unit[i, j] = 1
                drawn = (unit + unit.T) / np.sqrt(2) if kind == "symmetric" else unit
                fields = tuple((zeros | {name: drawn}).values())
                one = np.asarray(noise_from(L, V, fields, params))
                total += np.einsum("ab,cd->abcd", one, one)
    scale = max(1.0, float(np.abs(diffusion).max()))
    np.testing.assert_allclose(total, diffusion, rtol=0, atol=1e-11 * scale)


def test_masked_attention_by_its_formula() -> None:
    """A = I + D * Y with E Y_an Y_bk = V_ab V_nk / tau^2: Cov(A V + V A) by einsum."""
    result = derive(pattern_layers.pattern_d)
    rng = np.random.default_rng(8)
    G = rng.standard_normal((3, 5))
    V, D, g, tau = G @ G.T / 5, rows(rng, 3), 0.6, 0.8
    numbers = {s: SCALARS[s.name] for s in result.model.params} | {result.law.gram.dims[0]: 3}
    second = np.einsum("an,bk,ab,nk->anbk", D, D, V, V) / tau**2
    P = np.einsum("anck,nb,kd->abcd", second, V, V)
    P = P + P.transpose(1, 0, 2, 3)
    P = P + P.transpose(0, 1, 3, 2)
    linear = np.einsum("ac,bd->abcd", V, V) + np.einsum("ad,bc->abcd", V, V)
    found = evaluate(result.diffusion, {"V": V, "D": D}, numbers)
    np.testing.assert_allclose(found, g**2 * (2 - g**2) * linear + g**4 * P, rtol=1e-12)


def test_gradients_flow_through_the_patterns(built: tuple[CovarianceSDE, ModuleType]) -> None:
    """A directional derivative by the pattern is the difference quotient."""
    _, module = built
    name = next(n for n in module.Params._fields if n not in SCALARS)
    rng = np.random.default_rng(1)
    given = {n: rows(rng, 3) for n in module.Params._fields if n not in SCALARS}
    V, step = np.eye(3) + 0.2, rng.standard_normal((3, 3))

    @jax.jit
    def total(pattern: Any) -> Any:
        params = module.Params(**own(module), **(given | {name: pattern}))
        return jnp.sum(module.diffusion(jnp.asarray(V), params) ** 2)

    with precision("float64"):
        at = jnp.asarray(given[name])
        slope = float(jnp.sum(jax.jit(jax.grad(total))(at) * step))
        h = 1e-5
        quotient = float(total(at + h * step) - total(at - h * step)) / (2 * h)
    assert slope == pytest.approx(quotient, rel=1e-6)
