"""Control problems whose dynamics come from the definition of an attention."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

from derive.errors import DefinitionError, Refusal
from derive.methods.optimal_control import checks, instances
from derive.methods.optimal_control.derivation import derive
from derive.methods.optimal_control.result import OptimalControl
from derive.registry import entries, load

HEAD = """from derive.notation import *
from derive.theory.sigmoid_closure import sigmoid_closure
from derive.theory.sinkhorn_closure import sinkhorn_closure
from derive.theory.softmax_closure import softmax_closure
from derive.theory.masked_softmax_closure import masked_softmax_closure
from derive.theory.multihead_softmax_closure import multihead_softmax_closure
from derive.theory.shaped_attention import shaped_attention

d, k, n, l, e = dims("d: width", "k: key width", "n: tokens", "l: other tokens", "e: other width")
alpha, beta, eps = params("alpha: positive", "beta: positive", "eps: in (1, 2)")
A, B, V, W, Q, K = matrices(A=(d, d), B=(d, d), V=(d, d), W=(d, d), Q=(k, d), K=(k, d))
C, U = matrices(C=(d, e), U=(d, e))


@gaussian_closure(state="x[d]")
def softmax_in_A(x, y):
    return average(V @ y, exp((A @ x) @ y))


@gaussian_closure(state="x[d]")
def l2(x, y):
    gap = Q @ x - K @ y
    return average(V @ y, exp(-(gap @ gap) / eps))


@gaussian_closure(state="x[d]")
def noisy_linear(x, y):
    return integral(V @ y, x @ (A @ y)) + noise(B)


@gaussian_closure(state="x[d]")
def two_heads(x, y):
    return average(V @ y, exp((A @ x) @ y)) + average(W @ y, exp((B @ x) @ y)) - x / 2


@gaussian_closure(state="x[d]")
def pushed(x, y):
    return average(V @ y + y * y, exp((A @ x) @ y))


@gaussian_closure(state="x[d]", keys="y[e]")
def cross(x, y):
    return average(U @ y, exp(x @ (C @ y)))


@gaussian_closure(state="x[d]")
def plain_exponential(x, y):
    return integral(V @ y, exp((A @ x) @ y - x @ x))


def far(array):
    return alpha / 2 * squared_norm(array)


"""

MOMENTS = {
    "softmax, control of the product": ("softmax_in_A", "A[d, d]", "V[d, d]", "A=A, V=V", True),
    "L2": ("l2", "V[d, d]", "Q[k, d], K[k, d]", "Q=Q, K=K, V=V, eps=eps", True),
    "L2, queries": ("l2", "Q[k, d]", "V[d, d], K[k, d]", "Q=Q, K=K, V=V, eps=2", True),
    "linear with noise": ("noisy_linear", "V[d, d]", "A[d, d], B[d, d]", "A=A, B=B, V=V", True),
    "two heads": (
        "two_heads", "V[d, d], W[d, d]", "A[d, d], B[d, d]", "A=A, B=B, V=V, W=W", True
    ),
    "one matrix twice": ("two_heads", "V[d, d]", "A[d, d]", "A=A, B=A.T, V=V, W=V @ A", True),
    "cross": (
        "cross", "U[d, e]", "C[d, e], kappa[e], Sigma[e, e] symmetric",
        "C=C, U=U, key_mean=kappa, key_cov=Sigma", True
    ),
    "not normalised: projected": ("plain_exponential", "V[d, d]", "A[d, d]", "A=A, V=V", False),
}  # fmt: skip


def _derive(folder: Path, text: str) -> OptimalControl:
    file = folder / "user_model.py"
    file.write_text(HEAD + text, encoding="utf-8")
    entry = next(e for e in entries(file) if e.method == "optimal_control")
    return derive(load(entry))


def _moments(closure: str, control: str, data: str, given: str) -> str:
    controls = [c.split("[")[0].strip() for c in re.split(r",(?![^\[]*\])", control)]
    names = [c.split("[")[0].strip() for c in re.split(r",(?![^\[]*\])", data)]
    effort = " + ".join(f"beta * squared_norm({c})" for c in controls)
    return f'''
@optimal_control(state="m[d], S[d, d] symmetric", control="{control}", data="{data}")
def steer(m, S, {", ".join(controls + names)}):
    rates = moment_rates({closure}, m, S, {given})
    return problem(dynamics=rates, running=far(m) + far(S) + {effort})
'''


@pytest.mark.parametrize("name", MOMENTS)
def test_rates_of_mean_and_covariance_are_those_of_the_text(name: str, tmp_path: Path) -> None:
    """The step "closure" compares with quadrature of the text; the others differentiate."""
    *words, exact = MOMENTS[name]
    result = _derive(tmp_path, _moments(*words))
    residuals = {s.name: s.check.residual for s in result.steps if s.check}
    assert residuals["closure"] < 1e-11, residuals
    assert all(s.check is None or s.check.passed for s in result.steps), residuals
    said = " ".join(result.facts)
    assert ("exact closure" in said) == exact
    assert ("projected closure" in said) == (not exact)


def test_a_wrong_rate_is_seen_by_the_quadrature(tmp_path: Path) -> None:
    from dataclasses import replace

    result = _derive(tmp_path, _moments(*MOMENTS["L2"][:4]))
    at = instances.tame_point(result.model, 0)
    g = result.algebra
    for position in (0, 1):
        rates = list(result.equations["state_rate"])
        rates[position] = g.scale(sp.Rational(1001, 1000), rates[position])
        broken = replace(result, equations={**result.equations, "state_rate": tuple(rates)})
        assert checks.closure_residual(broken, at) > 100 * instances.TOLERANCE


def test_a_covariance_alone_needs_a_mean_that_rests(tmp_path: Path) -> None:
    text = """
