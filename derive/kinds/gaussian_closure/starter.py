"""A definition to start from; NAME stands for its name."""

STARTER = '''"""NAME: say here in one line what the model is."""

from derive.notation import average, dims, exp, gaussian_closure, matrices

d, d_k = dims("d: token dimension", "d_k: key dimension")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))


@gaussian_closure(state="x[d]")
def NAME(x, y):
    """Velocity of a token x, the other tokens y being Gaussian: average(value, weight)."""
    return average(V @ y, exp((Q @ x) @ (K @ y)))
'''
