"""The words in which a definition is written stand here under one name.

>>> from derive.notation import covariance_sde, dims, eye, gaussian, params, softmax, sqrt
"""

from sympy import Rational, pi

from derive.errors import DefinitionError, Refusal
from derive.notation.closures.model import gaussian_closure
from derive.notation.closures.words import (
    average,
    bistochastic,
    dot,
    integral,
    matrices,
    noise,
    sum_over,
)
from derive.notation.common.functions import (
    arctan,
    concatenate,
    cos,
    erf,
    exp,
    eye,
    gaussian,
    gaussian_mean,
    gelu,
    log,
    ones,
    relu,
    sigmoid,
    silu,
    sin,
    softmax,
    sqrt,
    tanh,
)
from derive.notation.common.options import option
from derive.notation.common.patterns import causal, constant, pattern
from derive.notation.common.scalars import dims, params
from derive.notation.control.definition import optimal_control
from derive.notation.control.dynamics import covariance_rate, moment_rates, particle_velocity
from derive.notation.control.words import (
    box,
    inner,
    inverse,
    l1_ball,
    l1_norm,
    l2_ball,
    l2_norm,
    log_det,
    problem,
    project,
    squared_norm,
    trace,
)
from derive.notation.flows.model import space, sphere, token_flow
from derive.notation.layers.model import Model, covariance_sde

__all__ = [
    "DefinitionError",
    "Model",
    "Rational",
    "Refusal",
    "average",
    "bistochastic",
    "box",
    "causal",
    "concatenate",
    "constant",
    "cos",
    "covariance_rate",
    "covariance_sde",
    "dims",
    "dot",
    "arctan",
    "erf",
    "exp",
    "eye",
    "gaussian",
    "gaussian_closure",
    "gaussian_mean",
    "gelu",
    "inner",
    "integral",
    "inverse",
    "l1_ball",
    "l1_norm",
    "l2_ball",
    "l2_norm",
    "log",
    "log_det",
    "matrices",
    "moment_rates",
    "noise",
    "ones",
    "optimal_control",
    "option",
    "params",
    "particle_velocity",
    "pattern",
    "pi",
    "problem",
    "project",
    "relu",
    "sigmoid",
    "silu",
    "sin",
    "softmax",
    "space",
    "sphere",
    "sqrt",
    "squared_norm",
    "sum_over",
    "tanh",
    "token_flow",
    "trace",
]
