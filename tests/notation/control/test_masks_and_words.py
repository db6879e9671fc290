"""Causal masks in controlled particles, inverse and log det in costs, kinks of the state."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from derive.emit.optimal_control.module import render
from derive.errors import DefinitionError
from derive.methods.optimal_control import instances
from derive.methods.optimal_control.derivation import derive
from derive.methods.optimal_control.result import OptimalControl
from derive.registry import entries, load

HEAD = """from derive.notation import *
from derive.theory.masked_softmax_closure import masked_softmax_closure as causal_attention

n, d, k = dims("n: tokens", "d: width", "k: key width")
rho, M = params("rho: real", "M: positive")
V, A = matrices(V=(d, d), A=(d, d))


@gaussian_closure(state="x[d]")
def linear_future(x, y, s, tau):
    return integral(V @ y, (x @ (A @ y)) * (tau > s))


@gaussian_closure(state="x[d]")
def strict(x, y, s, tau):
    return average(V @ y, exp(x @ (A @ y)) * (tau < s))


"""


def _derive(folder: Path, text: str) -> OptimalControl:
    file = folder / "user_model.py"
    file.write_text(HEAD + text, encoding="utf-8")
    return derive(load(next(e for e in entries(file) if e.method == "optimal_control")))


def _sound(result: OptimalControl) -> None:
    assert all(s.check is None or s.check.passed for s in result.steps), [
        (s.name, s.check.residual) for s in result.steps if s.check
    ]


MASKED = """
@optimal_control(state="x[n, d]", control="V[d, d], Q[k, d]", data="K[k, d], goal[n, d]")
def steer(x, V, Q, K, goal):
    rate = particle_velocity(causal_attention, x, Q=Q, K=K, V=V)
    effort = squared_norm(V) + squared_norm(Q)
    return problem(dynamics=rate, running=squared_norm(x - goal) + effort)
"""


def test_causal_particles_see_their_past_alone(tmp_path: Path) -> None:
    result = _derive(tmp_path, MASKED)
    _sound(result)
    for seed in range(3):
        at = instances.point(result.model, seed)
        x, Q, K, V = (at.arrays[name] for name in ("x", "Q", "K", "V"))
        (found,) = instances.evaluate(result, "state_rate", at)
        for i in range(len(x)):
            logits = x[: i + 1] @ K.T @ (Q @ x[i])
            weights = np.exp(logits - logits.max())
            expected = V @ (weights @ x[: i + 1]) / weights.sum()
            np.testing.assert_allclose(found[i], expected, atol=1e-10 * (1 + abs(expected).max()))


def test_weights_that_are_not_normalised_keep_their_mask(tmp_path: Path) -> None:
    result = _derive(
        tmp_path,
        """
@optimal_control(state="x[n, d]", control="V[d, d]", data="A[d, d], goal[n, d]")
def steer(x, V, A, goal):
    rate = particle_velocity(linear_future, x, A=A, V=V)
    return problem(dynamics=rate, running=squared_norm(x - goal) + squared_norm(V))
""",
    )
    _sound(result)
    at = instances.point(result.model, 1)
    x, A, V = (at.arrays[name] for name in ("x", "A", "V"))
    (found,) = instances.evaluate(result, "state_rate", at)
    for i, row in enumerate(x):
        later = x[i + 1 :]
        expected = V @ ((later @ (A.T @ row)) @ later) / len(x)
        np.testing.assert_allclose(found[i], expected, atol=1e-12 * (1 + abs(expected).max()))


KL = """
@optimal_control(state="S[d, d] symmetric", control="V[d, d]", data="A[d, d], goal[d, d] symmetric")
def steer(S, V, A, goal):
    f = V @ S @ A @ S
    divergence = (trace(inverse(goal) @ S) - d - log_det(S) + log_det(goal)) / 2
    return problem(dynamics=f + f.T, running=divergence + squared_norm(V) / 2)
"""


def test_divergence_of_gaussian_laws_as_a_cost(tmp_path: Path) -> None:
    """H_S of the divergence is (goal^-1 - S^-1) / 2; the kernel agrees and stays off det < 0."""
    result = _derive(tmp_path, KL)
    _sound(result)
    at = instances.point(result.model, 0)
    S, V, A, P, goal = (at.arrays[name] for name in ("S", "V", "A", "p_S", "goal"))
    inner = A @ S @ P @ V + P @ V @ S @ A
    expected = -(np.linalg.inv(goal) - np.linalg.inv(S)) / 2 - inner - inner.T
    (found,) = instances.evaluate(result, "costate_rate", at)
    np.testing.assert_allclose(found, expected, atol=1e-10 * abs(expected).max())
    module = _module(result, tmp_path)
    params = module.Params(A=A, goal=goal)
    import jax

    with jax.enable_x64(True):
        rate = module.costate_rate(module.State(S), module.Costate(P), module.Control(V), params)
        np.testing.assert_allclose(rate.S, expected, atol=1e-10 * abs(expected).max())
        bent = np.diag([1.0, -1.0] + [1.0] * (len(S) - 2))
        cost = module.running_cost(module.State(bent), module.Control(V), params)
    assert np.isnan(cost)


def test_a_norm_of_the_state_has_its_sign_as_gradient(tmp_path: Path) -> None:
    result = _derive(
        tmp_path,
        """
