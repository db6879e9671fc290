"""L2 self-attention, weight exp(-|Qx - Ky|^2), of a Gaussian law (arXiv 2501.18322)."""

from derive.notation import average, dims, exp, gaussian_closure, matrices

d, d_k = dims("d: token dimension", "d_k: key dimension")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))


@gaussian_closure(state="x[d]")
def l2_closure(x, y):
    gap = Q @ x - K @ y
    return average(V @ y, exp(-(gap @ gap)))
