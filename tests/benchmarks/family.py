"""The sampler against its peers for every model of the covariance-SDE family, as ratios in one run.

    python tests/benchmarks/family.py [MODEL ...]

Set-up of sampler.py: Euler steps at m = 8, float32, one core, warm, CPU seconds, the runs of the
peers in alternation.  A model's figures are written as soon as they are there.

- `scan + cholesky`: lax.scan over batched jnp.linalg.cholesky of V, the generated drift and noise.
- `assembled`: the peer that knows no noise map: lax.scan over Cholesky factors of the covariance
  of the noise, (36, 36), assembled by the generated `diffusion`; 36 normals a step.
- `normals alone`: as many draws by `jax.random.normal`.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import sampler  # pins the process to one core  # isort: skip
import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.paths import ensemble
from derive.runtime.paths.blocks import Block, gaussian_blocks, total

RESULTS = Path(__file__).parent / "results" / "family.json"
VALUES = {"gamma": 0.5, "tau_0": 1.0, "c_plus": 0.0, "c_minus": -1.0, "a": 1.0, "H": 4.0,
          "beta": 1.0, "d": 16.0}  # fmt: skip
MODELS = (
    "shaped_attention",
    "shaped_transformer",
    "causal_shaped_attention",
    "multihead_shaped_attention",
    "concatenated_shaped_attention",
    "post_norm_shaped_attention",
    "sigmoid_attention",
    "linear_attention",
    "random_value_sphere_attention",
    "shaped_relu_mlp",
    "shaped_smooth_mlp",
    "shaped_smooth_mlp_gelu",
    "shaped_smooth_mlp_silu",
)
M, PATHS, STEPS, H = 8, 2048, 40, 0.25 / 100


def parameters(kernel: ModuleType) -> Any:
    return kernel.Params(*(np.float32(VALUES[name]) for name in kernel.Params._fields))


def fields(kernel: ModuleType) -> dict[str, Block]:
    return {n: Block(k) for n, k in kernel._SPEC.noise_fields.items()}


def ours(kernel: ModuleType) -> Callable[[], Any]:
    size = min(PATHS, ensemble.default_block(M, total(fields(kernel), M)))
    control = ensemble.Control(*(np.float32(c) for c in (1.0, 1.0, 1e8)))
    advance = ensemble.fixed(kernel._SPEC, M, "euler")
    params = parameters(kernel)
    blocks = [
        ensemble.start(sampler.start_covariance(M), 0, first, size, np.dtype("float32"))
        for first in range(0, PATHS, size)
    ]
    return lambda: [advance(b, np.int32(STEPS), np.float32(H), control, params) for b in blocks]


def scanned(step: Callable[[Any, Any], Any], count: int, paths: int) -> Callable[[], Any]:
    """`step(V, normals)` over batched paths, one key per path."""

    @jax.jit
    def run(keys: jax.Array) -> jax.Array:
        def body(V: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
            return step(V, sampler.keyed_normals(keys, k, count)), None

        V0 = jnp.broadcast_to(jnp.asarray(sampler.start_covariance(M), jnp.float32), (paths, M, M))
        return jax.lax.scan(body, V0, jnp.arange(STEPS))[0]

    keys = jax.random.split(jax.random.key(0), paths)
    return lambda: run(keys)


def cholesky(kernel: ModuleType) -> Callable[[], Any]:
    laws, params = fields(kernel), parameters(kernel)

    def step(V: Any, z: Any) -> Any:
        noise = kernel.noise_from(
            jnp.linalg.cholesky(V), V, gaussian_blocks(laws, z, M, {}, tiles=False), params
        )
        return V + H * kernel.drift(V, params) + np.float32(H**0.5) * noise

    return scanned(step, total(laws, M), PATHS)


def assembled(kernel: ModuleType, paths: int) -> Callable[[], Any]:
    params = parameters(kernel)
    rows, columns = np.tril_indices(M)
    place = np.zeros((M, M), dtype=int)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))

    def step(V: Any, z: Any) -> Any:
        Sigma = kernel.diffusion(V, params)[..., rows[:, None], columns[:, None], rows, columns]
        size = jnp.trace(Sigma, axis1=-2, axis2=-1)[..., None, None] / len(rows)
        root = jnp.linalg.cholesky(Sigma + 1e-5 * size * jnp.eye(len(rows), dtype=V.dtype))
        noise = jnp.matvec(root, z)[..., place]
        return V + H * kernel.drift(V, params) + np.float32(H**0.5) * noise

    return scanned(step, len(rows), paths)


def measure(name: str) -> dict[str, float]:
    kernel = importlib.import_module(f"derive.generated.{name}")
    few = 128
    count = total(fields(kernel), M)

    @jax.jit
    def draw(keys: jax.Array) -> jax.Array:
        def body(k: jax.Array, sum_: jax.Array) -> jax.Array:
            return sum_ + sampler.keyed_normals(keys, k, count)

        return jax.lax.fori_loop(0, STEPS, body, jnp.zeros((len(keys), count), jnp.float32))

    keys = jax.random.split(jax.random.key(0), PATHS)
    runs = {
        "ours": ours(kernel),
        "scan": cholesky(kernel),
        "assembled": assembled(kernel, few),
        "normals": lambda: draw(keys),
    }
    seconds = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        jax.block_until_ready(run())
    for _ in range(7):
        for label, run in runs.items():
            start = sampler.time.process_time()
            jax.block_until_ready(run())
            seconds[label] = min(seconds[label], sampler.time.process_time() - start)
    seconds["assembled"] *= PATHS / few
    return {
        "normals a step": count,
        "scan + cholesky / ours": round(seconds["scan"] / seconds["ours"], 2),
        "assembled / ours": round(seconds["assembled"] / seconds["ours"], 1),
        "ours / normals alone": round(seconds["ours"] / seconds["normals"], 2),
        "ours, CPU seconds": round(seconds["ours"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    report: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    report["what"] = (
        f"Euler, m = {M}, {PATHS} paths, {STEPS} steps, float32, one core, CPU seconds; goals: "
        "scan + cholesky / ours at least 1.7, ours / normals alone at most 1.6"
    )
    report["versions"] = {"jax": jax.__version__, "numpy": np.__version__}
    for name in parser.parse_args().models:
        report[name] = measure(name)
        jax.clear_caches()
        print(name, report[name], flush=True)
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
