"""Self-attention on the sphere, softmax weights exp(beta <x, y>) (Geshkovski et al., arXiv 2312.10794)."""

from derive.notation import average, dims, exp, params, sphere, token_flow

d = dims("d: token dimension")
beta = params("beta: positive")


@token_flow(state="x[d]", on=sphere)
def sphere_attention(x, y):
    return average(y, exp(beta * (x @ y)))
