"""Sigmoid self-attention, weight sigmoid(<Qx, Ky> + bias), of a Gaussian law of tokens."""

from derive.notation import dims, gaussian_closure, integral, matrices, params, sigmoid

d, d_k = dims("d: token dimension", "d_k: key dimension")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))
bias = params("bias: real")


@gaussian_closure(state="x[d]")
def sigmoid_closure(x, y):
    return integral(V @ y, sigmoid((Q @ x) @ (K @ y) + bias))
