"""Speed of the boundary value solver against its peers, as ratios in one run, at equal accuracy.

    python tests/benchmarks/turnpike_solver.py [--quick] [--out FILE.json]

One core (pinned where the system allows it), warm, CPU seconds per solve, best of three.  Two
problems: a neural ODE with two samples (T = 30) and a Gaussian covariance (T = 40).  All solvers
get the same turnpike as first guess and the same derived equations; what they are asked for:

- ours: tolerance 1e-8, a batch of first states at once, and one alone.
- scipy.solve_bvp: tol 1e-8, vectorised NumPy right-hand side without and with its Jacobian.
- CasADi + IPOPT (if installed): direct collocation, Legendre of degree 3 on a mesh clustered at
  both ends, the smallest of a few meshes whose states are within `GOAL` of the reference; if none
  is, the finest.  The graph is built once; the solve alone is timed.

`error`: largest error of the states over all first states at common times, against our own
solution at tolerance 1e-12.  Ratios are at equal accuracy: ours is run at the first tolerance of
1e-8, 1e-9, ... whose error is no larger than that of the other solver (`our tolerance`).
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
sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import control_models as models
import jax
import numpy as np
from scipy.integrate import solve_bvp

from derive.runtime.control import entry as optimal_control
from derive.runtime.control import mesh

GOAL = 1e-8


def best(run: Callable[[], Any], repeats: int = 3) -> float:
    """CPU seconds of the best warm run."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def neural_case() -> dict[str, Any]:
    goal = np.array([[1, 0.2], [-0.6, 0.9]])
    params = models.Net(2.0, 0.3, goal, np.zeros((2, 2)))
    first = np.array([[-0.5, 1], [0.4, -0.8]])
    alpha, beta = 2.0, 0.3

    def field(t: Any, y: np.ndarray) -> np.ndarray:
        x, p = y[:4].reshape(2, 2, -1), y[4:].reshape(2, 2, -1)
        s = np.tanh(x)
        W = -np.einsum("iak,ibk->abk", p, s) / beta
        b = -p.sum(0) / beta
        rate = np.einsum("abk,ibk->iak", W, s) + b
        back = -alpha / 2 * (x - goal[..., None])
        back = back - (1 - s**2) * np.einsum("bak,ibk->iak", W, p)
        return np.concatenate([rate.reshape(4, -1), back.reshape(4, -1)])

    def casadi_field(ca: Any, z: Any, v: Any) -> tuple[Any, Any]:
        s = ca.tanh(z)
        rate = []
        for i in range(2):
            for a in range(2):
                rate.append(v[2 * a] * s[2 * i] + v[2 * a + 1] * s[2 * i + 1] + v[4 + a])
        gap = z - ca.DM(goal.ravel())
        return ca.vertcat(*rate), alpha / 4 * ca.sumsqr(gap) + beta / 2 * ca.sumsqr(v)

    return {
        "name": "neural_ode_tracking b1",
        "T": 30.0,
        "model": models.neural(),
        "params": params,
        "state": models.X,
        "first": first,
        "noise": 0.2,
        "field": field,
        "casadi": casadi_field,
        "n": 4,
        "m": 6,
        "pack": lambda x: x.reshape(-1, 4),
    }


def gaussian_case() -> dict[str, Any]:
    goal = np.array([[1, 0.4], [0.4, 0.7]])
    A = np.array([[1, 0.3], [-0.2, 0.8]])
    params = models.Gaussian(1.0, 0.5, goal, np.zeros((2, 2)), A)
    root = np.sqrt(0.5)

    def matrix(z: np.ndarray) -> np.ndarray:
        return np.array([[z[0], z[1] * root], [z[1] * root, z[2]]])

    def vector(S: np.ndarray) -> np.ndarray:
        return np.array([S[0, 0], (S[0, 1] + S[1, 0]) * root, S[1, 1]])

    def product(*matrices: np.ndarray) -> np.ndarray:
        out = matrices[0]
        for M in matrices[1:]:
            out = np.einsum("ab...,bc...->ac...", out, M)
        return out

    def turned(M: np.ndarray) -> np.ndarray:
        return np.swapaxes(M, 0, 1)

    def field(t: Any, y: np.ndarray) -> np.ndarray:
        S, P = matrix(y[:3]), matrix(y[3:])
        B = A[..., None]
        V = -2 / 0.5 * product(P, S, turned(B), S)
        Y = product(V, S, B, S)
        rate = Y + turned(Y)
        one = product(turned(V), P, S, turned(B)) + product(turned(B), S, turned(V), P)
        back = -(S - goal[..., None]) - (one + turned(one))
        return np.concatenate([vector(rate), vector(back)])

    def casadi_field(ca: Any, z: Any, v: Any) -> tuple[Any, Any]:
        S = ca.vertcat(ca.horzcat(z[0], z[1] * root), ca.horzcat(z[1] * root, z[2]))
        V = ca.vertcat(ca.horzcat(v[0], v[1]), ca.horzcat(v[2], v[3]))
        Y = V @ S @ ca.DM(A) @ S
        rate = ca.vertcat(2 * Y[0, 0], 2 * root * (Y[0, 1] + Y[1, 0]), 2 * Y[1, 1])
        return rate, ca.sumsqr(S - ca.DM(goal)) / 2 + 0.25 * ca.sumsqr(v)

    return {
        "name": "gaussian_tracking d1",
        "T": 40.0,
        "model": models.gaussian(),
        "params": params,
        "state": models.S,
        "first": np.eye(2) / 2,
        "noise": 0.05,
        "field": field,
        "casadi": casadi_field,
        "n": 3,
        "m": 4,
        "pack": lambda S: np.stack([S[..., 0, 0], S[..., 0, 1] / root, S[..., 1, 1]], -1).reshape(
            -1, 3
        ),
    }


