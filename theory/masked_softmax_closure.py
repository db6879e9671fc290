"""Causal softmax self-attention: a token at position s sees the tokens at tau <= s."""

from derive.notation import average, dims, exp, gaussian_closure, matrices

d, d_k = dims("d: token dimension", "d_k: key dimension")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))


@gaussian_closure(state="x[d]")
def masked_softmax_closure(x, y, s, tau):
    return average(V @ y, exp((Q @ x) @ (K @ y)) * (tau <= s))
