"""Softmax self-attention in R^d with queries, keys and values (Geshkovski et al., arXiv 2305.05465)."""

from derive.notation import average, dims, exp, matrices, token_flow

d, d_k = dims("d: token dimension", "d_k: key width")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))


@token_flow(state="x[d]")
def euclidean_attention(x, y):
    return average(V @ y, exp((Q @ x) @ (K @ y)))
