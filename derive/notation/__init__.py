"""The words in which a definition is written.

>>> from derive.notation import covariance_sde, dims, eye, gaussian, params, softmax, sqrt
"""

from sympy import Rational, pi

from derive.errors import DefinitionError, Refusal
from derive.notation.control import (
    box,
    inner,
    l1_ball,
    l1_norm,
    l2_ball,
    l2_norm,
    optimal_control,
    problem,
    project,
    squared_norm,
    trace,
)
from derive.notation.functions import (
    cos,
    erf,
    exp,
    eye,
    gaussian,
    log,
    ones,
    relu,
    sigmoid,
    sin,
    softmax,
    sqrt,
    tanh,
)
from derive.notation.model import Model, covariance_sde
from derive.notation.scalars import dims, params

__all__ = [
    "DefinitionError",
    "Model",
    "Rational",
    "Refusal",
    "box",
    "cos",
    "covariance_sde",
    "dims",
    "erf",
    "exp",
    "eye",
    "gaussian",
    "inner",
    "l1_ball",
    "l1_norm",
    "l2_ball",
    "l2_norm",
    "log",
    "ones",
    "optimal_control",
    "params",
    "pi",
    "problem",
    "project",
    "relu",
    "sigmoid",
    "sin",
    "softmax",
    "sqrt",
    "squared_norm",
    "tanh",
    "trace",
]
