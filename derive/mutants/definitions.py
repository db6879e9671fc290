"""Definitions on which rules are broken that no registered model would show to be broken.

Each is the text of a file, as a user would write it, by the name of its model.
"""

from __future__ import annotations

TEXTS = {
    "unnormalised_closure": '''"""L2 attention that nothing divides: its tilt has a determinant."""

from derive.notation import dims, exp, gaussian_closure, integral, matrices

d, d_k = dims("d: token dimension", "d_k: key dimension")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))


@gaussian_closure(state="x[d]")
def unnormalised_closure(x, y):
    away = Q @ x - K @ y
    return integral(V @ y, exp(-away @ away))
''',
    "ending_tracking": '''"""A state that is steered, and pays for where it ends."""

from derive.notation import dims, optimal_control, params, problem, sin, squared_norm, tanh

d = dims("d: width")
beta, kappa = params("beta: in (1/2, 2)", "kappa: in (1/2, 2)")


@optimal_control(state="x[d]", control="u[d]", data="goal[d]")
def ending_tracking(x, u, goal):
    away = squared_norm(x - goal) / 2
    return problem(
        dynamics=tanh(x) + u,
        running=away + beta / 2 * squared_norm(u),
        terminal=kappa * away + sin(x).sum() / 2,
    )
''',
}
