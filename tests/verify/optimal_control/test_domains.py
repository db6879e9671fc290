"""The ladder of right control modules with logs, roots and poles: no false alarm or empty pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

from derive.draws import redrawn
from derive.emit.optimal_control.module import render
from derive.methods.common.record import require_sound
from derive.methods.optimal_control import checks, instances
from derive.methods.optimal_control.derivation import derive
from derive.registry import entries, find, load
from derive.verify.optimal_control import ladder, mutants, variation

TEXT = """from derive.notation import *

d = dims("d: size")
al, rho = params("al: in (0, 1)", "rho: positive")


@optimal_control(state="K[d]", control="C[d]")
def case(K, C):
    return problem(dynamics={rate}, running={cost}, discount=rho)
"""
CASES = {
    "root and log": ("sqrt(K) - C", "-log(C).sum() + 0 * squared_norm(K)"),
    "power": ("K**al - C", "squared_norm(C) + squared_norm(K)"),
    "log barrier": ("C", "squared_norm(C) / 2 - log(1 - K * K).sum()"),
    "narrow": ("K**al - K - C", "squared_norm(K) - log(C).sum() - log(1 - C).sum()"),
    "pole": ("1 / K - C", "squared_norm(C) + squared_norm(K)"),
}


def built(tmp_path: Path, name: str):
    rate, cost = CASES[name]
    file, target = tmp_path / "case.py", tmp_path / "kernel.py"
    file.write_text(TEXT.format(rate=rate, cost=cost), encoding="utf-8")
    model = load(entries(file)[0])
    target.write_text(render(derive(model), "p", "p"), encoding="utf-8")
    return model, target


@pytest.mark.parametrize("name", list(CASES))
def test_what_is_said_of_a_cost_with_a_domain_holds_at_every_draw(tmp_path, name):
    """Right facts, 0 false alarms; moves of the control that leave the domain compare nothing."""
    model, _ = built(tmp_path, name)
    with np.errstate(all="ignore"):
        for draw in (1, 2, 3):
            with redrawn(draw):
                result = derive(model)
                assert result.facts
                require_sound(result.steps, name, result.facts)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_a_right_module_with_a_domain_passes(tmp_path, name):
    model, target = built(tmp_path, name)
    with np.errstate(all="ignore"):
        for _, rung in ladder.climb(model, target, "quick"):
            assert not rung.failed, (
                rung.name,
                rung.figures,
            )  # L5 may find no start that it can solve


@pytest.mark.parametrize("name", ["root and log", "log barrier"])
def test_a_wrong_costate_is_caught_inside_a_domain(tmp_path, name):
    import jax

    from derive.verify.common.compare import load_module

    model, target = built(tmp_path, name)
    text = target.read_text(encoding="utf-8")
    head, rest = text.split("def costate_rate", 1)
    wrong = rest.replace("return Costate(", "return Costate(0.98 * (", 1).replace(
        ")\n\n", "))\n\n", 1
    )
    target.write_text(f"{head}def costate_rate{wrong}", encoding="utf-8")
    with jax.enable_x64(True), np.errstate(all="ignore"):
        rung = variation.variation(derive(model), load_module(target), (16, 32))
    assert not rung.passed and rung.figures["errors"][-1] > 1e-4


def test_mutants_that_nobody_made_are_not_reached(tmp_path):
    model, _ = built(tmp_path, "power")
    result = derive(model)
    rung = mutants.mutants(replace(result, equations={}), 10)
    assert rung.status == "not reached" and rung.unreached


def test_a_gradient_that_vanishes_is_no_alarm():
    """All tokens where relu is flat: what the text's slope holds is rounding."""
    with redrawn(8):
        result = derive(load(find("sparse_neural_ode")))
        require_sound(result.steps, "sparse_neural_ode", result.facts)
        (flat,) = (p for p in map(_point(result), range(3)) if np.all(p.arrays["x"] < 0))
        assert checks._first(result, flat) < 1e-10
        assert checks._first(_nudged(result, sp.Rational(1, 10**9)), flat) > 1e-8


def _point(result):
    return lambda seed: instances.inside(result.model, seed)


def _nudged(result, size):
    """The law's first condition wrong by a small multiple of the control."""
    g, (W, *_) = result.algebra, result.u
    first, *others = result.equations["stationarity"]
    wrong = (g.add(first, g.scale(size, W)), *others)
    return replace(result, equations={**result.equations, "stationarity": wrong})
