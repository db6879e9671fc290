"""Speed of the generated sampler against the idiomatic baselines, as ratios in one run.

    python tests/benchmarks/sampler.py [--quick] [--out FILE.json]

One core (pinned where the system allows it), float32, warm: every program runs once before it is
timed, and the best of three runs counts (CPU seconds).  The same scheme and the same normals:
plain Euler steps at m = 8 with 36 symmetric + 64 iid normals a step, one key per path.

- `scan + cholesky`: lax.scan over batched jnp.linalg.cholesky, the generated drift and noise.
- `diffrax`: Euler with UnsafeBrownianPath (if installed).
- `normals alone`: the same number of draws by `jax.random.normal` (ours hashes half as much).
- `PSD baseline`: the layer-shaped step with batched cholesky.
- NumPy at m = 16: assembles the M x M diffusion, factors it, draws.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
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

from derive.generated import shaped_attention as kernel
from derive.runtime.paths import ensemble
from derive.runtime.paths.blocks import Block, gaussian_blocks, total

PARAMS = kernel.Params(0.5, 1.0)
FIELDS = {n: Block(k) for n, k in kernel._SPEC.noise_fields.items()}


def best(run: Callable[[], Any], repeats: int = 3) -> tuple[float, float]:
    """CPU seconds of the best warm run, and wall seconds of the first (compiling) one."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    first = time.perf_counter() - start
    times = []
    for _ in range(repeats):
        start = time.process_time()
        jax.block_until_ready(run())
        times.append(time.process_time() - start)
    return min(times), first


def start_covariance(m: int) -> np.ndarray:
    return 0.2 + 0.8 * np.eye(m)


def ours(m: int, paths: int, steps: int, scheme: str, h: float | None = None) -> Callable[[], Any]:
    h = h or 0.5 / steps
    normals = total(FIELDS if scheme == "euler" else kernel._SPEC.step_blocks, m)
    size = min(paths, ensemble.default_block(m, normals))
    params = kernel.Params(*(np.float32(p) for p in PARAMS))
    control = ensemble.Control(*(np.float32(c) for c in (1.0, 1.0, 1e8)))
    advance = ensemble.fixed(kernel._SPEC, m, scheme)
    blocks = [
        ensemble.start(start_covariance(m), 0, first, size, np.dtype("float32"))
        for first in range(0, paths, size)
    ]

    def run() -> Any:
        return [advance(b, np.int32(steps), np.float32(h), control, params) for b in blocks]

    return run


def keyed_normals(keys: jax.Array, k: jax.Array, count: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, k), (count,)))(keys)


