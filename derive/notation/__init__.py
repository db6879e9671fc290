"""The words in which a definition is written.

>>> from derive.notation import covariance_sde, dims, eye, gaussian, params, softmax, sqrt
"""

from sympy import Rational, pi

from derive.errors import DefinitionError, Refusal
from derive.notation.closure import (
    average,
    bistochastic,
    dot,
    gaussian_closure,
    integral,
    matrices,
    noise,
    sum_over,
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
    "average",
    "bistochastic",
    "cos",
    "covariance_sde",
    "dims",
    "dot",
    "erf",
    "exp",
    "eye",
    "gaussian",
    "gaussian_closure",
    "integral",
    "log",
    "matrices",
    "noise",
    "ones",
    "params",
    "pi",
    "relu",
    "sigmoid",
    "sin",
    "softmax",
    "sqrt",
    "sum_over",
    "tanh",
]
