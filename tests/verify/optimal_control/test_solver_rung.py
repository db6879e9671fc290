"""L5 of the solver: a module whose equations or ends are off is told from the right one."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from derive.emit.optimal_control.module import render
from derive.methods.optimal_control.derivation import derive
from derive.registry import entries, load
from derive.verify.common.compare import load_module
from derive.verify.optimal_control.solver import solver

TEXT = '''from derive.notation import *

d = dims("d: size")
beta, rho = params("beta: in (1, 2)", "rho: in (1/10, 1/2)")


@optimal_control(state="x[d]", control="u[d]", data="goal[d]")
def case(x, u, goal):
    """Steering with a price of the last state."""
    return problem(
        dynamics=u - tanh(x),
        running=squared_norm(x - goal) / 2 + beta / 2 * squared_norm(u),
        terminal=squared_norm(x + goal),
        discount=rho,
    )
'''
WRONG = {
    "costate times 0.98": ("def costate_rate", "return Costate(", "return Costate(0.98 * "),
    "dynamics times 0.98": ("def state_rate", "return State(", "return State(0.98 * "),
    "no terminal slope": ("def terminal_rate", "return Costate(", "return Costate(0 * "),
    "half the law": ("def control_law", "return Control(", "return Control(0.5 * "),
    "half the terminal cost": ("def terminal_cost", "return ", "return 0.5 * "),
}


def rung(tmp_path: Path, change: tuple[str, str, str] | None):
    file, target = tmp_path / "case.py", tmp_path / "kernel.py"
    file.write_text(TEXT, encoding="utf-8")
    result = derive(load(entries(file)[0]))
    text = render(result, "p", "p")
    if change is not None:
        where, old, new = change
        head, rest = text.split(where, 1)
        before, after = rest.split(old, 1)
        line, tail = after.split("\n", 1)
        body = line[:-1] if old.endswith("(") else line
        text = f"{head}{where}{before}{new}({body}){line[len(body) :]}\n{tail}"
    target.write_text(text, encoding="utf-8")
    with jax.enable_x64(True):
        return solver(result, load_module(target))


def test_the_right_module_passes(tmp_path):
    found = rung(tmp_path, None)
    off = [v for k, v in found.figures.items() if k not in ("intervals", "T")]
    assert found.passed and max(off) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", list(WRONG))
def test_a_wrong_module_fails(tmp_path, name):
    found = rung(tmp_path, WRONG[name])
    assert not found.passed, found.figures
