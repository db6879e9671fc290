"""Multi-head softmax self-attention of a Gaussian law of tokens (arXiv 2501.18322)."""

from derive.notation import average, dims, exp, gaussian_closure, matrices, sum_over

H, d, d_k, d_v = dims("H: heads", "d: token dimension", "d_k: key dimension", "d_v: head width")
Q, K, V, W = matrices(Q=(H, d_k, d), K=(H, d_k, d), V=(H, d_v, d), W=(H, d_v, d))


@gaussian_closure(state="x[d]")
def multihead_softmax_closure(x, y):
    def head(h):
        return W[h].T @ average(V[h] @ y, exp((Q[h] @ x) @ (K[h] @ y)))

    return sum_over(H, head)
