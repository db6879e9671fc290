"""Limiting rank of softmax attention on Gaussian laws: adaptive solver beside clipped Euler.

    python tests/benchmarks/limiting_rank.py [--draws 100] [--out FILE.json]

The experiment of Castin, Ablin, Carrillo, Peyre (arXiv 2501.18322): dimensions 3, 4, 5; Q normal of
shape (d // 2, d), K = -Q, V = I, mean 0, S_0 = G G^T.  By the closed form the limit has rank
dim ker Q = 2, 2, 3.

- `solve`: an eigenvalue of S counts as lost when the slope of log eigenvalue against log t, between
  T and 10 T, is below -1/2 (lost ones fall like 1 / t; kept ones, however small, do not move).
- `euler`: the usual shortcut on the same draws: explicit Euler on S, negative eigenvalues clipped,
  stopped when |dS/dt| < tolerance, rank = number of eigenvalues above 0.1.  What that threshold
  alone does to the true limits is `closed_form_above_tenth`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

for _folder in ("support", "published"):
    sys.path.insert(0, str(Path(__file__).parents[1] / _folder))

import closures  # noqa: E402

T = 1e9
STEP, CLIP, STOP, LIMIT = 0.1, 1e-14, 1e-5, 100_000


def draws(d: int, count: int, seed: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Q (count, d // 2, d) and S_0 (count, d, d)."""
    rng = np.random.default_rng((seed, d))
    Q = rng.normal(size=(count, d // 2, d))
    G = rng.normal(size=(count, d, d))
    return Q, G @ np.swapaxes(G, -1, -2)


def slopes(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """d log eigenvalue / d log t between T and 10 T; factors (..., d, d) at the two times."""
    a, b = (np.linalg.svd(F, compute_uv=False) ** 2 for F in (first, last))
    return np.log10(b / a)


def solved_ranks(Q: np.ndarray, S0: np.ndarray, solve: Any, params: type) -> np.ndarray:
    d = S0.shape[-1]
    out = solve(np.zeros(d), S0, params(Q, -Q, np.eye(d)), t1=10 * T, saves=[T, 10 * T])
    lost = slopes(out.factor[:, 0], out.factor[:, 1]) < -0.5
    return d - lost.sum(axis=-1)


def above_tenth(Q: np.ndarray, S0: np.ndarray) -> np.ndarray:
    """What the threshold alone makes of the true limits."""
    limits = [closures.limit(S, -q.T @ q) for q, S in zip(Q, S0, strict=True)]
    return (np.linalg.eigvalsh(np.stack(limits)) > 0.1).sum(axis=-1)


def euler_ranks(Q: np.ndarray, S0: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ranks, which draws stopped of their own accord, and which left the cone at the first step."""
    d = S0.shape[-1]
    A = -np.swapaxes(Q, -1, -2) @ Q / np.sqrt(d)
    S, alive = S0.copy(), np.ones(len(S0), bool)
    left = np.zeros(len(S0), bool)
    for number in range(LIMIT):
        half = S[alive] @ A[alive] @ S[alive]
        rate = half + np.swapaxes(half, -1, -2)
        values, vectors = np.linalg.eigh(S[alive] + STEP * rate)
        if number == 0:
            left = values[:, 0] < -1e-9
        clipped = np.maximum(values, CLIP)
        S[alive] = (vectors * clipped[:, None, :]) @ np.swapaxes(vectors, -1, -2)
        moving = np.linalg.norm(rate, axis=(-1, -2)) >= STOP
        alive[np.flatnonzero(alive)[~moving]] = False
        if not alive.any():
            break
    return (np.linalg.eigvalsh(S) > 0.1).sum(axis=-1), ~alive, left


def experiment(solve: Any, params: type, count: int = 100, dims: Any = (3, 4, 5)) -> dict[str, Any]:
    """Counts of runs by rank; `solve(mean0, cov0, params, *, t1, saves)` of a softmax closure."""
    rows = {}
    for d in dims:
        Q, S0 = draws(d, count)
        start = time.perf_counter()
        ours = solved_ranks(Q, S0, solve, params)
        spent = time.perf_counter() - start
        ranks, settled, left = euler_ranks(Q, S0)
        rows[str(d)] = {
            "closed_form_rank": d - d // 2,
            "closed_form_above_tenth": counts(above_tenth(Q, S0)),
            "solve": counts(ours),
            "solve_right": float(np.mean(ours == d - d // 2)),
            "solve_seconds": round(spent, 2),
            "euler": counts(ranks),
            "euler_right": float(np.mean(ranks == d - d // 2)),
            "euler_stopped": int(settled.sum()),
            "euler_first_step_leaves_the_cone": int(left.sum()),
        }
    return rows


def counts(ranks: np.ndarray) -> dict[str, int]:
    return {str(k): int(n) for k, n in sorted(Counter(ranks.tolist()).items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    from attention_models import Params, softmax

    from derive.runtime.closures.entry import solve

    rows = experiment(lambda *a, **k: solve(softmax, *a, **k), Params, args.draws)
    result = {
        "T": T,
        "euler": {"step": STEP, "clip": CLIP, "stop": STOP, "limit": LIMIT, "A": "K^T Q / sqrt d"},
        "dims": rows,
    }
    text = json.dumps(result, indent=1)
    print(text)
    path = args.out / "limiting_rank.json" if args.out.is_dir() else args.out
    path.write_text(text + "\n")


if __name__ == "__main__":
    main()
