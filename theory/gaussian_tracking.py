"""Steering the covariance of a Gaussian under softmax self-attention, with the values or the queries as control."""

from derive.notation import covariance_rate, dims, optimal_control, params, problem, squared_norm
from derive.theory.bilinear_softmax_closure import bilinear_softmax_closure as attention

d = dims("d: width")
alpha, beta = params("alpha: positive, weight of tracking", "beta: positive, weight of control")


@optimal_control(
    state="S[d, d] symmetric",
    control="V[d, d]",
    data="A[d, d], goal[d, d] symmetric, V_ref[d, d]",
)
def gaussian_tracking(S, V, A, goal, V_ref):
    """The covariance of a Gaussian law of tokens under softmax attention, steered by the value matrix V."""
    running = alpha / 2 * squared_norm(S - goal) + beta / 2 * squared_norm(V - V_ref)
    return problem(dynamics=covariance_rate(attention, S, A=A, V=V), running=running)


@optimal_control(
    state="S[d, d] symmetric",
    control="A[d, d]",
    data="V[d, d], goal[d, d] symmetric, A_ref[d, d]",
)
def gaussian_query_tracking(S, A, V, goal, A_ref):
    """The covariance of a Gaussian law of tokens, steered by the product A of keys and queries."""
    running = alpha / 2 * squared_norm(S - goal) + beta / 2 * squared_norm(A - A_ref)
    return problem(dynamics=covariance_rate(attention, S, A=A, V=V), running=running)
