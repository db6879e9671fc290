"""Causal linear self-attention: the average of <Qx, Ky> Vy over the tokens at tau <= s."""

from derive.notation import average, dims, gaussian_closure, matrices

d, d_k = dims("d: token dimension", "d_k: key dimension")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))


@gaussian_closure(state="x[d]")
def causal_linear_closure(x, y, s, tau):
    return average(((Q @ x) @ (K @ y)) * (V @ y), tau <= s)
