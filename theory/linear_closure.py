"""Linear self-attention, weight <Qx, Ky>, of a Gaussian law of tokens."""

from derive.notation import dims, gaussian_closure, integral, matrices

d, d_k = dims("d: token dimension", "d_k: key dimension")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))


@gaussian_closure(state="x[d]")
def linear_closure(x, y):
    return integral(V @ y, (Q @ x) @ (K @ y))
