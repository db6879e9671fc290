"""Tracking with softmax self-attention: tokens as particles, the value matrix as control."""

from derive.notation import dims, optimal_control, params, problem, softmax, squared_norm

n, d = dims("n: tokens", "d: width")
alpha, beta = params("alpha: positive, weight of tracking", "beta: positive, weight of control")


@optimal_control(state="x[n, d]", control="V[d, d]", data="A[d, d], goal[n, d], V_ref[d, d]")
def attention_tracking(x, V, A, goal, V_ref):
    """x_i' = V m_i with m_i the mean of the tokens under weights softmax_j <A x_i, x_j>."""
    w = softmax(x @ A.T @ x.T)
    m = w @ x
    tracking = alpha / (2 * n) * squared_norm(x - goal)
    effort = beta / 2 * squared_norm(V - V_ref)
    return problem(dynamics=m @ V.T, running=tracking + effort)
