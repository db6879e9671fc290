"""Mean and covariance of a softmax closure, both steered: the system worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from derive.methods.optimal_control import instances
from derive.methods.optimal_control.derivation import derive
from derive.registry import entries, load

TEXT = """from derive.notation import *
from derive.theory.bilinear_softmax_closure import bilinear_softmax_closure as attention

d = dims("d: width")
alpha, beta = params("alpha: positive", "beta: positive")


@optimal_control(
    state="m[d], S[d, d] symmetric", control="{own}[d, d]",
    data="{other}[d, d], m_goal[d], S_goal[d, d] symmetric, ref[d, d]",
)
def steer(m, S, {own}, {other}, m_goal, S_goal, ref):
    tracking = alpha / 2 * (squared_norm(S - S_goal) + squared_norm(m - m_goal))
    return problem(
        dynamics=moment_rates(attention, m, S, A=A, V=V),
        running=tracking + beta / 2 * squared_norm({own} - ref),
    )
"""


@pytest.mark.parametrize("own", "VA")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_system_is_the_one_by_hand(own: str, seed: int, tmp_path: Path) -> None:
    file = tmp_path / "steer.py"
    file.write_text(TEXT.format(own=own, other="A" if own == "V" else "V"), encoding="utf-8")
    result = derive(load(entries(file)[0]))
    at = instances.point(result.model, seed)
    m, S, V, A, p, P, goal, S_goal, ref = (
        at.arrays[n] for n in ("m", "S", "V", "A", "p_m", "p_S", "m_goal", "S_goal", "ref")
    )
    alpha, beta, one = at.params["alpha"], at.params["beta"], np.eye(len(m))
    q = V.T @ p

    def both(M: np.ndarray) -> np.ndarray:
        return M + M.T

    mean_rate, cov_rate = V @ (one + S @ A) @ m, both(V @ S @ A @ S)
    p_rate = -(one + A.T @ S) @ q - alpha * (m - goal)
    P_rate = -alpha * (S - S_goal) - both(A @ S @ P @ V) - both(P @ V @ S @ A)
    P_rate = P_rate - both(np.outer(q, A @ m)) / 2
    if own == "V":
        pull = 2 * P @ S @ A.T @ S + np.outer(p, (one + S @ A) @ m)
    else:
        pull = 2 * S @ V.T @ P @ S + np.outer(S @ q, m)
    for name, expected in (
        ("state_rate", (mean_rate, cov_rate)),
        ("costate_rate", (p_rate, P_rate)),
        ("control_law", (ref - pull / beta,)),
    ):
        for found, wanted in zip(instances.evaluate(result, name, at), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-12 * (1 + np.abs(wanted).max()))