def scan(m: int, paths: int, steps: int, scheme: str) -> Callable[[], Any]:
    """lax.scan over batched LAPACK Cholesky; the idiom of a careful user."""
    h = 0.5 / steps
    laws = FIELDS if scheme == "euler" else dict(kernel._SPEC.step_blocks)
    count = total(laws, m)
    dims = kernel.Dims(n=1 / h, n_k=1.0)

    @jax.jit
    def run(keys: jax.Array) -> jax.Array:
        def body(V: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
            z = keyed_normals(keys, k, count)
            L = jnp.linalg.cholesky(V)
            blocks = gaussian_blocks(laws, z, m, dims._asdict(), tiles=False)
            if scheme == "euler":
                noise = kernel.noise_from(L, V, blocks, PARAMS)
                new = V + h * kernel.drift(V, PARAMS) + np.float32(h**0.5) * noise
            else:
                new = kernel.step_layer(L, blocks, PARAMS, dims)
            return new, None

        V0 = jnp.broadcast_to(jnp.asarray(start_covariance(m), jnp.float32), (paths, m, m))
        return jax.lax.scan(body, V0, jnp.arange(steps))[0]

    keys = jax.random.split(jax.random.key(0), paths)
    return lambda: run(keys)


def normals_alone(m: int, paths: int, steps: int) -> Callable[[], Any]:
    count = total(FIELDS, m)
    size = min(paths, ensemble.default_block(m, count))

    @jax.jit
    def run(keys: jax.Array) -> jax.Array:
        def body(k: jax.Array, total: jax.Array) -> jax.Array:
            z = jax.vmap(
                lambda key: jax.random.normal(jax.random.fold_in(key, k), (count,)), out_axes=1
            )(keys)
            return total + z

        return jax.lax.fori_loop(0, steps, body, jnp.zeros((count, size), jnp.float32))

    keys = jax.random.split(jax.random.key(0), paths).reshape(-1, size)
    return lambda: [run(k) for k in keys]


def diffrax_euler(m: int, paths: int, steps: int) -> Callable[[], Any] | None:
    try:
        import diffrax
    except ImportError:
        return None
    h = 0.5 / steps
    count = total(FIELDS, m)

    class Noise(diffrax.AbstractTerm):  # the noise map applied to an increment of 100 normals
        def vf(self, t: Any, y: Any, args: Any) -> Any:
            return y

        def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
            return path.evaluate(t0, t1)

        def prod(self, vf: Any, control: Any) -> Any:
            L = jnp.linalg.cholesky(vf)
            fields = gaussian_blocks(FIELDS, control, m, {}, tiles=False)
            return kernel.noise_from(L, vf, fields, PARAMS)

    path: Any = None

    @jax.jit
    def run(keys: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            nonlocal path
            path = diffrax.UnsafeBrownianPath(shape=(count,), key=key)
            terms = diffrax.MultiTerm(
                diffrax.ODETerm(lambda t, y, args: kernel.drift(y, PARAMS)), Noise()
            )
            V0 = jnp.asarray(start_covariance(m), jnp.float32)
            return diffrax.diffeqsolve(
                terms, diffrax.Euler(), 0.0, 0.5, h, V0, adjoint=diffrax.ForwardMode(),
                max_steps=steps + 1,
            ).ys[0]  # fmt: skip

        return jax.vmap(one)(keys)

    keys = jax.random.split(jax.random.key(0), paths)
    return lambda: run(keys)


def numpy_drift(V: np.ndarray) -> np.ndarray:
    """The drift in matrix form; V (paths, m, m)."""
    m = V.shape[-1]
    size = np.diagonal(V, axis1=-2, axis2=-1)
    rows = V.mean(-1)
    both = rows.mean(-1, keepdims=True)
    w = (size - 2 * rows + 2 * both - size.mean(-1, keepdims=True)) / m
    u = (V @ w[..., None])[..., 0]
    H = V - rows[..., :, None]
    trace = np.einsum("kab,kba->k", H, H)[:, None, None] / m**2
    cross = size[:, :, None] * u[:, None, :]
    return (PARAMS.gamma / PARAMS.tau_0) ** 2 * (trace * V + (cross + cross.mT) / 2)


def numpy_assembled(m: int, paths: int, steps: int, h: float) -> Callable[[], Any]:
    """Sigma assembled on the upper triangle and factored, per path and step (vectorised)."""
    rows, columns = np.triu_indices(m)
    g2, lam = PARAMS.gamma**2, PARAMS.gamma**2 * (2 - PARAMS.gamma**2)

    def run() -> np.ndarray:
        rng = np.random.default_rng(0)
        V = np.broadcast_to(start_covariance(m), (paths, m, m)).copy()
        H = np.eye(m) - 1 / m
        for _ in range(steps):
            K = V @ H @ V @ H @ V / (m * PARAMS.tau_0) ** 2
            a, b = rows[:, None], columns[:, None]
            c, d = rows[None, :], columns[None, :]
            linear = V[:, a, c] * V[:, b, d] + V[:, a, d] * V[:, b, c]
            mixed = (V[:, a, c] * K[:, b, d] + V[:, a, d] * K[:, b, c]
                     + V[:, b, c] * K[:, a, d] + V[:, b, d] * K[:, a, c])  # fmt: skip
            sigma = lam * linear + g2**2 * mixed
            size = np.trace(sigma, axis1=1, axis2=2)[:, None, None] / len(rows)
            root = np.linalg.cholesky(sigma + 1e-10 * size * np.eye(len(rows)))
            z = rng.standard_normal((paths, len(rows)))
            noise = np.einsum("kij,kj->ki", root, z)
            V = V + h * numpy_drift(V)
            V[:, rows, columns] += np.sqrt(h) * noise
            V[:, columns, rows] = V[:, rows, columns]
        return V

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the steps")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/sampler.json")
    options = parser.parse_args()
    m, paths, steps = 8, 4096, 40 if options.quick else 200
    table: dict[str, dict[str, float]] = {}

    def measure(name: str, run: Callable[[], Any] | None) -> float:
        if run is None:
            return float("nan")
        seconds, first = best(run)
        table[name] = {"cpu_seconds": round(seconds, 4), "first_call_seconds": round(first, 2)}
        print(f"{name:<34} {seconds:8.3f} s   first call {first:6.1f} s", flush=True)
        return seconds

    euler = measure("generated, Euler", ours(m, paths, steps, "euler"))
    chol = measure("scan + cholesky, Euler", scan(m, paths, steps, "euler"))
    peer = measure("diffrax, Euler", diffrax_euler(m, paths, steps))
    alone = measure("normals alone (100 a step)", normals_alone(m, paths, steps))
    psd = measure("generated, layer-shaped step", ours(m, paths, steps, "network"))
    base = measure("scan + cholesky, layer-shaped step", scan(m, paths, steps, "network"))
    few = 256
    ours16 = measure("generated, Euler, m = 16", ours(16, few, 20, "euler", 0.5 / 200))
    numpy16 = best(numpy_assembled(16, 64, 4, 0.5 / 200), 3)[0] * (few / 64) * (20 / 4)
    scaling = {
        size: measure(f"generated, Euler, m = {size}", ours(size, 256, 10, "euler", 0.5 / 1000))
        for size in (16, 32, 64, 128)
    }
    exponent = np.log(scaling[128] / scaling[16]) / np.log(128 / 16)
    ratios = {
        "scan + cholesky / generated (Euler; goal 1.7)": chol / euler,
        "diffrax / generated (Euler; goal 2)": peer / euler,
        "generated / normals alone (goal 1.6 at most)": euler / alone,
        "scan + cholesky / generated (layer-shaped step)": base / psd,
        "numpy assembled / generated (m = 16; goal 300)": numpy16 / ours16,
        "cost exponent from m = 16 to 128 (goal 3.3 at most)": exponent,
    }
    for name, value in ratios.items():
        print(f"{name:<54} {value:8.2f}")
    report = {
        "what": f"m = {m}, {paths} paths, {steps} steps, float32, one core",
        "versions": {"python": platform.python_version(), "jax": jax.__version__,
                     "numpy": np.__version__},
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "ratios": {k: round(float(v), 3) for k, v in ratios.items()},
        "times": table,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