def first_states(case: dict[str, Any], count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, (count, *case["first"].shape))
    noise[0] = 0
    if case["state"] is models.S:
        noise = (noise + np.swapaxes(noise, -1, -2)) / 2
    return case["first"] + case["noise"] * noise


def measure(case: dict[str, Any], quick: bool) -> dict[str, Any]:
    T, n = case["T"], case["n"]
    count = 16 if quick else 64
    few = 2 if quick else 4
    found = optimal_control.turnpike(case["model"], case["params"])
    x0 = first_states(case, count)
    shown = mesh.clustered(T, 60, float(found.rates[0]), float(found.rates[-1]))

    def ours(x0: Any, tolerance: float = 1e-8, saves: Any = None) -> Any:
        return optimal_control.solve(
            case["model"], x0, case["params"], T=T, near=found, tolerance=tolerance, saves=saves
        )

    truth = np.stack([case["pack"](x) for x in ours(x0, 1e-12, shown).x[0]])  # (count, times, n)

    def off(k: int, z: np.ndarray) -> float:
        return float(np.max(np.abs(z - truth[k])))

    def error_of(tolerance: float) -> float:
        at_once = ours(x0, tolerance, saves=shown)
        return max(off(k, case["pack"](x)) for k, x in enumerate(at_once.x[0]))

    def as_accurate(other: float) -> dict[str, float]:
        """What ours takes for an error of at most `other`."""
        for tolerance in (1e-8, 1e-9, 1e-10, 1e-11):
            mine = error_of(tolerance)
            if mine <= other:
                break
        in_batch = best(lambda: ours(x0, tolerance)) / count
        by_one = best(lambda: [ours(x, tolerance) for x in x0[:few]]) / few
        return {"tolerance": tolerance, "error": mine, "batch": in_batch, "alone": by_one}

    error = error_of(1e-8)
    out: dict[str, Any] = {"problem": case["name"], "T": T, "batch": count}
    batch = best(lambda: ours(x0)) / count
    out["ours, in a batch"] = {
        "seconds": batch,
        "error": error,
        "intervals": int(ours(x0).times.shape[1] - 1),
    }
    alone = best(lambda: [ours(x) for x in x0[:few]]) / few
    out["ours, alone"] = {"seconds": alone, "error": error}

    z0 = case["pack"](x0)
    anchor = np.concatenate([case["pack"](found.x[0])[0], case["pack"](found.p[0])[0]])
    nodes = mesh.clustered(T, 48, float(found.rates[0]), float(found.rates[-1]))

    def by_scipy() -> list[Any]:
        solved = []
        for k in range(few):
            guess = np.repeat(anchor[:, None], len(nodes), 1)
            solved.append(
                solve_bvp(
                    case["field"],
                    lambda a, b, k=k: np.concatenate([a[:n] - z0[k], b[n:]]),
                    nodes,
                    guess,
                    tol=1e-8,
                    max_nodes=20000,
                )
            )
        return solved

    solved = by_scipy()
    seconds = best(by_scipy) / few
    error = max(off(k, s.sol(shown)[:n].T) for k, s in enumerate(solved))
    mine = as_accurate(error)
    out["scipy.solve_bvp"] = {
        "seconds": seconds,
        "error": error,
        "intervals": int(np.mean([len(s.x) for s in solved])) - 1,
        "success": all(s.success for s in solved),
        "our tolerance": mine["tolerance"],
        "our error": mine["error"],
        "ratio to ours in a batch": seconds / mine["batch"],
        "ratio to ours alone": seconds / mine["alone"],
    }
    try:
        import casadi as ca
    except ImportError:
        return out
    for N in (48, 96, 192, 384, 768):
        solver, args, states = transcription(ca, case, anchor[:n], N, found, shown)

        def by_ipopt(solver=solver, args=args, states=states) -> list[np.ndarray]:
            return [states(solver(p=z0[k], **args)["x"]) for k in range(few)]

        got = by_ipopt()
        error = max(off(k, z) for k, z in enumerate(got))
        if error <= max(GOAL, out["ours, in a batch"]["error"]):
            break
    seconds = best(by_ipopt) / few
    mine = as_accurate(error)
    out["CasADi + IPOPT"] = {
        "seconds": seconds,
        "error": error,
        "intervals": N,
        "our tolerance": mine["tolerance"],
        "our error": mine["error"],
        "ratio to ours in a batch": seconds / mine["batch"],
        "ratio to ours alone": seconds / mine["alone"],
    }
    return out


