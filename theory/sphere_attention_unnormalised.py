"""Self-attention on the sphere without a normaliser (Geshkovski et al., arXiv 2312.10794)."""

from derive.notation import dims, exp, integral, params, sphere, token_flow

d = dims("d: token dimension")
beta = params("beta: positive")


@token_flow(state="x[d]", on=sphere)
def sphere_attention_unnormalised(x, y):
    return integral(y, exp(beta * (x @ y)))
