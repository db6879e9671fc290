"""Self-attention on the sphere of which only the direction counts, as in normalised transformers."""

from derive.notation import average, dims, exp, params, sphere, sqrt, token_flow

d = dims("d: token dimension")
beta = params("beta: positive")


@token_flow(state="x[d]", on=sphere)
def direction_sphere_attention(x, y):
    a = average(y, exp(beta * (x @ y)))
    return a / sqrt(a @ a)
