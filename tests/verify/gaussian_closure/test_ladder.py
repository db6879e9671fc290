"""The ladder passes right closures, kinked ones too; it fails a broken solver, a false verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import odd_closures as odd
import pytest
from built_closures import built

from derive.emit.gaussian_closure.module import render
from derive.methods.gaussian_closure.derivation import derive
from derive.runtime.closures import solver as closure_solver
from derive.runtime.closures import state as closure_state
from derive.verify.gaussian_closure.kernel import kernel
from derive.verify.gaussian_closure.mutants import mutants
from derive.verify.gaussian_closure.second_route import second_route
from derive.verify.gaussian_closure.solver import solver, verdict


@pytest.mark.parametrize(
    "name",
    ["noisy", *(pytest.param(n, marks=pytest.mark.slow) for n in ("feed_forward", "kinked"))],
)
def test_a_right_closure_passes(name: str) -> None:
    """Noise without a law in it broadcasts.  Networks and kinks are slow here: tokens and verdict
    of a network are checked below, the rates of kinks in `methods`."""
    result, module = built(name)
    for rung in (second_route(result, module), kernel(result, module), mutants(result)):
        assert rung.passed, (rung.name, rung.figures)


def test_tokens_of_a_layer_with_a_network_run() -> None:
    """The part without keys reads its length off the queries."""
    _, module = built("feed_forward")
    rng = np.random.default_rng(0)
    sizes = {"d": 2, "d_k": 3}
    p = module.Params(
        *(
            rng.normal(size=[sizes[s] for s in module._SPEC.param_shapes[n]]) / 4
            for n in module.Params._fields
        )
    )
    x = rng.normal(size=(5, 2))
    with jax.enable_x64(True):
        got = np.asarray(module.particle_velocity(x, x, p))
    weight = np.exp(x @ p.Q.T @ p.K @ x.T)
    soft = (weight / weight.sum(1, keepdims=True)) @ x @ p.V.T
    net = np.maximum(x @ p.U.T + p.b, 0) @ p.W.T
    assert np.abs(got - (soft + x @ p.F.T + p.c + net)).max() < 1e-12


@pytest.mark.parametrize("name", [pytest.param("key_penalised", marks=pytest.mark.slow), "noisy"])
def test_a_right_solver_passes(name: str) -> None:
    """Of two, the one with noise is always run: its factor moves by drift and by noise."""
    rung = solver(*built(name))
    assert rung.passed, rung.figures


def test_a_factor_in_the_dynamics_of_the_factor_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from derive.verify.common.compare import load_module

    right = closure_state._factor_rate

    def wrong(spec: Any, state: Any, params: Any) -> Any:
        u, v = right(spec, state, params)
        return u, 0.98 * v

    monkeypatch.setattr(closure_state, "_factor_rate", wrong)
    caches = (closure_state.equation, closure_solver.advancing, closure_solver.starting)
    for cached in caches:
        cached.cache_clear()
    result = derive(odd.key_penalised)
    file = tmp_path / "key_penalised.py"
    file.write_text(render(result, "key_penalised", "key_penalised"))
    try:
        rung = solver(result, load_module(file))
    finally:
        for cached in caches:
            cached.cache_clear()
    assert not rung.passed and rung.figures["explicit"] > 1e-3


@pytest.mark.parametrize("name", ["key_penalised", "feed_forward", "sine"])
def test_a_false_verdict_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result, module = built(name)
    assert verdict(result, module).passed
    monkeypatch.setattr(module, "EXACT", not module.EXACT)
    assert not verdict(result, module).passed
