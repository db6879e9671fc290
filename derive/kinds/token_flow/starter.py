"""A definition to start from; NAME stands for its name."""

STARTER = '''"""NAME: say here in one line what the model is."""

from derive.notation import average, dims, exp, params, sphere, token_flow

d = dims("d: token dimension")
beta = params("beta: positive")


@token_flow(state="x[d]", on=sphere)
def NAME(x, y):
    """Velocity of a token x among all tokens y, tangent to the sphere: average(value, weight)."""
    return average(y, exp(beta * (x @ y)))
'''
