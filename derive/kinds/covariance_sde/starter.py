"""A definition to start from; NAME stands for its name."""

STARTER = '''"""NAME: say here in one line what the model is."""

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
