"""Starter definitions, one for each method; each derives as it stands."""

from __future__ import annotations

COVARIANCE_SDE = '''"""NAME: say here in one line what the model is."""

from derive.notation import covariance_sde, dims, eye, gaussian, params, softmax, sqrt

# "name: meaning"; add ", fixed" or ", proportional to the width" where the limit depends on it.
m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
# "name: range"; numbers in the text are exact: Rational(1, 2), never 0.5.
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")


@covariance_sde(state="X[m, n]", width=n)
def NAME(X):
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)  # fresh in every layer
    logits = (X @ W_Q) @ (X @ W_K).T / n
    A = eye(m) + softmax(logits / (tau_0 * sqrt(n * n_k))) - 1 / m
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)
'''

GAUSSIAN_CLOSURE = '''"""NAME: say here in one line what the model is."""

from derive.notation import average, dims, exp, gaussian_closure, matrices

d, d_k = dims("d: token dimension", "d_k: key dimension")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))


@gaussian_closure(state="x[d]")
def NAME(x, y):
    """Velocity of a token x, the other tokens y being Gaussian: average(value, weight)."""
    return average(V @ y, exp((Q @ x) @ (K @ y)))
'''

OPTIMAL_CONTROL = '''"""NAME: say here in one line what the model is."""

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

STARTERS = {
    "covariance_sde": COVARIANCE_SDE,
    "gaussian_closure": GAUSSIAN_CLOSURE,
    "optimal_control": OPTIMAL_CONTROL,
}
