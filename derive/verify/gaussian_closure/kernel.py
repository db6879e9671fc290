"""L3 of closures: generated functions against the equations, in every mode of JAX."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import numpy as np

from derive.methods.common.record import rounded
from derive.methods.gaussian_closure import checks, instances
from derive.methods.gaussian_closure.instances import ClosureInstance
from derive.methods.gaussian_closure.key_nodes import has_nodes
from derive.methods.gaussian_closure.result import GaussianClosure
from derive.verify.common.compare import strict_jax
from derive.verify.common.rung import Rung
from derive.verify.gaussian_closure.gate import equations, params_of


def kernel(result: GaussianClosure, module: ModuleType) -> Rung:
    """L3: generated functions against the evaluator: eager, jit, vmap, grad, float32."""
    figures: dict[str, float] = {}
    # sums over nodes of keys: the kernel's root of the covariance turns them
    allowed = {
        name: 1e-5 if has_nodes(e, result.book) else 1e-10 for name, e in equations(result).items()
    }
    with strict_jax():
        for size in (1, 3):
            one = instances.instance(result.model, 30 + size, size=size)
            p = params_of(module, one)
            law = (one.arrays["m"], one.arrays["S"])
            for name, expression in equations(result).items():
                first = (one.arrays["x"],) if name == "velocity" else ()
                value = instances.at(one, expression, result.book)
                f = getattr(module, name)
                kinds = {"eager": f(*first, *law, p), "jit": jax.jit(f)(*first, *law, p)}
                batched = [np.stack([a, 1.5 * a]) for a in (*first, *law)]
                kinds["vmap"] = jax.vmap(lambda *a, f=f, p=p: f(*a, p))(*batched)[0]
                # what does not depend on the law has no batch axes, and broadcasts
                kinds["batch axes"] = np.broadcast_to(f(*batched, p), (2, *value.shape))[0]
                for kind, got in kinds.items():
                    key = f"{name}, {kind}"
                    figures[key] = max(
                        figures.get(key, 0.0), checks.residual(np.asarray(got), value)
                    )
            figures["grad"] = max(figures.get("grad", 0.0), _gradient(module, one, p))
    with jax.enable_x64(False):
        one = instances.instance(result.model, 33, size=3)
        single = [np.asarray(one.arrays[n], np.float32) for n in ("x", "m", "S")]
        p = params_of(module, one)
        p = type(p)(*(np.asarray(a, np.float32) for a in p))
        got = module.velocity(*single, p)
        error = checks.residual(np.asarray(got), instances.at(one, result.velocity, result.book))
        kept = got.dtype == np.float32
    exact = all(v < allowed[k.split(",")[0]] for k, v in figures.items() if k != "grad")
    passed = exact and figures["grad"] < 1e-6 and error < 1e-4 and kept
    return Rung(
        "L3 kernel",
        "generated functions equal the equations: eager, jit, vmap, batch axes; grad; float32",
        bool(passed),
        {k: rounded(v) for k, v in (*figures.items(), ("float32", error))},
        f"relative errors above {max(allowed.values()):.0e}",
    )


def _gradient(module: ModuleType, one: ClosureInstance, p: Any) -> float:
    """Reverse-mode derivative of the velocity by x against central differences."""
    law = (one.arrays["m"], one.arrays["S"])
    x = one.arrays["x"]
    weight = np.linspace(0.5, 1.5, x.size).reshape(x.shape)

    def f(q: Any) -> Any:
        return (module.velocity(q, *law, p) * weight).sum()

    got = np.asarray(jax.grad(f)(x)).ravel()
    h = 1e-5
    steps_ = [h * e.reshape(x.shape) for e in np.eye(x.size)]
    wanted = np.array([(float(f(x + s)) - float(f(x - s))) / (2 * h) for s in steps_])
    return checks.residual(got, wanted)
