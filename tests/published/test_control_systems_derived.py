"""The derived and emitted first-order systems against systems worked out by hand.

The matrices are not symmetric, so a transposed query or key shows.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import turnpike_theorems as theorem

N, D = 4, 3
SEEDS = (0, 1, 2)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"derive.generated.{name}")


def _close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    expected = np.asarray(expected)
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    assert np.shape(found) == expected.shape
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=tolerance * scale)


def _symmetric(rng: np.random.Generator, d: int) -> np.ndarray:
    S = rng.standard_normal((d, d))
    return S @ S.T / d + np.eye(d) / 2


@pytest.fixture(autouse=True)
def _double() -> Any:
    import jax

    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("seed", SEEDS)
def test_mean_tracking(seed: int) -> None:
    k = 2
    rng, mod = np.random.default_rng(seed), _module("mean_tracking")
    c = {
        "G": rng.standard_normal((D, D)),
        "B": rng.standard_normal((D, k)),
        "goal": rng.standard_normal(D),
        "Q_cost": _symmetric(rng, D),
        "R_cost": _symmetric(rng, k),
        "Q_end": _symmetric(rng, D),
        "m_end": rng.standard_normal(D),
    }
    m, p, u = rng.standard_normal(D), rng.standard_normal(D), rng.standard_normal(k)
    known = theorem.mean(m, p, c)
    params = mod.Params(**c)
    x, q, v = mod.State(m), mod.Costate(p), mod.Control(u)
    _close(mod.state_rate(x, v, params).m, c["G"] @ m + c["B"] @ u)
    _close(mod.costate_rate(x, q, v, params).m, known["costate_rate"])
    _close(mod.control(x, q, params).u, known["control"])
    _close(mod.terminal_rate(x, params).m, known["end"])
    _close(mod.stationarity(x, q, v, params).u, c["R_cost"] @ u + c["B"].T @ p)


@pytest.mark.parametrize("seed", SEEDS)
def test_neural_ode_tracking(seed: int) -> None:
    rng, mod = np.random.default_rng(seed), _module("neural_ode_tracking")
    c = {
        "alpha": 1.7,
        "beta": 0.3,
        "goal": rng.standard_normal((N, D)),
        "W_ref": rng.standard_normal((D, D)),
    }
    x, p = 2 * rng.standard_normal((2, N, D))
    W, b = rng.standard_normal((D, D)), rng.standard_normal(D)
    known = theorem.neural_ode(x, p, W, c)
    params = mod.Params(**c)
    state, costate, control = mod.State(x), mod.Costate(p), mod.Control(W, b)
    _close(mod.costate_rate(state, costate, control, params).x, known["costate_rate"])
    law = mod.control(state, costate, params)
    _close(law.W, known["W"])
    _close(law.b, known["b"])


@pytest.mark.parametrize("seed", SEEDS)
def test_attention_tracking(seed: int) -> None:
    rng, mod = np.random.default_rng(seed), _module("attention_tracking")
    c = {
        "alpha": 0.8,
        "beta": 0.4,
        "A": rng.standard_normal((D, D)),
        "goal": rng.standard_normal((N, D)),
        "V_ref": rng.standard_normal((D, D)),
    }
    x, p = rng.standard_normal((2, N, D))
    V = rng.standard_normal((D, D))
    known = theorem.attention(x, p, V, c)
    params = mod.Params(**c)
    args = mod.State(x), mod.Costate(p)
    _close(mod.costate_rate(*args, mod.Control(V), params).x, known["costate_rate"])
    _close(mod.control(*args, params).V, known["control"])
    _close(mod.state_rate(args[0], mod.Control(V), params).x, known["mean"] @ V.T)


@pytest.mark.parametrize("seed", SEEDS)
def test_sphere_attention_tracking(seed: int) -> None:
    """On |x| = 1, x.p = 0; the normal part of p' is what keeps x.p = 0, and is checked as such."""
    rng, mod = np.random.default_rng(seed), _module("sphere_attention_tracking")
    c = {
        "alpha": 0.8,
        "beta": 0.4,
        "A": rng.standard_normal((D, D)),
        "goal": rng.standard_normal((N, D)),
        "V_ref": rng.standard_normal((D, D)),
    }
    x, p = rng.standard_normal((2, N, D))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    p -= (x * p).sum(1, keepdims=True) * x
    V = rng.standard_normal((D, D))
    known = theorem.attention(x, p, V, c, sphere=True)
    params = mod.Params(**c)
    args = mod.State(x), mod.Costate(p)
    rate = np.asarray(mod.costate_rate(*args, mod.Control(V), params).x)
    velocity = np.asarray(mod.state_rate(args[0], mod.Control(V), params).x)

    def flat(y: np.ndarray) -> np.ndarray:
        return y - (x * y).sum(1, keepdims=True) * x

    _close(velocity, flat(known["mean"] @ V.T))
    _close(flat(rate), flat(known["costate_rate"]))
    _close((x * rate).sum(1) + (velocity * p).sum(1), np.zeros(N))
    _close(mod.control(*args, params).V, known["control"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["gaussian_tracking", "gaussian_query_tracking"])
def test_covariance_tracking(name: str, seed: int) -> None:
    rng, mod = np.random.default_rng(seed), _module(name)
    V, A, ref = rng.standard_normal((3, D, D))
    S, goal = _symmetric(rng, D), _symmetric(rng, D)
    P = rng.standard_normal((D, D))
    P = P + P.T
    by_value = name == "gaussian_tracking"
    c = {"alpha": 1.1, "beta": 0.6, "goal": goal, "V_ref" if by_value else "A_ref": ref}
    known = theorem.covariance(S, P, V, A, c)
    params = mod.Params(**c, **({"A": A} if by_value else {"V": V}))
    args = mod.State(S), mod.Costate(P)
    control = mod.Control(V if by_value else A)
    _close(mod.costate_rate(*args, control, params).S, known["costate_rate"])
    _close(mod.control(*args, params)[0], known["control"])


def test_functions_take_leading_axes() -> None:
    rng, mod = np.random.default_rng(5), _module("attention_tracking")
    params = mod.Params(
        0.8, np.array([0.4, 0.7]), *rng.standard_normal((1, D, D)),
        rng.standard_normal((N, D)), rng.standard_normal((D, D)),
    )  # fmt: skip
    x, p = rng.standard_normal((2, 5, 2, N, D))
    V = rng.standard_normal((D, D))
    whole = mod.costate_rate(mod.State(x), mod.Costate(p), mod.Control(V), params).x
    assert whole.shape == (5, 2, N, D)
    for i in range(5):
        for j in range(2):
            one = params._replace(beta=params.beta[j])
            part = mod.costate_rate(mod.State(x[i, j]), mod.Costate(p[i, j]), mod.Control(V), one).x
            _close(whole[i, j], part)
            law = mod.control(mod.State(x), mod.Costate(p), params).V
            _close(law[i, j], mod.control(mod.State(x[i, j]), mod.Costate(p[i, j]), one).V)


# the linearised system at a static optimum, built from the blocks alone


def _basis(shape: tuple[int, ...], kind: str, at: np.ndarray) -> list[np.ndarray]:
    out = []
    if kind == "sphere":
        for i, row in enumerate(at):
            tangent = np.linalg.svd(row[None])[2][1:]
            for t in tangent:
                E = np.zeros(shape)
                E[i] = t
                out.append(E)
        return out
    for index in np.ndindex(*shape):
        E = np.zeros(shape)
        E[index] = 1.0
        if kind == "symmetric":
            if index[0] < index[1]:
                continue
            E = E + E.T
            E /= np.linalg.norm(E)
        out.append(E)
    return out


def rates(mod: ModuleType, x: Any, p: Any, u: Any, params: Any) -> np.ndarray:
    """Positive real parts of the spectrum of the linearised system, sorted."""
    kinds = {
        **dict.fromkeys(mod._SPEC.symmetric, "symmetric"),
        **dict.fromkeys(mod._SPEC.sphere, "sphere"),
    }
    (name,) = mod.State._fields
    states = [mod.State(E) for E in _basis(x[0].shape, kinds.get(name, ""), x[0])]
    controls = []
    for k, field in enumerate(u):
        for E in _basis(np.shape(field), "", field):
            parts = [np.zeros_like(f) for f in u]
            parts[k] = E
            controls.append(mod.Control(*parts))

    def dense(rows: list[Any], columns: list[Any], apply: Any) -> np.ndarray:
        images = [apply(c) for c in columns]
        return np.array(
            [
                [sum(np.sum(np.asarray(a) * b) for a, b in zip(i, r, strict=True)) for i in images]
                for r in rows
            ]
        )

    A = dense(states, states, lambda d: mod.h_px(x, u, params, d))
    B = dense(states, controls, lambda d: mod.h_pu(x, u, params, d))
    Q = dense(states, states, lambda d: mod.h_xx(x, p, u, params, d))
    S = dense(controls, states, lambda d: mod.h_ux(x, p, u, params, d))
    R = dense(controls, controls, lambda d: mod.h_uu(x, p, u, params, d))
    inverse = np.linalg.inv(R)
    At = A - B @ inverse @ S
    M = np.block([[At, -B @ inverse @ B.T], [-(Q - S.T @ inverse @ S), -At.T]])
    values = np.linalg.eigvals(M).real
    return np.sort(values[values > 0])


def test_rates_of_a_linear_mean() -> None:
    mod = _module("mean_tracking")
    Z = np.zeros((2, 2))
    instances = [
        (2 * np.array([[0.0, 1.0], [-1.0, 0.0]]), np.array([[1.0], [0.0]]), np.array([[0.25]]),
         (1.0, 0.5), (0.0, 0.25), (0.125, -0.5), [1.35219345, 1.35219345]),
        (np.eye(2) + np.array([[0.5, 0.2], [0.2, 0.3]]) @ np.array([[1.0, 0.5], [0.0, 0.8]]),
         np.eye(2), np.diag([0.5, 2.0]), (1.0, -1.0), (0.575023, -0.317637),
         (0.366152, -0.621258), [1.43786583, 2.15456]),
    ]  # fmt: skip
    for G, B, R, goal, x, p, expected in instances:
        params = mod.Params(G, B, np.array(goal), np.eye(2), R, Z, np.zeros(2))
        state, costate = mod.State(np.array(x)), mod.Costate(np.array(p))
        control = mod.Control(np.asarray(mod.control(state, costate, params).u))
        for part in mod.static_residual(state, costate, control, params):
            _close(part[0], np.zeros_like(part[0]), 2e-6)  # six digits are printed
        _close(rates(mod, state, costate, control, params), expected, 3e-6)


def test_rates_of_a_neural_ode() -> None:
    mod = _module("neural_ode_tracking")
    goal = np.array([[1.0, 0.2], [-0.6, 0.9]])
    params = mod.Params(2.0, 0.3, goal, np.zeros((2, 2)))
    found = rates(
        mod, mod.State(goal), mod.Costate(0 * goal), mod.Control(np.zeros((2, 2)), np.zeros(2)),
        params,
    )  # fmt: skip
    _close(found, np.repeat(theorem.neural_ode_rates(goal, 2.0, 0.3), 2), 1e-9)
    _close(found[[0, -1]], [1.80019803, 2.85673104], 1e-8)


def test_rates_of_attention_with_a_query_key_matrix_that_is_not_symmetric() -> None:
    rng, mod = np.random.default_rng(8), _module("attention_tracking")
    goal, A = rng.standard_normal((3, D)), rng.standard_normal((D, D))
    params = mod.Params(0.7, 0.2, A, goal, np.zeros((D, D)))
    point = mod.State(goal), mod.Costate(0 * goal), mod.Control(np.zeros((D, D)))
    _close(rates(mod, *point, params), theorem.attention_rates(goal, A, 0.7, 0.2), 1e-7)


def test_rates_on_the_circle() -> None:
    mod = _module("sphere_attention_tracking")
    angle = np.array([0.3, 2.2, 4.1])
    goal = np.stack([np.cos(angle), np.sin(angle)], 1)
    params = mod.Params(1.0, 0.1, np.eye(2), goal, np.zeros((2, 2)))
    point = mod.State(goal), mod.Costate(0 * goal), mod.Control(np.zeros((2, 2)))
    _close(rates(mod, *point, params), [0.4967, 0.983795, 1.347649], 2e-5)


def test_rates_of_covariances() -> None:
    A0, goal = np.array([[1.0, 0.3], [-0.2, 0.8]]), np.array([[1.0, 0.4], [0.4, 0.7]])
    zero = np.zeros((2, 2))
    mod = _module("gaussian_tracking")
    point = mod.State(goal), mod.Costate(zero), mod.Control(zero)
    found = rates(mod, *point, mod.Params(1.0, 0.5, A0, goal, zero))
    _close(found, theorem.covariance_rates(goal, A0, 1.0, 0.5), 1e-9)
    _close(found, [0.43966290, 3.241513, 4.56306], 1e-5)
    mod = _module("gaussian_query_tracking")
    V = np.array([[1.0, 0.5], [-0.3, 0.8]])
    point = mod.State(goal), mod.Costate(zero), mod.Control(zero)
    found = rates(mod, *point, mod.Params(1.0, 0.5, V, goal, zero))
    _close(found, theorem.query_rates(goal, V, 1.0, 0.5), 1e-9)
    _close(found[:1], [0.59474437], 1e-8)


def test_rate_of_a_field_converges_to_the_continuum() -> None:
    """Midpoint weights: the error of the squared norm falls as n^-2."""
    mod = _module("space_time_network")
    alpha, beta = 1.3, 0.4
    exact = theorem.field_rate(_sigma_squared(), alpha, beta)
    errors = []
    for n in (6, 12, 24):
        z = (np.arange(n) + 0.5) / n
        goal = _goal(z)
        params = mod.Params(alpha, beta, np.full(n, 1 / n), goal)
        point = mod.State(goal), mod.Costate(0 * z), mod.Control(np.zeros((n, n)), 0 * z)
        found = rates(mod, *point, params)
        assert found.max() - found.min() < 1e-7
        errors.append(abs(found.mean() - exact))
    assert errors[2] < 1e-4
    assert 3.5 < errors[1] / errors[2] < 4.5


def _goal(z: np.ndarray) -> np.ndarray:
    return np.cos(3 * z) + 0.5


def _sigma_squared() -> float:
    nodes, weights = np.polynomial.legendre.leggauss(40)
    return float(np.sum(weights / 2 * np.tanh(_goal((nodes + 1) / 2)) ** 2))
