"""L2 takes nothing from the derivation: where that goes wrong as a whole, L2 does not follow it."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import odd_closures
import odd_layers
import pytest

from derive.emit.gaussian_closure.module import render as render_closure
from derive.emit.optimal_control.module import render as render_control
from derive.methods.covariance_sde import block
from derive.methods.covariance_sde.derivation import derive
from derive.methods.gaussian_closure import derivation as gaussian_closure
from derive.methods.optimal_control import derivation as optimal_control
from derive.methods.optimal_control.instances import point
from derive.notation import Rational
from derive.registry import entries, find, load
from derive.verify.covariance_sde.independent import independent as of_blocks
from derive.verify.covariance_sde.references import references
from derive.verify.covariance_sde.second_route import Layer, NotCovered
from derive.verify.covariance_sde.weight_powers import (
    WIDTHS,
    _sizes,
    _weights,
    powers,
    weight_degrees,
)
from derive.verify.gaussian_closure.second_route import second_route
from derive.verify.optimal_control.second_route import independent
from derive.verify.optimal_control.text import text_facts

VALUES = {"gamma": 0.7, "tau_0": 0.6}
V0 = np.array([[1.3, 0.4], [0.4, 0.8]])

PRICED = """from derive.notation import *

d = dims("d: width")
lam, rho, beta = params("lam: in (1/5, 4/5)", "rho: in (1/10, 1/2)", "beta: in (1/2, 2)")


@optimal_control(state="x[d], S[d, d] symmetric", control="u[d], v[d]")
def priced(x, S, u, v):
    effort = lam * l1_norm(u) + beta / 2 * (squared_norm(u) + squared_norm(v)) + 2 * l2_norm(v)
    running = squared_norm(x) + squared_norm(S) + effort
    return problem(dynamics=(tanh(x) + S @ u + v, -S), running=running, discount=rho)
"""


def compiled(text: str, name: str) -> Any:
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(text, name, "exec"), module.__dict__)
    return module


def test_powers_of_the_width_are_those_of_the_parts() -> None:
    """Logits, of two weights, fall as n^(-1/2); W_V alone as its cross term."""
    model = load(find("shaped_attention"))
    layers = [Layer(model, VALUES, V0, n, {}, 32) for n in WIDTHS]
    narrow, wide = (_sizes(*pair)[0] for pair in zip(layers, _weights(layers), strict=True))
    found = powers(narrow, wide)
    np.testing.assert_allclose(found[[1, 2, 3, 4, 6, 8]], [0.5, 0, 1, 0.5, 1, 1.5], atol=0.06)
    assert weight_degrees(model, VALUES, V0) == (6, 8)


def test_layers_without_powers_of_the_weights_are_not_covered() -> None:
    for model, values in (
        (odd_layers.normalised_branch, {"gamma": 0.7}),
        (odd_layers.normalised_keys, VALUES),
    ):
        with pytest.raises(NotCovered, match="no power series"):
            weight_degrees(model, values, V0, free={"w": lambda n: n})


def test_a_derivation_that_cuts_its_series_one_order_early_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = block.increment_of
    monkeypatch.setattr(
        block, "increment_of", lambda layer, law, top: right(layer, law, min(top, 1))
    )
    result = derive(odd_layers.learned_keys)
    assert all(s.check is None or s.check.passed for s in result.steps)  # nothing else sees it
    # by degrees of the derivation, 4 instead of 6, it would pass
    rung = of_blocks(references(result))
    assert not rung.passed
    assert rung.figures["drift"] > 0.1 and rung.figures["diffusion"] < 1e-8


def test_a_closure_with_half_its_noise_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gaussian_closure._noise

    def halved(*given: Any) -> Any:
        found = right(*given)
        return found and found.scaled(Rational(1, 2))

    assert second_route(*_closure(odd_closures.noisy)).passed
    monkeypatch.setattr(gaussian_closure, "_noise", halved)
    rung = second_route(*_closure(odd_closures.noisy))
    assert not rung.passed and rung.figures["covariance rate, full rank"] > 1e-2


def _closure(model: Any) -> tuple[Any, Any]:
    result = gaussian_closure.derive(model)
    return result, compiled(render_closure(result, "one", "one"), "_a_closure")


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("priced") / "priced.py"
    file.write_text(PRICED, encoding="utf-8")
    (entry,) = entries(file)
    return load(entry)


def test_the_text_says_its_prices_discount_and_symmetry(priced: Any) -> None:
    at = point(priced, 30)
    facts = text_facts(priced, at)
    assert [(p.word, p.names) for p in facts.prices] == [("l1_norm", ("u",)), ("l2_norm", ("v",))]
    weights = [p.weight for p in facts.prices]
    np.testing.assert_allclose(weights, [at.params["lam"], 2.0], rtol=1e-12)
    assert facts.discount == at.params["rho"]
    assert facts.symmetric == {"S", "p_S", "d_S"}


def _no_discount(monkeypatch: pytest.MonkeyPatch) -> None:
    right = optimal_control.trace_problem

    def broken(model: Any) -> Any:
        trace = right(model)
        return replace(trace, problem=replace(trace.problem, discount=0))

    monkeypatch.setattr(optimal_control, "trace_problem", broken)


def _half_the_price(monkeypatch: pytest.MonkeyPatch) -> None:
    right = optimal_control._split_cost

    def broken(*given: Any) -> Any:
        smooth, prices = right(*given)
        return smooth, tuple(replace(p, weight=p.weight / 2) for p in prices)

    monkeypatch.setattr(optimal_control, "_split_cost", broken)


@pytest.mark.parametrize("change", [None, _no_discount, _half_the_price])
def test_a_control_problem_without_its_discount_or_price_fails(
    priced: Any, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change:
        change(monkeypatch)
    with jax.enable_x64(True):
        result = optimal_control.derive(priced)
        module = compiled(render_control(result, "one", "one"), "_a_problem")
        rung = independent(result, module, [point(priced, 30)])
    assert rung.passed == (change is None)
    if change:
        assert rung.figures["jax.grad"] > 1e-3
