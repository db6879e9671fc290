"""Causal self-attention on the sphere: a token sees itself and those before it."""

from derive.notation import average, dims, exp, params, sphere, token_flow

d = dims("d: token dimension")
beta = params("beta: positive")


@token_flow(state="x[d]", on=sphere)
def causal_sphere_attention(x, y, s, tau):
    return average(y, exp(beta * (x @ y)) * (tau <= s))