@optimal_control(state="S[d, d] symmetric", control="V[d, d]", data="A[d, d]")
def steer(S, V, A):
    rate = covariance_rate(softmax_in_A, S, A=A, V=V)
    return problem(dynamics=rate, running=far(S) + beta * squared_norm(V))
"""
    result = _derive(tmp_path, text)
    assert any("the mean stays zero" in f for f in result.facts)
    with pytest.raises(Refusal, match="leaves zero and moves the covariance.*take both as states"):
        _derive(tmp_path, text.replace("softmax_in_A", "pushed"))


PARTICLES = {
    "softmax": ("softmax_in_A", "A[d, d]", "A=A, V=V", "A[d, d]"),
    "L2": ("l2", "Q[k, d], K[k, d]", "Q=Q, K=K, V=V, eps=eps", ""),
    "linear": ("noiseless", "A[d, d]", "A=A, V=V", ""),
    "sigmoid": ("sigmoid_closure", "Q[k, d], K[k, d]", "Q=Q, K=K, V=V, bias=-1", ""),
    "plain exponential": ("plain_exponential", "A[d, d]", "A=A, V=V", ""),
    "two heads": ("two_heads", "A[d, d], B[d, d], W[d, d]", "A=A, B=B, V=V, W=W", ""),
    "keys and queries mixed": ("mixed", "A[d, d]", "A=A, V=V", ""),
}
MORE = """
@gaussian_closure(state="x[d]")
def noiseless(x, y):
    return integral(V @ y, x @ (A @ y))


@gaussian_closure(state="x[d]")
def mixed(x, y):
    gap = tanh(V @ y) - 2 * x + 1
    weight = (1 + (x @ A @ y) ** 2) * exp(-(gap @ gap))
    return average(V @ gap - y * y, weight) + (x @ x) * tanh(A @ x)

"""


@pytest.mark.parametrize("where", ["", " on sphere"])
@pytest.mark.parametrize("name", PARTICLES)
def test_particles_are_those_of_the_text(name: str, where: str, tmp_path: Path) -> None:
    """Every step compares with the closure's text run on the points, token by token."""
    closure, data, given, _ = PARTICLES[name]
    names = ", ".join(c.split("[")[0].strip() for c in re.split(r",(?![^\[]*\])", data))
    rate = f"particle_velocity({closure}, x, {given})"
    result = _derive(
        tmp_path,
        f'''{MORE}
@optimal_control(state="x[n, d]{where}", control="V[d, d]", data="{data}")
def steer(x, V, {names}):
    rate = {f"project(x, {rate})" if where else rate}
    return problem(dynamics=rate, running=(cos(x)).sum() + beta * squared_norm(V))
''',
    )
    residuals = {s.name: s.check.residual for s in result.steps if s.check}
    assert max(residuals.values()) < 1e-11, residuals
    assert any(f"particles of {closure}" in f for f in result.facts)


def test_softmax_particles_are_the_sum_over_tokens(tmp_path: Path) -> None:
    """A is not symmetric: <A x_i, x_j> and <x_i, A x_j> differ."""
    result = _derive(
        tmp_path,
        """
@optimal_control(state="x[n, d]", control="V[d, d]", data="A[d, d]")
def steer(x, V, A):
    rate = particle_velocity(softmax_in_A, x, A=A, V=V)
    return problem(dynamics=rate, running=far(x) + beta * squared_norm(V))
""",
    )
    at = instances.point(result.model, 4)
    x, V, A = (at.arrays[n] for n in "xVA")
    assert np.abs(A - A.T).max() > 0.1
    (found,) = instances.evaluate(result, "state_rate", at)
    for i in range(len(x)):
        weights = np.array([np.exp((A @ x[i]) @ x[j]) for j in range(len(x))])
        np.testing.assert_allclose(found[i], V @ (weights @ x) / weights.sum(), atol=1e-12)


