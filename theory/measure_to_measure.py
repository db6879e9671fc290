"""Attention with values V and a feed-forward layer on the sphere, whose parameters steer whole laws of tokens (arXiv 2411.04551)."""

from derive.notation import average, dims, exp, matrices, relu, sphere, token_flow

d, w = dims("d: token dimension", "w: width of the layer")
V, B, U, W, b = matrices(V=(d, d), B=(d, d), U=(w, d), W=(d, w), b=(w,))


@token_flow(state="x[d]", on=sphere)
def measure_to_measure(x, y):
    return V @ average(y, exp((B @ x) @ y)) + W @ relu(U @ x + b)
