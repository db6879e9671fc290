"""Softmax self-attention in R^d whose matrices are numbers, all of it at d = 1 (arXiv 2305.05465)."""

from derive.notation import average, dims, exp, params, token_flow

d = dims("d: token dimension")
beta, v = params("beta: real, product of query and key", "v: real, the value")


@token_flow(state="x[d]")
def isotropic_attention(x, y):
    return average(v * y, exp(beta * (x @ y)))
