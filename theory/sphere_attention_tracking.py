"""Tracking with softmax self-attention on the sphere: normalised tokens, the value matrix as control."""

from derive.notation import dims, optimal_control, params, problem, project, softmax, squared_norm

n, d = dims("n: tokens", "d: width")
alpha, beta = params("alpha: positive, weight of tracking", "beta: positive, weight of control")


@optimal_control(
    state="x[n, d] on sphere", control="V[d, d]", data="A[d, d], goal[n, d], V_ref[d, d]"
)
def sphere_attention_tracking(x, V, A, goal, V_ref):
    """x_i' = P_{x_i} V m_i, with m_i the mean of the tokens under softmax_j <A x_i, x_j>."""
    w = softmax(x @ A.T @ x.T)
    m = w @ x
    tracking = alpha / (2 * n) * squared_norm(x - goal)
    effort = beta / 2 * squared_norm(V - V_ref)
    return problem(dynamics=project(x, m @ V.T), running=tracking + effort)
