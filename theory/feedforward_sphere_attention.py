"""Self-attention and a feed-forward layer on the sphere: x' = P_x (attention + W relu(U x + b))."""

from derive.notation import average, dims, exp, matrices, params, relu, sphere, token_flow

d, w = dims("d: token dimension", "w: width of the layer")
U, W, b = matrices(U=(w, d), W=(d, w), b=(w,))
beta = params("beta: positive")


@token_flow(state="x[d]", on=sphere)
def feedforward_sphere_attention(x, y):
    return average(y, exp(beta * (x @ y))) + W @ relu(U @ x + b)
