"""Softmax self-attention, weight exp(<A x, y>) with A = K^T Q in one piece, of a Gaussian law of tokens."""

from derive.notation import average, dims, exp, gaussian_closure, matrices

d = dims("d: token dimension")
A, V = matrices(A=(d, d), V=(d, d))


@gaussian_closure(state="x[d]")
def bilinear_softmax_closure(x, y):
    return average(V @ y, exp((A @ x) @ y))
