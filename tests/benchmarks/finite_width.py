"""Weak error in the width of the shaped-ReLU MLP, with and without the derived correction.

    python tests/benchmarks/finite_width.py

E V_12 of two tokens, c_+ + c_- != 0: network by Monte Carlo with exact layer means and control
variates, SDEs by collocation (`tests/published/two_token_relu.py`), drifts as derived.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "published"))

import two_token_relu as relu
from test_finite_width_weak_error import derived_size
from two_token_relu import Case

RESULTS = Path(__file__).parent / "results" / "finite_width.json"
CASES = (Case(0.8, 0.0, -2.0, 0.2), Case(0.5**0.5, 0.0, -2.0, 0.0), Case(0.6, 0.5, -1.5, 0.4))
PATHS = {8: 2**16, 16: 2**16, 32: 2**16, 64: 2**15, 128: 2**14}
T = 0.5


def main() -> None:
    out: dict[str, object] = {
        "what": "error of E V_12 at t = 1/2, network against SDE; slopes of log error in log n",
        "versions": {"numpy": np.__version__},
    }
    for case in CASES:
        limit = relu.sde_mean(case, T, derived_size(case, None))
        rows = []
        for n, paths in PATHS.items():
            value = relu.network_mean(case, n, round(T * n), paths, seed=11)
            better = relu.sde_mean(case, T, derived_size(case, n))
            rows.append(
                {
                    "n": n,
                    "limit": round(value.mean - limit, 5),
                    "with the correction": round(value.mean - better, 5),
                    "standard error": round(value.error, 5),
                }
            )
        widths = np.log([r["n"] for r in rows])
        slopes = {
            k: round(float(np.polyfit(widths, np.log(np.abs([r[k] for r in rows])), 1)[0]), 3)
            for k in ("limit", "with the correction")
        }
        name = ", ".join(f"{k} = {v:.4g}" for k, v in case._asdict().items())
        out[name] = {"errors": rows, "slopes": slopes}
        print(name, json.dumps(out[name]), flush=True)
    RESULTS.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
