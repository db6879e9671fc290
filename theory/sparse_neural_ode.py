"""Sparse controls of a neural ODE and their stopping time (Esteve-Yague and Geshkovski, 2023, arXiv 2102.13566)."""

from derive.notation import (
    dims,
    l1_ball,
    l1_norm,
    optimal_control,
    params,
    problem,
    relu,
    squared_norm,
)

N, d = dims("N: samples", "d: width")
lam, M = params("lam: positive, price of the control", "M: positive, bound of the control")


@optimal_control(state="x[N, d]", control="W[d, d], b[d]", data="goal[N, d]")
def sparse_neural_ode(x, W, b, goal):
    """x_i' = W relu(x_i) + b, the error integrated over time, |W|_1 + |b|_1 priced and bounded."""
    error = squared_norm(x - goal) / (2 * N)
    return problem(
        dynamics=relu(x) @ W.T + b,
        running=error + lam * l1_norm(W, b),
        bounds=l1_ball(W, b, radius=M),
    )
