"""Sinkhorn self-attention: the bistochastic scaling of exp(<Qx, Ky>/eps) (arXiv 2501.18322)."""

from derive.notation import bistochastic, dims, exp, gaussian_closure, integral, matrices, params

d, d_k = dims("d: token dimension", "d_k: key dimension")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))
eps = params("eps: positive")


@gaussian_closure(state="x[d]")
def sinkhorn_closure(x, y):
    return integral(V @ y, bistochastic(exp((Q @ x) @ (K @ y) / eps))) / eps
