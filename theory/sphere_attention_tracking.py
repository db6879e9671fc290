"""Tracking with softmax self-attention on the sphere: normalised tokens, the value matrix as control."""

from derive.notation import (
    dims,
    optimal_control,
    params,
    particle_velocity,
    problem,
    project,
    squared_norm,
)
from derive.theory.bilinear_softmax_closure import bilinear_softmax_closure as attention

n, d = dims("n: tokens", "d: width")
alpha, beta = params("alpha: positive, weight of tracking", "beta: positive, weight of control")


@optimal_control(
    state="x[n, d] on sphere", control="V[d, d]", data="A[d, d], goal[n, d], V_ref[d, d]"
)
def sphere_attention_tracking(x, V, A, goal, V_ref):
    """n tokens that move on the sphere with the tangent part of softmax attention, steered by V."""
    velocity = project(x, particle_velocity(attention, x, A=A, V=V))
    tracking = alpha / (2 * n) * squared_norm(x - goal)
    effort = beta / 2 * squared_norm(V - V_ref)
    return problem(dynamics=velocity, running=tracking + effort)
