"""Generated drift and noise against kernels that an expert would write by hand, same work.

    python tests/benchmarks/expert.py

Five models of the family, batches of covariances, float32, one core, best of several runs in
alternation; a ratio above one means that the generated kernel is faster.  The hand-written kernels
know what makes batched products slow here (a transposed left factor), and use as few products as
the formulas allow.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax
import jax.numpy as jnp
import numpy as np

from derive.generated import (
    causal_shaped_attention,
    multihead_shaped_attention,
    shaped_attention,
    shaped_relu_mlp,
    shaped_transformer,
)

RESULTS = Path(__file__).parent / "results" / "expert.json"


def outer(x, y):  # type: ignore[no-untyped-def]
    return x[..., :, None] * y[..., None, :]


def attention_drift(V, p):  # type: ignore[no-untyped-def]
    """Theorem 4.2 of arXiv 2306.17759 in few passes: one row sum, one matrix-vector product."""
    m = V.shape[-1]
    v = jnp.diagonal(V, axis1=-2, axis2=-1)
    rows = V.sum(-1)
    total = rows.sum(-1, keepdims=True)
    u = jnp.matvec(V, v / 2 - rows / m + (total / m - v.sum(-1, keepdims=True) / 2) / m)
    spread = (V * V).sum((-2, -1)) + total[..., 0] ** 2 / m**2 - 2 / m * (rows * rows).sum(-1)
    cross = outer(v, u) / m
    scale = (p.gamma / p.tau_0) ** 2
    return scale * (spread[..., None, None] / m**2 * V + cross + cross.mT)


def attention_noise(L, V, fields, p):  # type: ignore[no-untyped-def]
    """Centred rows of V times the field; four products of matrices and none transposed first."""
    m, g = V.shape[-1], p.gamma**2
    heads = math.sqrt(getattr(p, "H", 1.0))
    centred = V - V.mean(-1, keepdims=True)
    root = g / (m * p.tau_0 * heads) * (centred @ (L @ fields[0]))
    half = (root + jnp.sqrt(g * (2 - g)) / 2 * (L @ fields[1])) @ L.mT
    return half + half.mT


def relu_drift(V, p):  # type: ignore[no-untyped-def]
    root = jnp.sqrt(jnp.diagonal(V, axis1=-2, axis2=-1))
    size = outer(root, root)
    rho = jnp.clip(V / size, -1, 1)
    shape = jnp.sqrt(1 - rho**2) - rho * jnp.arccos(rho)
    return p.gamma**2 * (p.c_plus - p.c_minus) ** 2 / (2 * math.pi) * shape * size


def relu_noise(L, V, fields, p):  # type: ignore[no-untyped-def]
    return math.sqrt(2) * p.gamma * (L @ fields[0] @ L.mT)


def transformer_drift(V, p):  # type: ignore[no-untyped-def]
    return attention_drift(V, p) + relu_drift(V, p)


def transformer_noise(L, V, fields, p):  # type: ignore[no-untyped-def]
    m, g = V.shape[-1], p.gamma**2
    centred = V - V.mean(-1, keepdims=True)
    root = g / (m * p.tau_0) * (centred @ (L @ fields[0]))
    half = (root + jnp.sqrt(g * (4 - g)) / 2 * (L @ fields[1])) @ L.mT
    return half + half.mT


def causal_drift(V, p):  # type: ignore[no-untyped-def]
    """Row a averages over tokens 0, ..., a: five products of matrices."""
    m = V.shape[-1]
    P = jnp.tril(jnp.ones((m, m), V.dtype)) / jnp.arange(1, m + 1, dtype=V.dtype)[:, None]
    v = jnp.diagonal(V, axis1=-2, axis2=-1)
    R = P @ V
    both = (R * P).sum(-1) - (P * v[..., None, :]).sum(-1) / 2
    logits = P * (v[..., None, :] / 2 + both[..., :, None] - R)
    half = V * ((P @ (V * V) / 2 - R * R) @ P.T) + v[..., :, None] * (logits @ V)
    return (p.gamma / p.tau_0) ** 2 * (V * (R @ P.T) ** 2 + half + half.mT)


def causal_noise(L, V, fields, p):  # type: ignore[no-untyped-def]
    m, g = V.shape[-1], p.gamma**2
    P = jnp.tril(jnp.ones((m, m), V.dtype)) / jnp.arange(1, m + 1, dtype=V.dtype)[:, None]
    F = L @ (L @ fields[0]).mT
    root = g / p.tau_0 * ((P * (F - (F * P).sum(-1, keepdims=True))) @ L)
    half = (root + jnp.sqrt(g * (2 - g)) / 2 * (L @ fields[1])) @ L.mT
    return half + half.mT


def timed(functions: dict[str, object], repeats: int = 40) -> dict[str, float]:
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


CASES = (
    (shaped_attention, attention_drift, attention_noise, shaped_attention.Params(0.5, 1.0)),
    (shaped_relu_mlp, relu_drift, relu_noise, shaped_relu_mlp.Params(0.5, 0.0, -1.0)),
    (
        shaped_transformer,
        transformer_drift,
        transformer_noise,
        shaped_transformer.Params(0.5, 1.0, 0.0, -1.0),
    ),
    (
        multihead_shaped_attention,
        attention_drift,
        attention_noise,
        multihead_shaped_attention.Params(0.5, 1.0, 4.0),
    ),
    (
        causal_shaped_attention,
        causal_drift,
        causal_noise,
        causal_shaped_attention.Params(0.5, 1.0),
    ),
)


def main() -> None:
    out: dict[str, object] = {
        "what": "drift and noise together, float32, CPU seconds; goal: ratio at least 0.95",
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
    }
    for module, drift, noise, params in CASES:
        for m, batch in ((8, 4096), (32, 512), (128, 32)):
            out[f"{module.MODEL}, m = {m}"] = case(module, drift, noise, params, m, batch)
    RESULTS.write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
