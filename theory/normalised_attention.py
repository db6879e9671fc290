"""Attention to directions with the norm free, by scheme of normalisation: pre, peri, square root.

`pre` adds the attention as it is, `peri` its direction, `root` divides it by the root of the norm.
"""

from derive.notation import average, dims, exp, option, params, sqrt, token_flow

d = dims("d: token dimension")
beta = params("beta: positive")


def unit(v):
    return v / sqrt(v @ v)


scheme = option(
    "scheme",
    pre=lambda x, a: a,
    peri=lambda x, a: unit(a),
    root=lambda x, a: a / sqrt(sqrt(x @ x)),
)


@token_flow(state="x[d]")
def normalised_attention(x, y):
    return scheme(x, average(unit(y), exp(beta * (unit(x) @ unit(y)))))
