"""Emitted manoeuvres steer the definition's text, however the definition is written."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from steered_flows import STEERED, heads, identity_values, plain, scaled, square

from derive.emit.token_flow.module import render
from derive.emit.token_flow.report import document
from derive.methods.token_flow import instances
from derive.methods.token_flow.derivation import derive
from derive.site.beside import Beside
from derive.site.formats import formatted
from derive.verify.common.compare import module_of, strict_jax
from derive.verify.token_flow.gate import gate, params_of
from derive.verify.token_flow.manoeuvres import targets

MADE = ("uniform_velocity", "split", "pull", "reversed_piece", "split_time", "pull_time")


def emitted(result):
    return module_of(render(result, "here.py", "here.py"), "steered_flow")


@pytest.fixture(scope="module")
def module():
    return emitted(derive(plain))


@pytest.mark.parametrize("model", STEERED, ids=lambda m: m.name)
def test_every_function_of_a_steered_flow_meets_its_text(model):
    result = derive(model)
    made = emitted(result)
    with strict_jax():
        for target in targets(result, result.manoeuvres, made, 5, 3, params_of):
            function = getattr(made, target.name.partition(",")[0])
            error = target.error(target.call(function, *target.arguments))
            assert error <= target.allowed, target.name


@pytest.mark.slow
@pytest.mark.parametrize("model", STEERED, ids=lambda m: m.name)
def test_a_steered_flow_passes_its_gate(model):
    result = derive(model)
    assert not [f for f in gate(result, emitted(result)) if not f.error <= f.allowed]


def test_a_flow_without_levers_has_none_of_their_functions():
    made = emitted(derive(identity_values))
    assert not [name for name in MADE if hasattr(made, name)]
    assert made._SPEC.split is None


def test_the_runtime_is_told_of_what_there_is(module):
    spec = module._SPEC
    assert (spec.split, spec.pull) == (module.split, module.pull)
    assert (spec.uniform_velocity, spec.reversed_piece) == (
        module.uniform_velocity,
        module.reversed_piece,
    )


def test_widths_and_numbers_are_the_callers(module):
    alpha = np.array([0.0, 0.0, 1.0])
    assert module.split(alpha, 0.1).W.shape == (3, 1)
    assert module.split(alpha, 0.1, 5).W.shape == (3, 5)
    assert emitted(derive(square)).split(alpha, 0.1, 5).W_s.shape == (3, 3)
    assert emitted(derive(heads)).split(alpha, 0.1).V_h.shape == (1, 3, 3)
    other = emitted(derive(scaled)).split(alpha, 0.1, c_2=2.0)
    np.testing.assert_allclose(other.V, np.outer(alpha, alpha) / 2)
    assert 0 < other.gamma < 0.5  # within its range
    assert isinstance(other.W, np.ndarray)
    assert other.W.dtype == np.float64


def test_numpy_keeps_its_precision_and_jit_gives_the_same(module):
    omega, z = np.eye(3)[0], np.array([0.6, 0.8, 0.0])
    plainly = module.pull(omega, z, 0.2)
    assert all(isinstance(a, np.ndarray) and a.dtype == np.float64 for a in plainly)
    with jax.enable_x64(True):
        traced = jax.jit(module.pull)(omega, z, 0.2)
    for a, b in zip(plainly, traced, strict=True):
        np.testing.assert_array_equal(a, np.asarray(b))
    single = module.pull(omega.astype(np.float32), z.astype(np.float32), 0.2)
    assert all(a.dtype == np.float32 for a in single)
    with pytest.raises(ValueError, match="vectors of one shape"):
        module.pull(omega, z[:2], 0.2)


def test_a_split_and_its_reverse_bring_tokens_back(module):
    """Steps of Runge and Kutta with the text's velocity, of a law with unequal masses."""
    one = instances.instance(plain, 140, 6, 3)
    alpha = np.array([2.0, -1.0, 2.0]) / 3
    there, back = one, None
    for params in (module.split(alpha, 0.1), module.reversed_piece(module.split(alpha, 0.1))):
        arrays = {k: np.asarray(params._asdict().get(k, v)) for k, v in one.arrays.items()}
        moved = replace(there, arrays=arrays)
        x, step = there.x, 0.02
        for _ in range(50):
            a = instances.tangent(moved, x)
            b = instances.tangent(moved, x + step / 2 * a)
            c = instances.tangent(moved, x + step / 2 * b)
            e = instances.tangent(moved, x + step * c)
            x = x + step / 6 * (a + 2 * b + 2 * c + e)
        back, there = there.x, replace(there, x=x)
    u0, u1 = (np.arctanh(x @ alpha) for x in (one.x, back))
    np.testing.assert_allclose(u1 - u0, (u1 - u0)[0] * np.ones(6), atol=1e-7)
    assert abs((u1 - u0)[0]) > 0.05
    np.testing.assert_allclose(there.x, one.x, atol=1e-7)


def test_memory_of_the_uniform_velocity_grows_with_tokens_alone(module):
    """No array (n, n): ten thousand tokens in the time of a few."""
    n = 20_000
    one = instances.instance(plain, 141, n, 3, equal=True)
    p = params_of(module, one)
    text = jax.jit(module.uniform_velocity).lower(one.x, one.mass, p).as_text()
    assert f"{n}x{n}" not in text


def test_every_format_says_the_manoeuvres():
    result = derive(plain)
    shown = document(result, steps=True)
    for form in ("text", "latex", "html", "json"):
        said = formatted(form, shown, Beside())
        assert "pull" in said
        assert "manoeuvres" in said
