"""Particle systems against their closures: relative error by number of tokens.

    python tests/benchmarks/particle_convergence.py [--out FOLDER]

- `closures`: root mean square over many systems of the relative error of mean and covariance at
  time 1, d = 3, and its slope in log N with a standard error; -1/2 is the law of large numbers.
  Sinkhorn stops at 1600 tokens, as each of its velocities is an iteration over all pairs.
- `one_step`: covariance rate of one softmax step, S = I, A = a I, V = I, d = 3: relative error of
  the trace, among the tokens themselves (`plain`) and with fresh keys drawn from the tilted law
  (`tilted`), beside the share of tokens that carry the weights.  The plain one stops following the
  closure where few tokens carry them, whatever the number of tokens; the tilted one does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import particle_laws as laws  # noqa: E402

SIZES = (200, 400, 800, 1600, 3200, 6400)
STRENGTHS = (0.25, 0.5, 0.7, 1.0, 1.5, 2.0)
CLOUDS = ((1000, 32), (4000, 16), (16000, 4))  # tokens, how many clouds
DECIMALS = 4


def convergence(model: str) -> dict[str, Any]:
    sizes = [n for n in SIZES if n <= 1600 or model != "sinkhorn_closure"]
    table = {n: laws.errors(model, n, laws.replicas(n)) for n in sizes}
    slope = laws.slope(table)
    sizes_found = {str(n): laws.rms(found)[0] for n, found in table.items()}
    return {
        "mean": {n: round(float(v[0]), DECIMALS) for n, v in sizes_found.items()},
        "covariance": {n: round(float(v[1]), DECIMALS) for n, v in sizes_found.items()},
        "slope_of_mean": [round(float(z[0]), 3) for z in slope],
        "slope_of_covariance": [round(float(z[1]), 3) for z in slope],
    }


def one_step(a: float) -> dict[str, Any]:
    """With S = I, A = a I, V = I the closure's covariance rate is 2 a I."""
    A, exact = a * np.eye(laws.D), 2 * a * laws.D
    rows: dict[str, Any] = {}
    for count, clouds in CLOUDS:
        rng = np.random.default_rng((3, count))
        found = []
        for _ in range(clouds):
            x = rng.standard_normal((count, laws.D))
            x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
            rates = laws.plain_rate(x, A), laws.tilted_rate(x, A, rng)
            share = np.median(laws.effective_share(x, A))
            found.append([*(np.trace(r) / exact - 1 for r in rates), share])
        mean, spread = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
        rows[str(count)] = {
            "plain": [round(float(mean[0]), DECIMALS), round(float(spread[0]), DECIMALS)],
            "tilted": [round(float(mean[1]), DECIMALS), round(float(spread[1]), DECIMALS)],
            "median_share_of_tokens": round(float(mean[2]), DECIMALS),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "closures": {"what": "rms relative error by tokens; slopes: value, standard error"},
        "one_step": {"what": "relative error of the trace: mean over clouds, their spread"},
    }
    for a in STRENGTHS:
        result["one_step"][str(a)] = one_step(a)
        print(a, result["one_step"][str(a)], flush=True)
    for model in laws.MODELS:
        result["closures"][model] = convergence(model)
        print(model, result["closures"][model], flush=True)
    (args.out / "particle_convergence.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
