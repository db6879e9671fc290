"""Work against precision: error of the law of w at m = 2 against CPU seconds, as a picture.

    python tests/benchmarks/work_precision.py

The error is the Kolmogorov-Smirnov distance from the exact law (Fokker-Planck), so that no scheme
is its own reference; the sampling floor is drawn in.  gamma^2 = 1/4, tau_0 = 1/2, t = 1/2.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {0})

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "published"))
import two_token_gap as gap

from derive.generated import shaped_attention as kernel
from derive.runtime.paths.blocks import Block, gaussian_blocks, total

ROW, W0, PATHS = (0.25, 0.5, 0.5), 1.6, 2**16
PARAMS = kernel.Params(0.5, 0.5)
V0 = np.array([[1.0, 0.2], [0.2, 1.0]])
FIELDS = {n: Block(k) for n, k in kernel._SPEC.noise_fields.items()}
RESULTS = Path(__file__).parent / "results"


def error(V: np.ndarray, gone: np.ndarray) -> float:
    w = V[:, 0, 0] - 2 * V[:, 0, 1] + V[:, 1, 1]
    w = np.sort(np.where(gone | ~np.isfinite(w), np.inf, w))
    finite = np.isfinite(w)
    below = np.full(len(w), 1 - gap.exploded(*ROW, W0))
    below[finite] = gap.cdf(*ROW, W0, w[finite])
    steps = np.arange(len(w) + 1) / len(w)
    last = max(int(finite.sum()), 1)
    return float(
        max(np.max(steps[1 : last + 1] - below[:last]), np.max(below[:last] - steps[:last]))
    )


def euler_cholesky(steps: int):  # type: ignore[no-untyped-def]
    """lax.scan over batched jnp.linalg.cholesky; NaN is what leaves the cone."""
    h = ROW[2] / steps
    count = total(FIELDS, 2)

    @jax.jit
    def run(keys: jax.Array) -> jax.Array:
        def body(V: jax.Array, k: jax.Array):  # type: ignore[no-untyped-def]
            draw = lambda key: jax.random.normal(jax.random.fold_in(key, k), (count,))  # noqa: E731
            blocks = gaussian_blocks(FIELDS, jax.vmap(draw)(keys), 2, {}, tiles=False)
            L = jnp.linalg.cholesky(V)
            noise = kernel.noise_from(L, V, blocks, PARAMS)
            return V + h * kernel.drift(V, PARAMS) + h**0.5 * noise, None

        start = jnp.broadcast_to(jnp.asarray(V0, keys_dtype), (PATHS, 2, 2))
        return jax.lax.scan(body, start, jnp.arange(steps))[0]

    keys_dtype = jnp.float32
    keys = jax.random.split(jax.random.key(steps), PATHS)
    return lambda: (np.asarray(run(keys)), np.zeros(PATHS, bool))


def generated(seed: int, **options: float):  # type: ignore[no-untyped-def]
    def run() -> tuple[np.ndarray, np.ndarray]:
        out = kernel.simulate(
            V0, PARAMS, t1=ROW[2], paths=PATHS, seed=seed, exit_radius=1e3, dtype="float32",
            **options,
        )  # fmt: skip
        return out.V[:, -1], np.isfinite(out.exit_time)

    return run


def main() -> None:
    series = {
        "Euler + Cholesky (lax.scan)": [euler_cholesky(n) for n in (32, 128, 512, 2048)],
        "generated, fixed steps": [generated(n, dt=ROW[2] / n) for n in (16, 32, 64, 128, 256)],
        "generated, step follows the state": [
            generated(k, per_step=p, dt_max=d)
            for k, (p, d) in enumerate(
                [(1.0, 0.25), (0.25, 0.06), (1 / 12, 0.03), (1 / 24, 1 / 64)]
            )
        ],
    }
    table: dict[str, list[list[float]]] = {}
    for name, runs in series.items():
        table[name] = []
        for run in runs:
            run()
            start = time.process_time()
            V, gone = run()
            seconds = time.process_time() - start
            table[name].append([round(seconds, 3), round(error(V, gone), 5)])
            print(f"{name:<36} {seconds:8.2f} s   KS {table[name][-1][1]:.4f}", flush=True)
    floor = 1.36 / np.sqrt(PATHS)
    RESULTS.mkdir(exist_ok=True)
    report = {"paths": PATHS, "floor": round(float(floor), 4), "jax": jax.__version__, **table}
    (RESULTS / "work_precision.json").write_text(json.dumps(report, indent=1) + "\n")
    figure, axis = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    for name, points in table.items():
        axis.loglog(*np.array(points).T, "o-", label=name)
    axis.axhline(floor, color="0.6", linewidth=0.8, linestyle=":")
    axis.annotate("sampling error (95 %)", (axis.get_xlim()[0], floor), fontsize=7, va="bottom")
    axis.set_xlabel(f"CPU seconds, {PATHS} paths, one core")
    axis.set_ylabel("KS distance from the exact law of w")
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(RESULTS / "work_precision.png", dpi=160)


if __name__ == "__main__":
    main()
