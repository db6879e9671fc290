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
    "centred_scores": '''"""Tokens less their mean, in scores and in a function of products."""

from derive.notation import covariance_sde, dims, eye, gaussian, params, sqrt, tanh

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma = params("gamma: in (0, 1)")


@covariance_sde(state="X[m, n]", width=n)
def centred_scores(X):
    U = X - X.mean(-1, keepdims=True)
    scores = (U @ gaussian(n, n_k)) @ (U @ gaussian(n, n_k)).T / (n * sqrt(n * n_k))
    A = eye(m) + scores + tanh(U @ U.T / n) / n
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ gaussian(n, n) / sqrt(n)
''',
}
