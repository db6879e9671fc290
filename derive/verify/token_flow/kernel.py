"""L3 of token flows: generated functions in every mode of JAX."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import numpy as np

from derive.methods.common.record import rounded
from derive.methods.token_flow import checks, instances
from derive.methods.token_flow.instances import FlowInstance
from derive.methods.token_flow.result import TokenFlow
from derive.verify.common.compare import strict_jax
from derive.verify.common.rung import Rung
from derive.verify.token_flow.gate import params_of, targets


def kernel(result: TokenFlow, module: ModuleType) -> Rung:
    """L3: eager, jit, vmap, grad of the velocity; float32."""
    figures: dict[str, float] = {}
    with strict_jax():
        for n, d in ((4, 2), (9, 3)):
            for target in targets(result, module, n, d) if n == 4 else ():
                f = getattr(module, target.name.partition(",")[0])
                error = target.error(target.call(f, *target.arguments))
                figures["eager"] = max(figures.get("eager", 0.0), error)
            one = instances.instance(result.model, 80 + n, n, d, equal=True)
            p = params_of(module, one)
            wanted = instances.tangent(one)
            mapped = jax.jit(jax.vmap(lambda x, p=p: module.velocity(x, p)))
            both = np.asarray(mapped(np.stack([one.x, one.x[::-1]])))
            known = figures.get("jit, vmap", 0.0)
            figures["jit, vmap"] = max(known, checks.residual(both[0], wanted))
            figures["grad"] = max(figures.get("grad", 0.0), _gradient(module, one, p))
    with jax.enable_x64(False):
        one = instances.instance(result.model, 90, 6, 3, equal=True)
        p = params_of(module, one)
        p = type(p)(*(np.asarray(a, np.float32) for a in p))
        got = module.velocity(np.asarray(one.x, np.float32), p)
        single = checks.residual(np.asarray(got), instances.tangent(one))
        kept = got.dtype == np.float32
    exact = max(figures["eager"], figures["jit, vmap"])
    return Rung(
        "L3 kernel",
        "generated functions: eager, jit, vmap; gradients against differences; float32",
        bool(exact < 1e-9 and figures["grad"] < 1e-6 and single < 1e-4 and kept),
        {k: rounded(v) for k, v in (*figures.items(), ("float32", single))},
        "relative errors above 1e-9, of gradients above 1e-6",
    )


def _gradient(module: ModuleType, one: FlowInstance, p: Any) -> float:
    """Reverse-mode derivative of the velocity by the tokens against central differences."""
    weight = np.cos(np.arange(one.x.size)).reshape(one.x.shape)

    @jax.jit
    def f(x: Any) -> Any:
        return (module.velocity(x, p) * weight).sum()

    got = np.asarray(jax.grad(f)(one.x)).ravel()
    h = 1e-5
    steps = [h * e.reshape(one.x.shape) for e in np.eye(one.x.size)]
    wanted = np.array([(float(f(one.x + s)) - float(f(one.x - s))) / (2 * h) for s in steps])
    return checks.residual(got, wanted)