def test_keys_with_points_of_their_own(tmp_path: Path) -> None:
    result = _derive(
        tmp_path,
        """
@optimal_control(state="x[n, d]", control="U[d, e]", data="C[d, e], y[l, e]")
def steer(x, U, C, y):
    rate = particle_velocity(cross, x, keys=y, C=C, U=U)
    return problem(dynamics=rate, running=far(x) + beta * squared_norm(U))
""",
    )
    assert all(s.check is None or s.check.residual < 1e-12 for s in result.steps)


PROBLEM = """
@optimal_control(state="{state}", control="V[d, d]", data="{data}")
def steer({names}, V, {data_names}):
    return problem(
        dynamics={dynamics},
        running=far({names}) + beta * squared_norm(V),
    )
"""


def _bad(dynamics: str, data: str = "A[d, d]", state: str = "S[d, d] symmetric") -> str:
    names = ", ".join(c.split("[")[0].strip() for c in re.split(r",(?![^\[]*\])", data))
    return PROBLEM.format(
        state=state, data=data, names=state[0], data_names=names, dynamics=dynamics
    )


POINTS = "x[n, d]"
BAD = {
    "K^T Q asked of a definition in Q and K": (
        _bad("covariance_rate(softmax_closure, S, A=A, V=V)"),
        "softmax_closure has no A; it is written in Q, K, V.*write the definition in that product",
    ),
    "a matrix is missing": (
        _bad("covariance_rate(softmax_in_A, S, A=A)"), "written in A, V; give V=..."
    ),
    "a name with a typing error": (
        _bad("covariance_rate(softmax_closure, S, Q=A, K=A, v=V)"), "has no v.*did you mean V"
    ),
    "a law of keys that the closure lacks": (
        _bad("covariance_rate(softmax_in_A, S, A=A, V=V, key_mean=A)"), "has no key_mean"
    ),
    "shapes that do not fit": (
        _bad("covariance_rate(softmax_in_A, S, A=A, V=V)", "A[d, e]"),
        r"A has shape \(d, e\), but the dimension d of softmax_in_A is d elsewhere",
    ),
    "a vector for a matrix": (
        _bad("covariance_rate(softmax_in_A, S, A=A, V=V)", "A[d]"), "asks for (d, d)"
    ),
    "a covariance that is not symmetric": (
        _bad("covariance_rate(softmax_in_A, S, A=A, V=V)", state="S[d, d]"), "not symmetric by form"
    ),
    "a number out of its range": (
        _bad("covariance_rate(l2, S, Q=A, K=A, V=V, eps=-1)"), "eps=-1 is outside its range"
    ),
    "a parameter that is an array": (
        _bad("covariance_rate(l2, S, Q=A, K=A, V=V, eps=trace(A))"), "eps is a parameter of l2"
    ),
    "a number for a matrix": (
        _bad("covariance_rate(softmax_in_A, S, A=2, V=V)"), "takes a matrix there"
    ),
    "sigmoid": (
        _bad("covariance_rate(sigmoid_closure, S, Q=A, K=A, V=V, bias=0)"),
        "integral over the Fourier transform of sigmoid.*particle_velocity",
    ),
    "sinkhorn": (
        _bad("covariance_rate(sinkhorn_closure, S, Q=A, K=A, V=V, eps=1)"), "eigenvalues of"
    ),
    "masked": (
        _bad("covariance_rate(masked_softmax_closure, S, Q=A, K=A, V=V)"), "one law for each"
    ),
    "heads in stacks": (
        _bad("covariance_rate(multihead_softmax_closure, S, Q=A, K=A, V=V, W=A)"),
        r"asks for \(H, d_k, d\)",
    ),
    "a random network": (
        _bad("covariance_rate(shaped_attention, S)"), "is a covariance_sde.*deterministic"
    ),
    "no definition at all": (_bad("covariance_rate(A, S)"), "takes a gaussian_closure definition"),
    "a matrix of the closure, not taken": (
        _bad("V @ S + S @ V.T + B + B.T"), "B is a matrix of a velocity field.*control or data"
    ),
    "particles with noise": (
        _bad("particle_velocity(noisy_linear, x, A=A, B=A, V=V)", state=POINTS), "has noise"
    ),
    "particles of a bistochastic attention": (
        _bad("particle_velocity(sinkhorn_closure, x, Q=A, K=A, V=V, eps=1)", state=POINTS),
        "limit of an iteration",
    ),
    "keys that are the tokens": (
        _bad("particle_velocity(softmax_in_A, x, keys=x, A=A, V=V)", state=POINTS), "leave out keys"
    ),
    "no keys": (_bad("particle_velocity(cross, x, C=A, U=V)", state=POINTS), "give keys"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refusals_say_why_and_where(name: str, tmp_path: Path) -> None:
    text, words = BAD[name]
    with pytest.raises(DefinitionError) as caught:
        _derive(tmp_path, text)
    if "(d, d)" in words:
        words = re.escape(words)
    assert re.search(words, caught.value.message), caught.value.message
    place = caught.value.place
    assert place is not None and place.file.endswith("user_model.py"), caught.value
    assert place.line > HEAD.count("\n"), caught.value
