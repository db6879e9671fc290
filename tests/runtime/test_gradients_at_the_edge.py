"""Derivatives of generated functions at the edge of their domain are right, or said to be infinite.

Tokens that coincide, a law on a line, V = 0 or cov = 0, equal singular values, Q = 0, tau = inf:
first and second derivatives, forward and reverse, against differences of the functions' values
(a polynomial through nine of them, into the domain).  Two steps of the differences stand by, as
one may be too wide or too narrow for a function: a derivative passes if either agrees.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import edge_points as edge
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp

from derive.emit.common.scalars import python
from derive.notation import dims, params
from derive.runtime.common.normal_means import gaussian_mean

QUICK = ("shaped_attention", "sinkhorn_closure", "gaussian_tracking")
QUICK_FUNCTIONS = {
    "shaped_attention": ("drift",),
    "sinkhorn_closure": ("cov_rate",),
    "gaussian_tracking": ("costate_rate",),
}
OTHERS = sorted(
    p.stem
    for p in edge.GENERATED.glob("*.py")
    if p.stem != "__init__" and not p.stem.startswith("masked")
)
# of the extrapolated differences: their own truncation and rounding, in units of the values
FIRST, SECOND = 1e-5, 1e-3
# the two directions of differentiation agree to rounding
MODES = 1e-9
STEPS = (0.02, 0.004)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _finite(tree: Any) -> bool:
    return all(np.all(np.isfinite(a)) for a in jax.tree.leaves(tree))


def _along(gradient: Any, along: Any) -> float:
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True)
    return float(sum(np.sum(a * np.asarray(b)) for a, b in pairs))


def faults(point: edge.Point, reverse: bool = True) -> set[str]:
    """Which derivatives are not right: "first", "second" (or of the other mode)."""
    some = [edge.differences(point, step) for step in STEPS]
    weights = np.random.default_rng(0).standard_normal(some[0].value.shape)
    got = edge.derivatives(point, weights, reverse)
    out = set()
    size = max(d.scale + np.abs(d.first).max() for d in some) + 1e-9
    bend = size + max(np.abs(d.second).max() for d in some)
    if not min(np.abs(got.first - d.first).max() for d in some) < FIRST * size:
        out.add("first")
    if not min(np.abs(got.second - d.second).max() for d in some) < SECOND * bend:
        out.add("second")
    by_mode = {
        "first": (got.gradient, got.first, size),
        "second": (got.bent, got.second, bend),
    }
    if not reverse:
        return out
    for order, (backward, forward, scale) in by_mode.items():
        apart = abs(_along(backward, point.along) - weights @ forward)
        if not (_finite((backward, forward)) and apart < MODES * scale):
            out.add(order)
    return out


def forward_alone(module: Any, point: edge.Point) -> bool:
    doc = " ".join((getattr(module, point.name).__doc__ or "").split())
    return "forward mode (jax.jvp, jax.jacfwd) alone" in doc


def excused(module: Any, point: edge.Point) -> set[str]:
    """What the function's own docstring says does not exist, or is infinite, at such a point."""
    doc = " ".join((getattr(module, point.name).__doc__ or "").split())
    out = set()
    if point.edge.startswith("zero") and (
        "NaN for V = 0" in doc or "at a token of size zero" in doc
    ):
        out = {"first", "second"}
    if "infinite where two tokens are parallel" in doc and point.edge in (
        "equal tokens",
        "rank one",
    ):
        # differences of powers 3/2 do not see the first one either: it has a test of its own
        out = {"first", "second"}
    if "relu(" in inspect.getsource(module) and point.edge in ("zero", "equal tokens"):
        # a kink: the values on its way into the domain are not those of one polynomial
        out = {"first", "second"}
    return out


def _wrong(name: str, functions: tuple[str, ...] | None = None) -> list[str]:
    module = importlib.import_module(f"derive.generated.{name}")
    return [
        f"{p.name} at {p.edge}: {', '.join(sorted(wrong))}"
        for p in edge.points_of(module, functions)
        # a parameter that may be infinite and has no limit: `simulate` refuses it
        if not p.edge.endswith("= inf") or np.all(np.isfinite(edge.value(p, 0.0)))
        if (wrong := faults(p, not forward_alone(module, p)) - excused(module, p))
    ]


