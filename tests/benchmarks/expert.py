"""Generated drift and noise against kernels that an expert would write by hand, same work.

    python tests/benchmarks/expert.py

Shaped attention and the shaped ReLU MLP, batches of covariances, float32, best of several runs in
alternation; a ratio above one means that the generated kernel is faster.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from derive.generated import shaped_attention, shaped_relu_mlp

RESULTS = Path(__file__).parent / "results" / "expert.json"


def attention_drift(V, p):  # type: ignore[no-untyped-def]
    """Matrix form of Theorem 4.2 of arXiv 2306.17759."""
    m = V.shape[-1]
    v = jnp.diagonal(V, axis1=-2, axis2=-1)
    rows = V.mean(-1)
    both = rows.mean(-1, keepdims=True)
    w = (v - 2 * rows + 2 * both - v.mean(-1, keepdims=True)) / m
    u = jnp.einsum("...ab,...b->...a", V, w)
    H = V - rows[..., :, None]
    trace = jnp.einsum("...ab,...ba->...", H, H) / m**2
    cross = v[..., :, None] * u[..., None, :]
    scale = (p.gamma / p.tau_0) ** 2
    return scale * (trace[..., None, None] * V + (cross + cross.mT) / 2)


def attention_noise(L, V, fields, p):  # type: ignore[no-untyped-def]
    m = V.shape[-1]
    F = L @ fields[0] @ L.mT
    B = (F.mT - F.mT.mean(-1, keepdims=True)) @ V / (m * p.tau_0)
    g = p.gamma**2
    return jnp.sqrt(g * (2 - g)) * (L @ fields[1] @ L.mT) + g * (B + B.mT)


def relu_drift(V, p):  # type: ignore[no-untyped-def]
    root = jnp.sqrt(jnp.diagonal(V, axis1=-2, axis2=-1))
    size = root[..., :, None] * root[..., None, :]
    rho = jnp.clip(V / size, -1, 1)
    shape = jnp.sqrt(1 - rho**2) - rho * jnp.arccos(rho)
    return p.gamma**2 * (p.c_plus - p.c_minus) ** 2 / (2 * math.pi) * shape * size


def relu_noise(L, V, fields, p):  # type: ignore[no-untyped-def]
    return math.sqrt(2) * p.gamma * (L @ fields[0] @ L.mT)


def timed(functions: dict[str, object], repeats: int = 15) -> dict[str, float]:
    best = dict.fromkeys(functions, math.inf)
    for _ in range(repeats):
        for name, run in functions.items():
            start = time.process_time()
            jax.block_until_ready(run())  # type: ignore[operator]
            best[name] = min(best[name], time.process_time() - start)
    return best


def case(module, drift, noise, params, m: int, batch: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    root = rng.standard_normal((batch, m, m)).astype(np.float32) / math.sqrt(m)
    L = jnp.asarray(np.linalg.cholesky(root @ root.mT + 0.1 * np.eye(m, dtype=np.float32)))
    V = L @ L.mT
    fields = []
    for kind in module._SPEC.noise_fields.values():
        G = rng.standard_normal((batch, m, m)).astype(np.float32)
        fields.append(jnp.asarray((G + G.mT) / math.sqrt(2) if kind == "symmetric" else G))
    numbers = type(params)(*(jnp.float32(x) for x in params))
    ours = jax.jit(lambda L, V, f: (module.drift(V, numbers), module.noise_from(L, V, f, numbers)))
    hand = jax.jit(lambda L, V, f: (drift(V, numbers), noise(L, V, f, numbers)))
    for mine, theirs in zip(ours(L, V, fields), hand(L, V, fields), strict=True):
        scale = float(jnp.max(jnp.abs(theirs)))
        assert float(jnp.max(jnp.abs(mine - theirs))) < 1e-3 * scale, "not the same work"
    best = timed({"ours": lambda: ours(L, V, fields), "hand": lambda: hand(L, V, fields)})
    return {"hand / generated": round(best["hand"] / best["ours"], 3), **best}


def main() -> None:
    out: dict[str, object] = {
        "what": "drift and noise together, float32, CPU seconds; goal: ratio at least 0.95",
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
    }
    for m, batch in ((8, 4096), (32, 512), (128, 32)):
        out[f"shaped_attention, m = {m}"] = case(
            shaped_attention,
            attention_drift,
            attention_noise,
            shaped_attention.Params(0.5, 1.0),
            m,
            batch,
        )
        out[f"shaped_relu_mlp, m = {m}"] = case(
            shaped_relu_mlp,
            relu_drift,
            relu_noise,
            shaped_relu_mlp.Params(0.5, 0.0, -1.0),
            m,
            batch,
        )
    RESULTS.write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
