"""Tracking with a neural ODE whose controls are shared by all samples (Geshkovski and Zuazua, 2022, arXiv 2202.04097)."""

from derive.notation import dims, optimal_control, params, problem, squared_norm, tanh

N, d = dims("N: samples", "d: width")
alpha, beta = params("alpha: positive, weight of tracking", "beta: positive, weight of control")


@optimal_control(state="x[N, d]", control="W[d, d], b[d]", data="goal[N, d], W_ref[d, d]")
def neural_ode_tracking(x, W, b, goal, W_ref):
    """x_i' = W tanh(x_i) + b, every sample steered towards its goal."""
    s = tanh(x)
    tracking = alpha / (2 * N) * squared_norm(x - goal)
    effort = beta / 2 * (squared_norm(W - W_ref) + squared_norm(b))
    return problem(dynamics=s @ W.T + b, running=tracking + effort)