@pytest.mark.parametrize("name", QUICK)
def test_derivatives_at_the_edge_are_those_of_the_values(name: str) -> None:
    assert not _wrong(name, QUICK_FUNCTIONS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_derivatives_of_every_function_at_the_edge(name: str) -> None:
    assert not _wrong(name)


def test_cubature_says_that_it_has_no_second_derivatives() -> None:
    module = importlib.import_module("derive.generated.masked_softmax_closure")
    for name in ("mean_rate", "jacobian"):
        assert "first alone, and where cov is regular" in " ".join(
            getattr(module, name).__doc__.split()
        )


def test_noise_differentiates_along_changes_that_keep_the_rank() -> None:
    """Equal tokens that stay equal, moved through X X^T; the docstring says what else is."""
    module = importlib.import_module("derive.generated.shaped_attention")
    assert "infinite along changes that raise its rank" in " ".join(module.noise.__doc__.split())
    X, D = np.random.default_rng(1).standard_normal((2, 3, 6))
    X[1], D[1] = X[0], D[0]
    key, params = jax.random.key(0), module.Params(0.5, 1.0)
    point = edge.Point(
        "noise",
        "equal tokens",
        lambda t: module.noise(key, t["X"] @ t["X"].T, params),
        {"X": X},
        {"X": D},
    )
    assert not faults(point)


def test_parallel_tokens_have_a_first_derivative() -> None:
    """Values grow as t + t^(3/2): a polynomial in the root of the time sees the derivative."""
    module = importlib.import_module("derive.generated.shaped_relu_mlp")
    seen = 0
    for point in edge.points_of(module, ("drift",)):
        if point.edge != "equal tokens":
            continue
        roots = 0.02 * np.arange(edge.ORDER + 1)
        values = np.array([edge.value(point, s * s) for s in roots])
        powers = np.linalg.solve(np.vander(roots / 0.02, increasing=True), values)
        first = powers[2] / 0.02**2
        got = edge.derivatives(point, np.ones(len(first)))
        # powers of the root beyond the eighth are cut off
        assert np.abs(got.first - first).max() < 1e-5 * np.abs(values).max() / roots[-1] ** 2
        seen += 1
    assert seen == 1


@pytest.mark.parametrize("var", [0.0, 1e-20, 0.5])
@pytest.mark.parametrize("kinks", [(), (0,)])
def test_a_normal_mean_differentiates_at_no_variance(var: float, kinks: tuple[int, ...]) -> None:
    """Of s^4 and, with a kink away from the mean, of its positive part: moments are known."""

    def quartic(s: Any) -> Any:
        return jnp.where(s > 0, s, 0) ** 4 if kinks else s**4

    def mean(m: Any, v: Any) -> Any:
        return gaussian_mean(quartic, m, v, kinks)

    m = 30.0  # standard deviations from the kink
    slopes = jax.jit(lambda m, v: (jax.grad(mean, (0, 1))(m, v), jax.hessian(mean, (0, 1))(m, v)))
    gradient, hessian = slopes(m, jnp.asarray(var))
    np.testing.assert_allclose(gradient, (4 * m**3 + 12 * m * var, 6 * m**2 + 6 * var), rtol=1e-12)
    expected = [[12 * m**2 + 12 * var, 12 * m], [12 * m, 6.0]]
    np.testing.assert_allclose(hessian, expected, rtol=1e-12)


def test_at_a_kink_the_slope_by_the_variance_passes_every_bound() -> None:
    assert jax.grad(lambda v: gaussian_mean(jax.nn.relu, 0.0, v, (0,)))(0.0) > 1e50
    assert jax.grad(lambda m: gaussian_mean(jax.nn.relu, m, 0.0, (0,)))(0.0) == pytest.approx(0.5)


@pytest.mark.parametrize("power", [1, 2, sp.Rational(3, 2), 4])
def test_a_printed_number_differentiates_where_a_parameter_is_infinite(power: sp.Expr) -> None:
    """c / tau^k, its first and second derivatives by c and by tau: all vanish at tau = inf."""
    c, tau = params("c: in (0, 1)", "tau: positive")
    (m,) = (dims("m: tokens"),)
    text = python(c**2 / (2 * m * tau**power))
    number = eval(f"lambda x: {text}".replace("tau", "x[1]").replace("c**", "x[0]**"),
                  {"m": 3, "sqrt": jnp.sqrt})  # fmt: skip
    at = jnp.array([0.7, 2.0])
    assert number(at) == pytest.approx(0.49 / 6 / 2 ** float(power), rel=1e-14)
    for derivative in (jax.jacfwd(number), jax.jacrev(number), jax.hessian(number)):
        assert np.array_equal(np.abs(derivative(jnp.array([0.7, jnp.inf]))), 0 * derivative(at))
