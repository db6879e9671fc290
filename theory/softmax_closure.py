"""Softmax self-attention of a Gaussian law of tokens (Castin et al., 2025, arXiv 2501.18322)."""

from derive.notation import average, dims, exp, gaussian_closure, matrices

d, d_k = dims("d: token dimension", "d_k: key dimension")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))


@gaussian_closure(state="x[d]")
def softmax_closure(x, y):
    return average(V @ y, exp((Q @ x) @ (K @ y)))
