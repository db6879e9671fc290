"""Speed of `solve` for 4096 laws at d = 4, as ratios in one run.

    python tests/benchmarks/closure_solver.py [--out FOLDER]

One core (pinned where the system allows it), float64, rtol 1e-8, atol 1e-11, warm, best of three
(CPU seconds).  Softmax attention, Q and K normal / 2, V = I plus a tenth of a normal matrix, one
set of parameters, S_0 = G G^T / d, mean normal; t1 = 1, the end alone is kept.  Every program
integrates mean and factor, so all do the same work per evaluation.

- `LSODA loop`: scipy.integrate.odeint law by law on a sample, with a NumPy right-hand side.
- `diffrax`: jit(vmap(diffeqsolve)), the best of Tsit5, Dopri5, Dopri8 (if installed).
- `blow-up`: the same with K = Q: every law ends before t1.  Ours alone: no peer has the event.
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
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from scipy.integrate import odeint

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from attention_models import Params, l2, softmax

from derive.runtime.closures.entry import solve
from derive.runtime.closures.inputs import factor

D, LAWS, SAMPLE = 4, 4096, 32
RTOL, ATOL, T1 = 1e-8, 1e-11, 1.0


def best(run: Callable[[], Any], repeats: int = 3) -> tuple[float, float, Any]:
    """CPU seconds of the best warm run, wall seconds of the first one, the result."""
    start = time.perf_counter()
    out = jax.block_until_ready(run())
    first = time.perf_counter() - start
    times = []
    for _ in range(repeats):
        start = time.process_time()
        out = jax.block_until_ready(run())
        times.append(time.process_time() - start)
    return min(times), first, out


def setting(seed: int = 0) -> tuple[np.ndarray, np.ndarray, Params]:
    rng = np.random.default_rng(seed)
    Q = rng.normal(size=(D, D)) / 2
    G = rng.normal(size=(LAWS, D, D))
    V = np.eye(D) + rng.normal(size=(D, D)) / 10
    return rng.normal(size=D), G @ np.swapaxes(G, -1, -2) / D, Params(Q, -Q, V)


def numpy_rate(name: str, p: Params) -> Callable[..., np.ndarray]:
    A, M = p.K.T @ p.Q, p.K.T @ p.K
    V, one = p.V, np.eye(D)

    def rate(y: np.ndarray, t: float) -> np.ndarray:
        m, F = y[:D], y[D:].reshape(D, D)
        S = F @ F.T
        if name == "l2":
            gain = V @ np.linalg.inv(one + 2 * S @ M)
            R = 2 * gain @ S @ A
        else:
            gain, R = V, V @ S @ A
        return np.concatenate([gain @ m + R @ m, (R @ F).ravel()])

    return rate


def lsoda(name: str, m0: np.ndarray, S0: np.ndarray, p: Params) -> Callable[[], Any]:
    rate = numpy_rate(name, p)
    starts = [np.concatenate([m0, F.ravel()]) for F in factor(S0[:SAMPLE])]

    def run() -> Any:
        return np.stack(
            [odeint(rate, y, [0, T1], rtol=RTOL, atol=ATOL, mxstep=100_000)[-1] for y in starts]
        )

    return run


def with_diffrax(model: Any, solver: str, m0: np.ndarray, S0: np.ndarray, p: Params) -> Any:
    import diffrax

    def field(t: Any, y: Any, args: Any) -> Any:
        m, F = y
        S = F @ F.T
        return model.mean_rate(m, S, args), model.jacobian(m, S, args) @ F

    def one(F: Any, args: Any) -> Any:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            getattr(diffrax, solver)(),
            0.0,
            T1,
            None,
            (jnp.asarray(m0), F),
            args,
            saveat=diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.PIDController(rtol=RTOL, atol=ATOL),
            max_steps=100_000,
            adjoint=diffrax.ForwardMode(),
        ).ys

    F0 = factor(S0)
    program = jax.jit(jax.vmap(one, in_axes=(0, None)))

    def run() -> Any:
        with jax.enable_x64(True):
            m, F = program(jnp.asarray(F0), jax.tree.map(jnp.asarray, p))
            return np.asarray(m)[:, 0], np.asarray(F)[:, 0]

    return run


def compare(name: str, model: Any) -> dict[str, Any]:
    m0, S0, p = setting()
    options = {"t1": T1, "rtol": RTOL, "atol": ATOL}
    tight = solve(model, m0, S0, p, t1=T1, rtol=1e-12, atol=1e-14).cov[:, -1]
    size = np.abs(tight).max(axis=(-1, -2))

    def error(F: np.ndarray) -> float:
        wrong = np.abs(F @ np.swapaxes(F, -1, -2) - tight[: len(F)]).max(axis=(-1, -2))
        return float(np.max(wrong / size[: len(F)]))

    rows: dict[str, Any] = {}

    def row(label: str, spent: tuple[float, float], F: np.ndarray, scale: float = 1.0) -> None:
        rows[label] = {
            "cpu_seconds": round(spent[0] * scale, 4),
            "first_call_seconds": round(spent[1], 2),
            "error": float(f"{error(F):.2g}"),
        }

    for method in ("explicit", "stiff"):
        *spent, out = best(lambda m=method: solve(model, m0, S0, p, method=m, **options))
        row(f"solve, {method}", tuple(spent), out.factor[:, -1])
    *spent, out = best(lsoda(name, m0, S0, p))
    row("LSODA loop", tuple(spent), out[:, D:].reshape(-1, D, D), LAWS / SAMPLE)
    ours = rows["solve, explicit"]["cpu_seconds"]
    ratios = {"LSODA loop / solve (goal 20)": rows["LSODA loop"]["cpu_seconds"] / ours}
    try:
        peers = []
        for solver in ("Tsit5", "Dopri5", "Dopri8"):
            *spent, out = best(with_diffrax(model, solver, m0, S0, p))
            row(f"diffrax {solver}", tuple(spent), out[1])
            peers.append(spent[0])
        ratios["diffrax / solve (goal 1.2)"] = min(peers) / ours
    except ImportError:
        pass
    if name == "softmax":
        q = p._replace(K=p.Q)
        *spent, out = best(lambda: solve(model, m0, S0, q, **options))
        rows["solve, blow-up"] = {
            "cpu_seconds": round(spent[0], 4),
            "blown_up": float(np.isfinite(out.blow_up_time).mean()),
        }
    return {"ratios": {k: round(v, 2) for k, v in ratios.items()}, "times": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    result = {
        "what": f"{LAWS} laws at d = {D}, float64, one core, rtol {RTOL}; "
        f"LSODA scaled from {SAMPLE} laws",
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "scipy": scipy.__version__,
        },
        "softmax": compare("softmax", softmax),
        "l2": compare("l2", l2),
    }
    text = json.dumps(result, indent=1)
    print(text)
    (args.out / "closure_solver.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
