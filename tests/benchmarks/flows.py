"""Speed and errors of flows of tokens, as ratios in one run.

    python tests/benchmarks/flows.py [--out FOLDER]

One core (pinned where the system allows it), float64, warm, best of three (CPU seconds).  Softmax
attention on the sphere, tokens uniform, d = 3, beta = 1 where nothing else is said.

- `systems`: many systems to t = 30 at rtol 1e-8, by the number of their tokens: `solve`, with and
  without the second integration that shows the error; a loop over a sample of systems by SciPy (the
  best of DOP853, RK45, LSODA; NumPy velocity without a Python loop); one vmapped program by diffrax
  (the better of Tsit5 and Dopri8, if installed).  Errors are against rtol 1e-13.
- `large`: one velocity of 4096 tokens by dense matrices and by the blocked sums of
  `closures.attention_sums`; a step of `solve`, twelve velocities, over twelve of the latter.
- `clusters`: two clusters at right angles at beta = 40, which meet after 3e15 units of time.
- `schemes`: errors at their step of what public code runs, beside `solve` in its own time: Euler
  with renormalisation (64 tokens, t = 15, dt = 0.1), and in space a Runge-Kutta scheme whose four
  stages are equal, beside the one whose stages are not (20 tokens in a box, t = 5, dt = 0.1).
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
from scipy.integrate import solve_ivp

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from flow_models import Beta, Matrices, sa, softmax, sphere, tangent

from derive.runtime.common import attention_sums as sums
from derive.runtime.flows import entry
from derive.runtime.flows.entry import FlowModel, solve, solve_clusters

RTOL, T1, SYSTEMS, SAMPLE = 1e-8, 30.0, 256, 16
SIZES = (4, 16, 64)
AIM = 64
BETA = 1.0


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


def numpy_velocity(x: np.ndarray) -> np.ndarray:
    scores = x @ x.T
    scores -= 1
    weights = np.exp(scores, out=scores)
    total = weights @ np.concatenate([x, np.ones_like(x[:, :1])], axis=1)
    v = total[:, :-1] / total[:, -1:]
    return v - (x * v).sum(axis=1, keepdims=True) * x


def by_scipy(method: str, x: np.ndarray) -> Callable[[], Any]:
    shape = x.shape[1:]
    rate = lambda t, y: numpy_velocity(y.reshape(shape)).ravel()  # noqa: E731

    def run() -> np.ndarray:
        ends = [
            solve_ivp(rate, (0, T1), y.ravel(), method, t_eval=[T1], rtol=RTOL, atol=RTOL).y[:, -1]
            for y in x[:SAMPLE]
        ]
        return np.stack(ends).reshape(-1, *shape)

    return run


def by_diffrax(name: str, x: np.ndarray, rtol: float = RTOL) -> Callable[[], Any]:
    import diffrax

    def one(x0: Any) -> Any:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, x, beta: sa.velocity(x, Beta(beta))),
            getattr(diffrax, name)(),
            0.0,
            T1,
            None,
            x0,
            BETA,
            saveat=diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol),
            max_steps=10_000,
            adjoint=diffrax.ForwardMode(),
        ).ys[0]

    program = jax.jit(jax.vmap(one))

    def run() -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(program(jnp.asarray(x)))

    return run


def once(x: np.ndarray) -> np.ndarray:
    """`solve` without its second integration."""
    whole = entry.LOOSER
    entry.LOOSER = 1e30  # one step of a tolerance of one tenth
    try:
        return solve(sa, x, Beta(BETA), t1=T1, rtol=RTOL).x[:, -1]
    finally:
        entry.LOOSER = whole


def systems(n: int) -> dict[str, Any]:
    x = sphere(np.random.default_rng(0), SYSTEMS, n, 3)
    exact = solve(sa, x, Beta(BETA), t1=T1, rtol=1e-13).x[:, -1]
    rows: dict[str, Any] = {}

    def row(label: str, run: Callable[[], Any], scale: float = 1.0) -> float:
        seconds, first, out = best(run)
        rows[label] = {
            "cpu_seconds": round(seconds * scale, 4),
            "first_call_seconds": round(first, 2),
            "error": float(f"{np.abs(out - exact[: len(out)]).max():.2g}"),
        }
        return seconds * scale

    ours = row("solve", lambda: solve(sa, x, Beta(BETA), t1=T1, rtol=RTOL).x[:, -1])
    alone = row("solve, once", lambda: once(x))
    loop = min(
        row(f"SciPy {name}", by_scipy(name, x), SYSTEMS / SAMPLE)
        for name in ("DOP853", "RK45", "LSODA")
    )
    ratios = {"SciPy loop / solve": loop / ours, "SciPy loop / solve, once": loop / alone}
    try:
        peer = min(row(f"diffrax {name}", by_diffrax(name, x)) for name in ("Tsit5", "Dopri8"))
        ratios |= {"diffrax / solve": peer / ours, "diffrax / solve, once": peer / alone}
        fine = row("diffrax Dopri8, rtol 1e-9", by_diffrax("Dopri8", x, 1e-9))
        ratios["diffrax, rtol 1e-9 / solve, once"] = fine / alone
    except ImportError:
        pass
    return {"ratios": {k: round(v, 2) for k, v in ratios.items()}, "times": rows}


def large(n: int = 4096) -> dict[str, Any]:
    def blocked(x: Any, p: Beta) -> Any:
        average = sums.weighted_average(x, x, lambda xb, yb: p.beta * sums.inner(xb, yb))
        return tangent(x, average)

    x = sphere(np.random.default_rng(1), n, 3)
    with jax.enable_x64(True):
        z = jnp.asarray(x)
        programs = {"dense": jax.jit(sa.velocity), "blocked": jax.jit(blocked)}
        by = {name: best(lambda f=f: f(z, Beta(BETA)))[0] for name, f in programs.items()}
    model = FlowModel(Beta, {"beta": ()}, True, blocked)
    seconds, _, out = best(lambda: solve(model, x, Beta(BETA), t1=2.0, rtol=RTOL), 1)
    looser = best(lambda: solve(model, x, Beta(BETA), t1=2.0, rtol=entry.LOOSER * RTOL).steps, 1)[2]
    a_step = seconds / (out.steps + looser)
    return {
        "tokens": n,
        "velocity_seconds": {k: round(v, 4) for k, v in by.items()},
        "dense / blocked": round(by["dense"] / by["blocked"], 2),
        "a step of solve / 12 blocked velocities": round(a_step / (12 * by["blocked"]), 2),
    }


def clusters() -> dict[str, Any]:
    run = lambda: solve_clusters(sa, np.eye(2), [0.5, 0.5], Beta(40.0))  # noqa: E731
    seconds, first, out = best(run)
    return {
        "cpu_seconds (goal 1)": round(seconds, 4),
        "first_call_seconds": round(first, 2),
        "merge_time": float(f"{out.merge_times[0]:.9g}"),
        "steps": len(out.times) - 2,
    }


def euler_renormalised(x: np.ndarray, t1: float, dt: float) -> np.ndarray:
    for _ in range(round(t1 / dt)):
        x = x + dt * numpy_velocity(x)
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x


def rescaled(z: np.ndarray, t: float) -> np.ndarray:
    """Velocity of z = e^-t x for x_i' = sum_j P_ij x_j."""
    scores = np.exp(2 * t) * z @ z.T
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights @ z / weights.sum(axis=1, keepdims=True) - z


