"""Linear self-attention on the sphere: every token pulls by its inner product."""

from derive.notation import dims, integral, sphere, token_flow

d = dims("d: token dimension")


@token_flow(state="x[d]", on=sphere)
def linear_sphere_attention(x, y):
    return integral(y, x @ y)