def transcription(
    ca: Any, case: dict[str, Any], anchor: np.ndarray, N: int, found: Any, shown: np.ndarray
) -> tuple[Any, dict[str, Any], Callable[[Any], np.ndarray]]:
    """Direct collocation with Legendre points of degree 3, the control free at each point."""
    n, m, T, degree = case["n"], case["m"], case["T"], 3
    base = mesh.clustered(T, N, float(found.rates[0]), float(found.rates[-1]))
    tau = np.append(0, ca.collocation_points(degree, "legendre"))
    slope = np.zeros((degree + 1, degree + 1))
    last, weight = np.zeros(degree + 1), np.zeros(degree + 1)
    polynomials = []
    for j in range(degree + 1):
        others = np.delete(tau, j)
        poly = np.poly1d(others, r=True) / np.prod(tau[j] - others)
        polynomials.append(poly)
        slope[j] = np.polyder(poly)(tau)
        last[j], weight[j] = poly(1.0), np.polyint(poly)(1.0)
    start = ca.SX.sym("start", n)
    z = ca.SX.sym("z", n)
    v = ca.SX.sym("v", m)
    f = ca.Function("f", [z, v], list(case["casadi"](ca, z, v)))
    nodes = ca.SX.sym("nodes", n, N + 1)
    inner = ca.SX.sym("inner", n, N * degree)
    control = ca.SX.sym("control", m, N * degree)
    rows, cost = [nodes[:, 0] - start], 0
    for i in range(N):
        h = base[i + 1] - base[i]
        Z = [nodes[:, i], *(inner[:, degree * i + j] for j in range(degree))]
        for j in range(1, degree + 1):
            rate, running = f(Z[j], control[:, degree * i + j - 1])
            rows.append(sum(slope[r, j] * Z[r] for r in range(degree + 1)) - h * rate)
            cost += h * weight[j] * running
        rows.append(sum(last[r] * Z[r] for r in range(degree + 1)) - nodes[:, i + 1])
    unknowns = ca.vertcat(ca.vec(nodes), ca.vec(inner), ca.vec(control))
    options = {"print_time": False, "ipopt.print_level": 0, "ipopt.sb": "yes", "ipopt.tol": 1e-10}
    solver = ca.nlpsol(
        "solver",
        "ipopt",
        {"x": unknowns, "p": start, "f": cost, "g": ca.vertcat(*rows)},
        options,
    )
    guess = np.concatenate(
        [np.tile(anchor, N + 1), np.tile(anchor, N * degree), np.zeros(m * N * degree)]
    )

    def states(x: Any) -> np.ndarray:
        x = np.asarray(x).ravel()
        Z = x[: n * (N + 1)].reshape(N + 1, n)
        C = x[n * (N + 1) : n * (N + 1 + N * degree)].reshape(N, degree, n)
        i = np.clip(np.searchsorted(base, shown, side="right") - 1, 0, N - 1)
        s = (shown - base[i]) / np.diff(base)[i]
        w = np.stack([p(s) for p in polynomials], 1)
        return w[:, :1] * Z[i] + np.einsum("kj,kjn->kn", w[:, 1:], C[i])

    return solver, {"x0": guess, "lbg": 0, "ubg": 0}, states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small batch, two first states")
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    options = parser.parse_args()
    results = [measure(case, options.quick) for case in (neural_case(), gaussian_case())]
    record = {
        "what": "CPU seconds per solve, one core, best of three warm runs",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "results": results,
    }
    text = json.dumps(record, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
