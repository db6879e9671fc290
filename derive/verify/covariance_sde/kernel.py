"""L3 of covariance SDEs: generated functions against the equations, in every mode of JAX."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.calculus.index.evaluate import evaluate
from derive.draws import generator
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.verify.common.compare import ROUNDING, strict_jax, worst
from derive.verify.common.rung import Rung, digit
from derive.verify.covariance_sde.gate import BOUND_32, BOUND_GRAD, by_mode, gate, tolerance
from derive.verify.covariance_sde.instance import CovarianceInstance, instance

_SEED = 41


def kernel(result: CovarianceSDE, module: ModuleType) -> Rung:
    """L3: generated functions against an independent evaluator: eager, jit, vmap, grad, float32."""
    with strict_jax():
        figures = {f.name: f.error for f in gate(result, module)}
        figures |= by_mode(result, module, (1, 2, 5))
        for m in (1, 2, 5):
            one = instance(result, m, 10 + m)
            params = module.Params(*(one.params[n] for n in module.Params._fields))
            for name, route in (("drift, grad", _gradient), ("noise, J J^T", _noise)):
                figures[name] = worst(figures.get(name, 0.0), route(result, module, one, params))
    passed = all(v < tolerance(k) for k, v in figures.items())
    return Rung(
        "L3 kernel",
        "every generated function equals its equation, evaluated independently",
        passed,
        {k: digit(v) for k, v in figures.items()},
        f"relative errors of a value above {ROUNDING:.0e} (float32 {BOUND_32:.0e}, "
        f"derivatives {BOUND_GRAD:.0e})",
    )


def _gradient(
    result: CovarianceSDE, module: ModuleType, one: CovarianceInstance, params: Any
) -> float:
    """Derivative of the drift along a direction: automatic against central differences."""
    rng = generator(_SEED + 3)
    A = rng.standard_normal(one.V.shape)
    A = A + A.T
    _, forward = jax.jvp(
        lambda W: module.drift(W, params), (jnp.asarray(one.V),), (jnp.asarray(A),)
    )
    weight = rng.standard_normal(one.V.shape)
    reverse = jax.grad(lambda W: jnp.sum(jnp.asarray(weight) * module.drift(W, params)))(
        jnp.asarray(one.V)
    )
    h = 1e-4
    up, down = (evaluate(result.drift, {"V": one.V + s * h * A}, one.numbers) for s in (1.0, -1.0))
    up2, down2 = (
        evaluate(result.drift, {"V": one.V + 2 * s * h * A}, one.numbers) for s in (1.0, -1.0)
    )
    central = (8 * (up - down) - (up2 - down2)) / (12 * h)
    size = max(float(np.max(np.abs(central))), 1e-3)
    first = float(np.max(np.abs(np.asarray(forward) - central))) / size
    second = abs(float(np.sum(np.asarray(reverse) * A) - np.sum(weight * central))) / size
    return max(first, second)


def _noise(
    result: CovarianceSDE, module: ModuleType, one: CovarianceInstance, params: Any
) -> float:
    """J J^T of the emitted noise in its normals against the emitted diffusion."""
    m = one.V.shape[0]
    L = np.linalg.cholesky(one.V)
    target = evaluate(result.diffusion, {"V": one.V}, one.numbers)
    total = np.zeros_like(target)
    kinds = module._SPEC.noise_fields
    for name in kinds:
        basis = np.eye(m * m).reshape(-1, m, m)
        if kinds[name] == "symmetric":
            basis = (basis + basis.swapaxes(1, 2)) / np.sqrt(2)
        columns = []
        for b in basis:
            fields = [jnp.asarray(b if n == name else np.zeros((m, m))) for n in kinds]
            columns.append(
                np.asarray(module.noise_from(jnp.asarray(L), jnp.asarray(one.V), fields, params))
            )
        total += np.einsum("kab,kcd->abcd", np.array(columns), np.array(columns))
    size = max(float(np.max(np.abs(target))), float(np.max(np.abs(one.V))) ** 2)
    return float(np.max(np.abs(total - target))) / size
