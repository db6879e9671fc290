"""Tracking with softmax self-attention: tokens as particles, the value matrix as control."""

from derive.notation import dims, optimal_control, params, particle_velocity, problem, squared_norm
from derive.theory.bilinear_softmax_closure import bilinear_softmax_closure as attention

n, d = dims("n: tokens", "d: width")
alpha, beta = params("alpha: positive, weight of tracking", "beta: positive, weight of control")


@optimal_control(state="x[n, d]", control="V[d, d]", data="A[d, d], goal[n, d], V_ref[d, d]")
def attention_tracking(x, V, A, goal, V_ref):
    """n tokens that move with softmax attention, every token steered towards its goal by V."""
    tracking = alpha / (2 * n) * squared_norm(x - goal)
    effort = beta / 2 * squared_norm(V - V_ref)
    return problem(dynamics=particle_velocity(attention, x, A=A, V=V), running=tracking + effort)
