"""Linear attention in R^d, the mean of <Q x, K y> V y over all tokens: tokens may go to infinity."""

from derive.notation import dims, integral, matrices, token_flow

d, d_k = dims("d: token dimension", "d_k: key width")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))


@token_flow(state="x[d]")
def euclidean_linear_attention(x, y):
    return integral(V @ y, (Q @ x) @ (K @ y))
