"""Multi-head softmax self-attention with queries, keys and values, on the sphere."""

from derive.notation import average, dims, exp, matrices, sphere, sum_over, token_flow

H, d, d_k, d_v = dims("H: heads", "d: token dimension", "d_k: key width", "d_v: head width")
Q, K, V, W = matrices(Q=(H, d_k, d), K=(H, d_k, d), V=(H, d_v, d), W=(H, d_v, d))


@token_flow(state="x[d]", on=sphere)
def multihead_sphere_attention(x, y):
    def head(h):
        return W[h].T @ average(V[h] @ y, exp((Q[h] @ x) @ (K[h] @ y)))

    return sum_over(H, head)
