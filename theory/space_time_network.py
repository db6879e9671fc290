"""A network that is continuous in depth and in width: a field on [0, 1] (Esteve, Geshkovski, Pighin, Zuazua, 2020, arXiv 2008.02491)."""

from derive.notation import dims, inner, optimal_control, params, problem, tanh

n = dims("n: nodes of the quadrature on [0, 1]")
alpha, beta = params("alpha: positive, weight of tracking", "beta: positive, weight of control")


@optimal_control(state="x[n]", control="w[n, n], b[n]", data="omega[n] positive, goal[n]")
def space_time_network(x, w, b, omega, goal):
    """x'(z) = integral of w(z, s) tanh(x(s)) ds + b(z), with quadrature weights omega.

    Integrals are sums over nodes with weights: inner(omega, f) is the integral of f.
    """
    rate = w @ (omega * tanh(x)) + b
    tracking = alpha / 2 * inner(omega, (x - goal) ** 2)
    effort = beta / 2 * (inner(omega, w**2 @ omega) + inner(omega, b**2))
    return problem(dynamics=rate, running=tracking + effort)
