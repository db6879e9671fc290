"""The words in which a definition is written.

>>> from derive.notation import covariance_sde, dims, eye, gaussian, params, softmax, sqrt
"""

from sympy import Rational, pi

from derive.errors import DefinitionError, Refusal
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
    "cos",
    "covariance_sde",
    "dims",
    "erf",
    "exp",
    "eye",
    "gaussian",
    "log",
    "ones",
    "params",
    "pi",
    "relu",
    "sigmoid",
    "sin",
    "softmax",
    "sqrt",
    "tanh",
]
