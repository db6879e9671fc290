"""Speed and memory of the particle systems of softmax attention, as ratios in one run on one core.

    python tests/benchmarks/attention_sums.py [--out FOLDER]

d = 16, float32 and float64, warm, best of five in turn (CPU seconds), all with one thread:

- `attention`: softmax(X X^T) X once: the blocked sums, the dense formula as its users write it, and
  torch's scaled_dot_product_attention;
- `particles`: two Runge-Kutta steps of softmax_closure with Q, K, V: the generated `particles`, the
  same loop by the dense formula, and the same loop in torch, products with Q, K, V included;
- `memory`: what the compiled velocity of the particles allocates beside its input, and how much the
  peak of a fresh process grows by one attention of each peer (float64, input included; not pinned
  to a core: pinned, XLA's queue of small tasks adds some 2 kB a token at N = 65 536).

Without torch (extra `bench`) its columns are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if hasattr(os, "sched_setaffinity"):
    # a child inherits the parent's core: for memory it gets all of them back
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) if "--peak" in sys.argv else {0})
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np

from derive.generated import softmax_closure
from derive.runtime.common import attention_sums as sums

D = 16
SIZES = (1024, 2048, 4096, 8192, 16384)
AIM = 8192
MEMORY_SIZES = (4096, 8192, 16384, 32768, 65536)
DENSE_LIMIT = 16384  # scores of float64: 2 GB, several times
STEPS, T1 = 2, 0.2
PEERS = ("blocked", "torch", "dense")
Run = Callable[[], Any]


def torch_or_none() -> Any:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch


def tokens(n: int, dtype: str) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=(n, D)) / 2).astype(dtype)


def matrices(dtype: str) -> list[np.ndarray]:
    """Q, K, V of a moderate attention: scores of order one."""
    draw = np.random.default_rng(1).normal(size=(3, D, D)) / math.sqrt(D)
    return [M.astype(dtype) for M in draw]


def attention(n: int, dtype: str) -> dict[str, Run]:
    """softmax(X X^T) X by each peer that is there."""
    x, torch = tokens(n, dtype), torch_or_none()
    z = jnp.asarray(x)
    blocked = jax.jit(lambda z: sums.weighted_average(z, z, sums.inner))
    out: dict[str, Run] = {"blocked": lambda: blocked(z).block_until_ready()}
    if n <= DENSE_LIMIT:
        dense = jax.jit(lambda z: jax.nn.softmax(z @ z.T, axis=-1) @ z)
        out["dense"] = lambda: dense(z).block_until_ready()
    if torch:
        y = torch.from_numpy(x)[None, None]
        attend = torch.nn.functional.scaled_dot_product_attention
        out["torch"] = lambda: attend(y, y, y, scale=1.0)[0, 0].numpy()
    return out


def particles(n: int, dtype: str) -> dict[str, Run]:
    """`STEPS` Runge-Kutta steps of order four by each peer that is there."""
    x, torch = tokens(n, dtype), torch_or_none()
    Q, K, V = matrices(dtype)
    params = softmax_closure.Params(Q, K, V)

    def ours() -> np.ndarray:
        found = softmax_closure.particles(x, params, t1=T1, steps=STEPS, dtype=dtype)
        return found.x[-1]

    out: dict[str, Run] = {"blocked": ours}
    if n <= DENSE_LIMIT:
        z, q, k, v = (jnp.asarray(a) for a in (x, Q, K, V))
        rate = lambda x: jax.nn.softmax((x @ q.T) @ (x @ k.T).T, axis=-1) @ (x @ v.T)  # noqa: E731
        go = jax.jit(lambda x: jax.lax.fori_loop(0, STEPS, lambda _, x: _step(rate, x), x))
        out["dense"] = lambda: np.asarray(go(z))
    if torch:
        y, q1, k1, v1 = (torch.from_numpy(a) for a in (x, Q, K, V))
        attend = torch.nn.functional.scaled_dot_product_attention

        def velocity(x: Any) -> Any:
            heads = [(x @ M.T)[None, None] for M in (q1, k1, v1)]
            return attend(*heads, scale=1.0)[0, 0]

        def loop() -> np.ndarray:
            now = y
            with torch.inference_mode():
                for _ in range(STEPS):
                    now = _step(velocity, now)
            return now.numpy()

        out["torch"] = loop
    return out


def _step(rate: Any, x: Any) -> Any:
    h = T1 / STEPS
    a = rate(x)
    b = rate(x + h / 2 * a)
    c = rate(x + h / 2 * b)
    return x + h / 6 * (a + 2 * b + 2 * c + rate(x + h * c))


def best(runs: dict[str, Run], repeats: int = 5) -> dict[str, float]:
    """Smallest CPU seconds of each; the peers take turns, so that all see the same machine."""
    values = {name: np.asarray(run()) for name, run in runs.items()}  # warm
    for name, value in values.items():
        slack = 1e-4 if value.dtype == np.float32 else 1e-11
        assert np.allclose(value, values["blocked"], atol=slack), f"{name} computes another thing"
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    return {name: min(found) for name, found in times.items()}


def ratios(times: dict[str, float]) -> dict[str, float]:
    """How many times as fast as each peer the blocked sums are."""
    return {
        f"{name} / blocked": round(times[name] / times["blocked"], 2)
        for name in times
        if name != "blocked"
    }


def speed(dtype: str) -> dict[str, Any]:
    table: dict[str, Any] = {"attention": {}, "particles": {}}
    with jax.enable_x64(dtype == "float64"):
        for n in SIZES:
            table["attention"][str(n)] = best(attention(n, dtype))
        for n in (AIM,):
            table["particles"][str(n)] = best(particles(n, dtype), repeats=3)
    out = {}
    for what, rows in table.items():
        out[what] = {
            n: ratios(row) | {"cpu_seconds": {k: round(v, 4) for k, v in row.items()}}
            for n, row in rows.items()
        }
    return out


def allocated(n: int) -> int:
    """Bytes that one compiled velocity allocates beside its input and its result, float64."""
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct((n, D), jnp.float64)
        params = softmax_closure.Params(*matrices("float64"))
        run = jax.jit(lambda x: softmax_closure.particle_velocity(x, x, params))
        return run.lower(x).compile().memory_analysis().temp_size_in_bytes


def peak(peer: str, n: int) -> float:
    """MB by which one call at n tokens raises the peak of a fresh process; float64."""
    command = [sys.executable, __file__, "--peak", peer, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure_peak(peer: str, n: int) -> float:
    """The same at 512 tokens first, so that code and libraries are not counted."""
    with jax.enable_x64(True):
        attention(512, "float64")[peer]()
        before = high_water()
        attention(n, "float64")[peer]()
    return high_water() - before


def high_water() -> float:
    """Largest resident size so far, MB; getrusage's would count the parent's too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return float(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def memory() -> dict[str, Any]:
    compiled = {"allocated_bytes_of_a_velocity": {str(n): allocated(n) for n in MEMORY_SIZES}}
    if not Path("/proc/self/status").exists():
        return compiled
    peers = [p for p in PEERS if p != "torch" or torch_or_none()]
    return compiled | {
        "peak_growth_MB": {
            peer: {
                str(n): round(peak(peer, n), 1)
                for n in MEMORY_SIZES
                if peer != "dense" or n <= DENSE_LIMIT
            }
            for peer in peers
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--peak", nargs=2, metavar=("PEER", "N"), help="one memory measurement")
    args = parser.parse_args()
    if args.peak:
        print(measure_peak(args.peak[0], int(args.peak[1])))
        return
    torch = torch_or_none()
    result: dict[str, Any] = {
        "what": f"d = {D}, one core, one thread; CPU seconds",
        "aims": f"at N = {AIM}: torch / blocked 0.65, dense / blocked 2; memory linear in N",
        "torch": torch.__version__.split("+")[0] if torch else None,
        "jax": jax.__version__,
    }
    result |= {dtype: speed(dtype) for dtype in ("float32", "float64")}
    result["memory"] = memory()
    text = json.dumps(result, indent=1)
    print(text)
    (args.out / "attention_sums.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
