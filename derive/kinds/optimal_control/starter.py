"""A definition to start from; NAME stands for its name."""

STARTER = '''"""NAME: say here in one line what the model is."""

from derive.notation import dims, optimal_control, params, problem, squared_norm, tanh

N, d = dims("N: tokens", "d: width")
alpha, beta = params("alpha: positive, weight of tracking", "beta: positive, weight of control")


@optimal_control(state="x[N, d]", control="W[d, d]", data="goal[N, d], W_ref[d, d]")
def NAME(x, W, goal, W_ref):
    """x_i' = W tanh(x_i), every token steered towards its goal; W_ref is free of charge."""
    tracking = alpha / (2 * N) * squared_norm(x - goal)
    effort = beta / 2 * squared_norm(W - W_ref)
    return problem(dynamics=tanh(x) @ W.T, running=tracking + effort)
'''
