"""Power series of a definition against Cauchy's integral over the text, and what has no series.

With all weights scaled by h the layer is a power series in h; its coefficients are read off the
text, run on arrays at complex h, and compared with the homogeneous parts of the expansion.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression
from derive.calculus.limit.series import Expansion
from derive.methods.covariance_sde.block import laws
from derive.notation import Refusal
from derive.notation.common import numeric
from derive.notation.common.functions import (
    cos,
    exp,
    eye,
    gaussian,
    log,
    relu,
    sigmoid,
    softmax,
    sqrt,
    tanh,
)
from derive.notation.common.scalars import dims, params
from derive.notation.layers.model import Model, covariance_sde, trace

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
tau_0, a_0 = params("tau_0: positive", "a_0: positive")

SIZES = {"m": 3.0, "n": 4.0, "n_k": 2.0}
VALUES = {"tau_0": 0.7, "a_0": 0.9}


def logits(X):  # type: ignore[no-untyped-def]
    W_Q, W_K = gaussian(n, n_k), gaussian(n, n_k)
    return (X @ W_Q) @ (X @ W_K).T / (n * tau_0 * sqrt(n * n_k))


def model(function: Callable[..., object]) -> Model:
    return covariance_sde(state="X[m, n]", width=n)(function)


def with_softmax(X):  # type: ignore[no-untyped-def]
    return X + softmax(logits(X)) @ X


def with_tanh(X):  # type: ignore[no-untyped-def]
    return X + tanh(logits(X)) @ X


def with_sigmoid(X):  # type: ignore[no-untyped-def]
    return X + sigmoid(2 * logits(X)) @ X


def with_exp(X):  # type: ignore[no-untyped-def]
    return X + exp(logits(X)) @ X


def with_cos(X):  # type: ignore[no-untyped-def]
    return X + cos(logits(X)) @ X


def with_reciprocal(X):  # type: ignore[no-untyped-def]
    return X + (1 / (2 + logits(X))) @ X


def with_power_and_log(X):  # type: ignore[no-untyped-def]
    Y = logits(X)
    return X + (sqrt(1 + Y) * log(3 + Y)) @ X


def with_sigmoid_rows(X):  # type: ignore[no-untyped-def]
    f = sigmoid(logits(X))
    return X + (f / f.sum(-1, keepdims=True)) @ X


def with_polynomial_rows(X):  # type: ignore[no-untyped-def]
    Y = logits(X)
    f = 2 + Y + 3 * Y**2
    return X + (f / f.sum(-1, keepdims=True)) @ X


def with_columns(X):  # type: ignore[no-untyped-def]
    f = exp(logits(X))
    return X + (f / f.sum(0, keepdims=True)) @ X


def with_shaped_units(X):  # type: ignore[no-untyped-def]
    s = a_0 * sqrt(n)
    return X + s * tanh(X @ gaussian(n, n) / sqrt(n) / s)


SERIES = [value for name, value in list(globals().items()) if name.startswith("with_")]


def part(expression: Expression, degree: int) -> Expression:
    def rule(c, f):  # type: ignore[no-untyped-def]
        return [(c, f)] if sum(x.tensor.kind == "gaussian" for x in f) == degree else []

    return expression.map_terms(rule)


def coefficients(definition: Model, state: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Coefficients of h^0 ... h^31 of the layer with weights h W, by Cauchy's integral."""
    points, radius = 32, 0.25
    angles = np.exp(2j * np.pi * np.arange(points) / points)
    values = [
        numeric.run(
            definition.function,
            state.astype(complex),
            dims=SIZES,
            params=VALUES,
            weights=[radius * z * w for w in weights],
        )
        for z in angles
    ]
    series = np.fft.fft(np.array(values), axis=0) / points
    assert np.abs(series[-2:]).max() < 1e-13
    return series.real / radius ** np.arange(points)[:, None, None]


def expanded(definition: Model, reach: int) -> tuple[Expression, list[str]]:
    traced = trace(definition)
    law, weights = laws(traced)
    return Expansion(law, weights, reach).of(traced.output), [t.name for t in law.gaussian]


@pytest.mark.parametrize("function", SERIES, ids=lambda f: f.__name__)
def test_series_equals_cauchys_integral(function: Callable[..., object]) -> None:
    definition = model(function)
    shaped = function is with_shaped_units
    layer, names = expanded(definition, 3)
    rng = np.random.default_rng(4)
    state = rng.standard_normal((3, 4))
    shapes = [(4, 4)] if shaped else [(4, 2), (4, 2)]
    weights = [rng.standard_normal(shape) for shape in shapes]
    truth = coefficients(definition, state, weights)
    arrays = {"X": state, **dict(zip(names, weights, strict=True))}
    numbers = {d: SIZES[d.name] for d in definition.dims}
    numbers |= {p: VALUES[p.name] for p in definition.params}
    # orders: logits are eps, degree 2; a shaped unit gains eps^2 for two more degrees
    for degree in (0, 1, 2, 3) if shaped else (0, 2, 4):
        ours = evaluate(part(layer, degree), arrays, numbers)
        scale = max(1.0, np.abs(truth[degree]).max())
        np.testing.assert_allclose(ours, truth[degree], atol=1e-9 * scale)
    assert np.abs(truth[1:5]).max() > 1e-3


def line_of(function: Callable[..., object]) -> int:
    return function.__code__.co_firstlineno + 1


def relu_at_zero(X):  # type: ignore[no-untyped-def]
    return X + relu(logits(X)) @ X


def log_at_zero(X):  # type: ignore[no-untyped-def]
    return X + log(logits(X)) @ X


def root_at_zero(X):  # type: ignore[no-untyped-def]
    return X + sqrt(logits(X)) @ X


def pole_at_zero(X):  # type: ignore[no-untyped-def]
    return X + (1 / logits(X)) @ X


def argument_of_order_one(X):  # type: ignore[no-untyped-def]
    return X + tanh(sqrt(n) * logits(X)) @ X


def argument_that_grows(X):  # type: ignore[no-untyped-def]
    return X + tanh(n * logits(X)) @ X


def units_of_order_one(X):  # type: ignore[no-untyped-def]
    return X + tanh(X @ gaussian(n, n) / sqrt(n))


@pytest.mark.parametrize(
    "function, words",
    [
        (relu_at_zero, "with a kink is not normal in the limit .* while n_k stays bounded"),
        (log_at_zero, "log has no power series about 0"),
        (root_at_zero, "sqrt has no power series about 0"),
        (pole_at_zero, "reciprocal has no power series about 0"),
        (argument_of_order_one, "the argument of tanh is random and of order one"),
        (argument_that_grows, r"the argument of tanh is random and of order n\^1/2"),
        (units_of_order_one, "the argument of tanh is random and of order one"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_what_has_no_series_is_refused_with_its_name_and_line(
    function: Callable[..., object], words: str
) -> None:
    with pytest.raises(Refusal, match=words) as refused:
        expanded(model(function), 3)
    assert refused.value.place is not None
    assert refused.value.place.file == __file__
    assert refused.value.place.line == line_of(function)


def test_identity_is_not_mistaken_for_a_small_argument() -> None:
    def nothing(X):  # type: ignore[no-untyped-def]
        return (eye(m) + tanh(logits(X) - logits(X))) @ X

    layer, _ = expanded(model(nothing), 2)
    assert len(layer.terms) == 3  # X, and two logits with weights of their own