def runge_kutta(z: np.ndarray, t1: float, dt: float, equal: bool) -> np.ndarray:
    """Four stages; `equal`: all at the start of the step, as where the attention is frozen and one
    vector is added to all tokens."""
    for k in range(round(t1 / dt)):
        t = k * dt
        one = rescaled(z, t)
        two = one if equal else rescaled(z + dt / 2 * one, t + dt / 2)
        three = one if equal else rescaled(z + dt / 2 * two, t + dt / 2)
        four = one if equal else rescaled(z + dt * three, t + dt)
        z = z + dt / 6 * (one + 2 * two + 2 * three + four)
    return z


def schemes() -> dict[str, Any]:
    rows: dict[str, Any] = {}

    def row(label: str, run: Callable[[], Any], exact: np.ndarray) -> None:
        seconds, _, out = best(run)
        error = float(np.linalg.norm(out - exact, axis=-1).max())
        rows[label] = {"error": float(f"{error:.2g}"), "cpu_seconds": round(seconds, 5)}

    rng = np.random.default_rng(2)
    x = sphere(rng, 64, 3)
    middle = {"t1": 15.0, "saves": [3.0, 15.0]}
    exact = solve(sa, x, Beta(BETA), rtol=1e-13, **middle).x
    row("Euler with renormalisation, t = 3", lambda: euler_renormalised(x, 3.0, 0.1), exact[0])
    row("Euler with renormalisation, t = 15", lambda: euler_renormalised(x, 15.0, 0.1), exact[1])
    for rtol in (1e-4, RTOL):
        ours = lambda r=rtol: solve(sa, x, Beta(BETA), t1=15.0, rtol=r).x[-1]  # noqa: E731
        row(f"solve at rtol {rtol:g}, t = 15", ours, exact[1])
    z = rng.uniform(-5, 5, size=(20, 2))
    one = Matrices(np.eye(2), np.eye(2))
    in_box = lambda rtol: solve(softmax, z, one, t1=5.0, rtol=rtol).x[-1] * np.exp(-5)  # noqa: E731
    exact = in_box(1e-13)
    row("Runge-Kutta of equal stages", lambda: runge_kutta(z, 5.0, 0.1, True), exact)
    row("Runge-Kutta", lambda: runge_kutta(z, 5.0, 0.1, False), exact)
    row(f"solve at rtol {RTOL:g}, in space", lambda: in_box(RTOL), exact)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    result = {
        "what": f"{SYSTEMS} systems on the sphere, d = 3, beta = {BETA:g}, to t = {T1:g} at rtol "
        f"{RTOL:g}, one core, float64; SciPy scaled from {SAMPLE} systems",
        "goals": f"at {AIM} tokens: SciPy loop / solve 20, diffrax / solve 3",
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "scipy": scipy.__version__,
        },
        "systems": {str(n): systems(n) for n in SIZES},
        "large": large(),
        "clusters": clusters(),
        "schemes": schemes(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    (args.out / "flows.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
