"""The second route finds drift and diffusion without the calculus, and notices a changed text."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from derivations import derivation

from derive.calculus.index.evaluate import evaluate
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common.batch import Batch
from derive.notation.common.functions import eye, gaussian, relu, softmax, sqrt
from derive.notation.common.scalars import dims, params
from derive.notation.layers.model import Model, covariance_sde
from derive.verify.covariance_sde.second_route import RouteError, gaussian_rule, second_route

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")

VALUES = {"gamma": 0.7, "tau_0": 0.6}
V0 = np.array([[1.3, 0.4], [0.4, 0.8]])


def shaped_attention() -> Model:
    path = Path(__file__).parents[3] / "theory" / "shaped_attention.py"
    spec = importlib.util.spec_from_file_location("shaped_attention_second_route", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.shaped_attention


@pytest.fixture(scope="module")
def sde() -> CovarianceSDE:
    return derivation("shaped_attention")


def numbers(sde: CovarianceSDE, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = {p: VALUES[p.name] for p in sde.model.params}
    values[sde.model.state_dims[0]] = float(len(V))
    arrays = {"V": V}
    return evaluate(sde.drift, arrays, values), evaluate(sde.diffusion, arrays, values)


def off(ours: tuple[np.ndarray, ...], theirs: tuple[np.ndarray, ...]) -> float:
    return max(
        float(np.abs(x - y).max() / np.abs(y).max()) for x, y in zip(ours, theirs, strict=True)
    )


def route(model: Model, V: np.ndarray = V0, **options):  # type: ignore[no-untyped-def]
    return second_route(model, VALUES, V, drift_degree=6, diffusion_degree=8, **options)


@pytest.mark.parametrize(
    "V, n_k, widths",
    [
        (V0, 1, (2, 3, 4, 5)),
        (V0, 2, (2, 3, 4)),
        (np.array([[1.0, 1.0], [1.0, 1.0]]), 1, (2, 3, 4, 5)),
        (np.array([[2.0, -1.0], [-1.0, 0.7]]), 1, (3, 4, 5, 6)),
        (np.array([[0.9]]), 2, (1, 2, 3, 4)),
    ],
    ids=["regular", "n_k = 2", "singular", "negative", "one token"],
)
def test_derived_shaped_attention_agrees(
    sde: CovarianceSDE, V: np.ndarray, n_k: int, widths: tuple[int, ...]
) -> None:
    drift, diffusion = route(sde.model, V, widths=widths, free={"n_k": n_k})
    ours = numbers(sde, V)
    np.testing.assert_allclose(drift, ours[0], atol=1e-9)
    np.testing.assert_allclose(diffusion, ours[1], atol=1e-9)


def layer(
    temperature: float = 1, sign: int = 1, skip: int = 1, centre: int = 1, second: int = 1
) -> Model:
    def text(X):  # type: ignore[no-untyped-def]
        W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
        logits = (X @ W_Q) @ (X @ W_K).T / n
        mixed = softmax(logits / (temperature * tau_0 * sqrt(n * n_k))) - centre / m
        if second == 0:
            mixed = mixed.T
        A = eye(m) + sign * mixed
        return sqrt(1 - gamma**2) * X * skip + gamma * A @ X @ W_V / sqrt(n)

    return covariance_sde(state="X[m, n]", width=n)(text)


def test_an_equivalent_text_agrees(sde: CovarianceSDE) -> None:
    assert off(route(layer(), widths=(2, 3, 4)), numbers(sde, V0)) < 1e-9


@pytest.mark.parametrize(
    "options", [{"temperature": 2}, {"sign": -1}, {"second": 0}, {"skip": -1}], ids=str
)
def test_a_changed_text_is_noticed_where_the_law_changes(
    sde: CovarianceSDE, options: dict[str, int]
) -> None:
    # W_V is symmetric about zero; at two tokens E[C] V = 0, so the sign of B does not matter
    distance = off(route(layer(**options), widths=(2, 3, 4)), numbers(sde, V0))
    assert distance < 1e-9 if {"skip", "sign"} & set(options) else distance > 1e-3


def test_a_mixing_matrix_that_is_not_centred_has_no_limit() -> None:
    with pytest.raises(RouteError, match="no polynomial"):
        route(layer(centre=0), widths=(2, 3, 4))


def test_a_function_that_is_not_analytic_is_noticed() -> None:
    def text(X):  # type: ignore[no-untyped-def]
        return X + relu(X @ gaussian(n, n)) / n

    with pytest.raises(RouteError, match="not analytic"):
        second_route(
            covariance_sde(state="X[m, n]", width=n)(text),
            VALUES, V0, drift_degree=2, diffusion_degree=2, widths=(2, 3),
        )  # fmt: skip


def test_widths_below_the_number_of_tokens_are_refused() -> None:
    with pytest.raises(RouteError, match="widths"):
        route(layer(), widths=(1, 2, 3))


@pytest.mark.parametrize("size, degree", [(1, 7), (2, 5), (3, 7), (5, 5), (7, 3), (4, 1)])
def test_cubature_is_exact_to_its_degree_and_not_beyond(size: int, degree: int) -> None:
    nodes, weights = gaussian_rule(size, degree)
    rng = np.random.default_rng(size)

    def moment(power: int) -> float:
        return float(np.prod(np.arange(power - 1, 0, -2))) if power % 2 == 0 else 0.0

    for _ in range(60):
        powers = rng.multinomial(rng.integers(degree + 1), np.ones(size) / size)
        value = weights @ np.prod(nodes**powers, axis=1)
        np.testing.assert_allclose(value, np.prod([moment(int(p)) for p in powers]), atol=1e-11)
    beyond = weights @ nodes[:, 0] ** (degree + 1)
    assert abs(beyond - moment(degree + 1)) > 0.5


OPERATIONS: list[Callable[..., np.ndarray]] = [
    lambda x, y: x @ y.T,
    lambda x, y: (x * y).sum(0) + x,
    lambda x, y: x - y.mean(-1, keepdims=True),
    lambda x, y: x * y.sum(),
    lambda x, y: x / np.exp(y).sum(axis=0, keepdims=True),
    lambda x, y: x @ y.sum(0),
    lambda x, y: x.sum(1) @ y,
    lambda x, y: x.sum(0) @ y.mean(0) + x.mT.sum(axis=-1),
    lambda x, y: np.eye(2) @ x - 1 / y,
    lambda x, y: x.sum(1).T * 2,
]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_batch_reads_as_its_members(operation: Callable[..., np.ndarray]) -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 3, 2, 3))
    together = operation(Batch.of(x), Batch.of(y))
    alone = np.array([operation(p, q) for p, q in zip(x, y, strict=True)])
    np.testing.assert_allclose(np.asarray(together), alone, rtol=1e-14)


def test_a_fifth_width_is_run_where_four_do_not_do() -> None:
    @covariance_sde(state="X[m, n]", width=n)
    def cubic(X):  # type: ignore[no-untyped-def]
        return sqrt(1 - gamma**2 / n + 1 / n**4) * X + gamma * X @ gaussian(n, n) / n

    drift, _ = second_route(cubic, VALUES, V0, drift_degree=2, diffusion_degree=None)
    assert np.abs(drift).max() < 1e-10
    with pytest.raises(RouteError, match="degree 2"):
        second_route(cubic, VALUES, V0, drift_degree=2, diffusion_degree=None, widths=(2, 3, 4, 5))
