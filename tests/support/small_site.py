"""A definition of one's own for the site that tests read."""

OWN = '''"""Tokens < one another."""
from derive.notation import *

d = dims("d: dimension")


@token_flow(state="x[d]", on=sphere)
def own(x, y):
    return average(y, exp(x @ y))
'''