@optimal_control(state="x[d]", control="u[d]", data="goal[d]")
def steer(x, u, goal):
    return problem(dynamics=u - x, running=3 * l1_norm(x - goal) + squared_norm(u))
""",
    )
    _sound(result)
    at = instances.point(result.model, 0)
    x, p, goal = (at.arrays[name] for name in ("x", "p_x", "goal"))
    (found,) = instances.evaluate(result, "costate_rate", at)
    np.testing.assert_allclose(found, p - 3 * np.sign(x - goal), atol=1e-12)


def _module(result: OptimalControl, folder: Path) -> Any:
    target = folder / "user_kernel.py"
    target.write_text(render(result, "p", "p"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("user_kernel", target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_negative_discount_given_with_the_parameters_is_refused(tmp_path: Path) -> None:
    text = PLAIN.format(control="u[d]", rate="u - x", more=", discount=rho")
    module = _module(_derive(tmp_path, text), tmp_path)
    with pytest.raises(ValueError, match="discount -0.1 is negative"):
        module.turnpike(module.Params(rho=-0.1, goal=np.ones(2)), seed=0)


PLAIN = """
@optimal_control(state="x[d]", control="{control}", data="goal[d]")
def steer(x, u, goal):
    return problem(dynamics={rate}, running=squared_norm(x - goal) + squared_norm(u){more})
"""
BAD = {
    "a bound on the state": (
        PLAIN.format(control="u[d]", rate="u - x", more=", bounds=box(x, -1, 1)"),
        "controls alone.*constraints on the state are not supported: price",
    ),
    "a bound that is an array": (
        PLAIN.format(control="u[d]", rate="u - x", more=", bounds=box(u, -1, goal)"),
        "not arrays; scale the control",
    ),
    "the time": (PLAIN.format(control="u[d]", rate="u - sin(t) * x", more=""), "carry a clock"),
    "the time as an argument": (
        PLAIN.format(control="u[d]", rate="u - x", more="").replace("u, goal)", "u, goal, t)", 1),
        "takes t: a definition does not know the time",
    ),
    "a random weight": (
        PLAIN.format(control="u[d]", rate="u - gaussian(d, d) @ x", more=""), "give them as data"
    ),
    "a mean over tokens": (
        PLAIN.format(control="u[d]", rate="u - integral(x, 1)", more=""), "moment_rates"
    ),
    "NumPy": (
        "import numpy as np\n" + PLAIN.format(control="u[d]", rate="u - np.tanh(x)", more=""),
        "not from NumPy",
    ),
    "a discount that depends on the state": (
        PLAIN.format(control="u[d]", rate="u - x", more=", discount=x.sum()"), "a declared param"
    ),
    "a negative discount": (
        PLAIN.format(control="u[d]", rate="u - x", more=", discount=-1"), "-1 is negative"
    ),
    "a control on the sphere": (
        PLAIN.format(control="u[d] on sphere", rate="u - x", more=""), "control u is declared on"
    ),
    "a symmetric control": (
        PLAIN.format(control="u[d, d] symmetric", rate="u @ x", more=""), r"\(u \+ u.T\) / 2"
    ),
    "a flow that leaves the sphere": (
        PLAIN.format(control="u[d]", rate="u - x", more="").replace("x[d]", "x[d] on sphere"),
        r"leave the sphere.*project\(x",
    ),
    "an average over an empty past": (
        MASKED.replace("causal_attention, x, Q=Q, K=K, V=V", "strict, x, A=Q.T @ K, V=V"),
        "the first token has none",
    ),
    "a control whose size nothing gives": (
        PLAIN.format(control="u[d], W[d, k], B[k, d]", rate="u - W @ tanh(B @ x)", more="")
        .replace("(x, u, goal)", "(x, u, W, B, goal)")
        .replace("norm(u)", "norm(u) + squared_norm(W) + squared_norm(B)"),
        r"size k of the control W.*W_ref\[d, k\]",
    ),
    "constraints": (
        PLAIN.format(control="u[d]", rate="u - x", more=", constraints=x"), "a problem takes dyn"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refusals_say_what_to_write_instead(name: str, tmp_path: Path) -> None:
    text, words = BAD[name]
    with pytest.raises(DefinitionError) as caught:
        _derive(tmp_path, text)
    assert re.search(words, caught.value.message), caught.value.message
    place = caught.value.place
    assert place is not None and place.file.endswith("user_model.py"), caught.value
    assert place.line > HEAD.count("\n")
