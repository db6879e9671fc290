"""Tracking with a linear mean equation and an actuator: the linear-quadratic case."""

from derive.notation import dims, inner, optimal_control, problem

d, k = dims("d: size of the mean", "k: number of actuators")


@optimal_control(
    state="m[d]",
    control="u[k]",
    data="G[d, d], B[d, k], goal[d], Q_cost[d, d] symmetric, R_cost[k, k] symmetric, "
    "Q_end[d, d] symmetric, m_end[d]",
)
def mean_tracking(m, u, G, B, goal, Q_cost, R_cost, Q_end, m_end):
    """m' = G m + B u, steered towards a goal: the mean of a linear or frozen attention."""
    tracking = inner(m - goal, Q_cost @ (m - goal)) / 2
    effort = inner(u, R_cost @ u) / 2
    last = inner(m - m_end, Q_end @ (m - m_end)) / 2
    return problem(dynamics=G @ m + B @ u, running=tracking + effort, terminal=last)
