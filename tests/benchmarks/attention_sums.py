"""Speed of blocked softmax attention at N = 8192, d = 16 on one core, as ratios in one run.

    python tests/benchmarks/attention_sums.py [--out FOLDER]

Self-attention softmax(X X^T) X, float32 and float64, warm, best of three (CPU seconds); the dense
formula as its users write it, and torch's scaled_dot_product_attention if installed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {0})
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime import attention_sums as sums

N, D = 8192, 16


def best(run: Callable[[], Any], repeats: int = 3) -> float:
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        start = time.process_time()
        jax.block_until_ready(run())
        times.append(time.process_time() - start)
    return min(times)


def measure(dtype: str) -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(N, D)).astype(dtype) / 4
    with jax.enable_x64(dtype == "float64"):
        z = jnp.asarray(x)
        blocked = jax.jit(lambda z: sums.weighted_average(z, z, sums.inner))
        dense = jax.jit(lambda z: jax.nn.softmax(z @ z.T, axis=-1) @ z)
        times = {"blocked": best(lambda: blocked(z)), "dense": best(lambda: dense(z))}
        memory = blocked.lower(z).compile().memory_analysis().temp_size_in_bytes
    ratios = {"dense / blocked (goal 2)": times["dense"] / times["blocked"]}
    try:
        import torch

        torch.set_num_threads(1)
        y = torch.from_numpy(x)[None, None]
        attend = torch.nn.functional.scaled_dot_product_attention
        times["torch"] = best(lambda: attend(y, y, y, scale=1.0).numpy())
        ratios["torch / blocked (goal 0.65)"] = times["torch"] / times["blocked"]
    except ImportError:
        pass
    return {
        "ratios": {k: round(v, 2) for k, v in ratios.items()},
        "cpu_seconds": {k: round(v, 4) for k, v in times.items()},
        "blocked_temporary_bytes": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    result = {"what": f"N = {N}, d = {D}, one core"}
    result |= {dtype: measure(dtype) for dtype in ("float32", "float64")}
    text = json.dumps(result, indent=1)
    print(text)
    (args.out / "attention_sums.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
