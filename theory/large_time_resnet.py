"""A neural ODE trained by its last state alone, over a long time (Esteve, Geshkovski, Pighin, Zuazua, 2020, arXiv 2008.02491)."""

from derive.notation import dims, optimal_control, params, problem, squared_norm, tanh

N, d = dims("N: samples", "d: width")
lam = params("lam: positive, price of the control")


@optimal_control(state="x[N, d]", control="W[d, d], b[d]", data="goal[N, d]")
def large_time_resnet(x, W, b, goal):
    """x_i' = W tanh(x_i) + b, with the energy of the controls and the error of the last state."""
    error = squared_norm(x - goal) / (2 * N)
    energy = squared_norm(W) + squared_norm(b)
    return problem(dynamics=tanh(x) @ W.T + b, running=lam * energy, terminal=error)
