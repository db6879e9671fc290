"""Odd but sound control problems: every word emits, domains are respected, signs are watched."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from derive.emit.optimal_control.module import render
from derive.methods.optimal_control import instances
from derive.methods.optimal_control.derivation import derive
from derive.methods.optimal_control.result import OptimalControl
from derive.registry import entries, load

HEAD = """from derive.notation import *

n, d = dims("n: tokens", "d: width")
a = params("a: in (1/4, 1/2)")

"""


def _built(folder: Path, text: str) -> tuple[OptimalControl, ModuleType]:
    file, target = folder / "user_model.py", folder / "user_kernel.py"
    file.write_text(HEAD + text, encoding="utf-8")
    result = derive(load(entries(file)[0]))
    target.write_text(render(result, "p", "p"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("user_kernel", target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return result, module


@pytest.fixture(autouse=True)
def _double() -> Any:
    with jax.enable_x64(True):
        yield


def _kernel_agrees(result: OptimalControl, module: ModuleType, at: instances.Point) -> None:
    """state_rate and costate_rate of the module against the equations on NumPy arrays."""

    def pick(kind: type, mark: str = "") -> Any:
        return kind(*(at.arrays[f"{mark}{name}"] for name in kind._fields))  # type: ignore

    params = module.Params(*(at.params.get(f, at.arrays.get(f)) for f in module.Params._fields))
    x, p, u = pick(module.State), pick(module.Costate, "p_"), pick(module.Control)
    found = module.costate_rate(x, p, u, params), module.state_rate(x, u, params)
    for name, parts in zip(("costate_rate", "state_rate"), found, strict=True):
        for one, wanted in zip(parts, instances.evaluate(result, name, at), strict=True):
            np.testing.assert_allclose(one, wanted, atol=1e-9 * (1 + np.abs(wanted).max()))


EVERY = """
@optimal_control(state="x[n, d]", control="W[d, d], b[d]", data="goal[n, d]")
def steer(x, W, b, goal):
    f = exp(-x**2) + log(2 + x**2) + sqrt(1 + x**2) + tanh(x) + sin(x) + cos(x) + erf(x)
    f = f + sigmoid(x) + gelu(x) + silu(x) + relu(x) + causal(n) @ x + softmax(x)
    return problem(
        dynamics=f @ W.T + b, running=squared_norm(x - goal) + squared_norm(W) + squared_norm(b)
    )
"""


def test_every_word_of_the_notation_reaches_the_kernel(tmp_path: Path) -> None:
    result, module = _built(tmp_path, EVERY)
    assert all(s.check is None or s.check.passed for s in result.steps)
    _kernel_agrees(result, module, instances.point(result.model, 0))


@pytest.mark.parametrize(
    "text",
    [
        """
@optimal_control(state="x[d]", control="u[d]", data="goal[d]")
def barrier(x, u, goal):
    return problem(dynamics=u - x, running=squared_norm(x - goal) - log(1 - u**2).sum())
""",
        """
@optimal_control(state="K[d]", control="c[d]", data="goal[d]")
def growth(K, c, goal):
    return problem(dynamics=K**a - K / 10 - c, running=squared_norm(K - goal) - log(c).sum())
""",
    ],
)
def test_checks_stay_where_the_definition_is_finite(text: str, tmp_path: Path) -> None:
    result, module = _built(tmp_path, text)
    assert all(s.check is None or s.check.passed for s in result.steps), [
        (s.name, s.check.residual) for s in result.steps if s.check
    ]
    _kernel_agrees(result, module, instances.inside(result.model, 0))


ENERGY = """
@optimal_control(state="q[d], w[d]", control="u[d]")
def transfer(q, w, u):
    return problem(dynamics=(w, u), running=squared_norm(u) / 2, end="fixed")
"""


@pytest.mark.slow
def test_least_energy_between_two_states(tmp_path: Path) -> None:
    """From rest at 0 to rest at 1 in time T: the cubic, with energy 6 / T^3."""
    _, module = _built(tmp_path, ENERGY)
    start, end = (module.State(np.array([q]), np.zeros(1)) for q in (0.0, 1.0))
    path = module.solve(start, module.Params(), T=2.0, x_end=end, starts=2)
    assert abs(path.cost - 6 / 2.0**3) < 1e-9


DOUBLE = """
@optimal_control(state="x[d]", control="u[d]", data="goal[d]")
def well(x, u, goal):
    cost = squared_norm(x - goal) / 2 + (u**4).sum() / 4 - squared_norm(u) * 2
    return problem(dynamics=u / 10 - x, running=cost)
"""


def test_the_law_is_a_minimum_of_H_where_H_has_others(tmp_path: Path) -> None:
    """H = u^4 / 4 - 2 u^2 + p u / 10: u = 0 is a maximum; the law must not rest there."""
    _, module = _built(tmp_path, DOUBLE)
    params = module.Params(goal=np.array([0.2, -0.3]))
    x = module.State(np.array([0.1, 0.4]))
    law = jax.jit(lambda p: module.control(x, module.Costate(p), params).u)
    for p in (np.zeros(2), np.array([0.5, -1.0]), np.array([3.0, 2.0])):
        u = np.asarray(law(p))
        assert np.abs(u**3 - 4 * u + p / 10).max() < 1e-12
        assert (3 * u**2 - 4 > 0).all()
