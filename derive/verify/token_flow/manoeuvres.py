"""Emitted manoeuvres beside the definition's text, run at the parameters that they give.

Durations are compared with the derived rates, integrated by quadrature; what is infinite is
compared by its inverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import sympy as sp

from derive.draws import generator
from derive.methods.token_flow import instances
from derive.methods.token_flow.instances import FlowInstance
from derive.methods.token_flow.manoeuvres import C_SPLIT, KEPT, MEAN, G, H, K, Manoeuvres, S, Z
from derive.methods.token_flow.result import TokenFlow
from derive.verify.common.compare import Target

BY_QUADRATURE = 1e-9
C = 0.3
NODES, WEIGHTS = np.polynomial.legendre.leggauss(60)
#: z0, z1 for c = C: up, down, back; the last one meets c
WAYS = np.array([[0.4, 0.9], [0.1, -0.8], [0.9, 0.5], [-0.2, 0.6]])
#: u0, u1, k, C, h: two roots of either sign of C, none, nearly a double one, roots at and near 0
#: and infinity, backwards, C = 0; the last three meet a gate closed at an end or on the way
PULLS = np.array(
    [
        [-0.5, 1.5, 0.6, 0.7, 0.2],
        [1.5, 2.5, 0.9, -0.4, 0.1],
        [-1.0, 2.0, 0.6, 0.5, -1.3],
        [-0.4, 1.2, 0.6, 0.8, -1.0 - 1e-9],
        [-1.2, 0.2, -0.5, 0.7, 0.5],
        [-0.2, 1.2, 0.5, 0.7, 0.5],
        [0.0, 1.0, 0.5, -0.3, -0.45],
        [1.0, -0.5, 0.6, 0.7, 0.0],
        [0.5, 1.5, 1.0, 0.0, 0.2],
        [-1.5, 1.5, 0.6, 0.7, 0.5],
        [-1.0, 3.0, -0.6, 0.7, 0.1],
        [-3.0, 3.0, -0.1, -0.9, -0.5],
    ]
)


def targets(
    result: TokenFlow, found: Manoeuvres, module: ModuleType, n: int, d: int, params_of: Any
) -> Iterator[Target]:
    """Every function of manoeuvres."""
    one = instances.instance(result.model, 70 + d, 2 * n, d)
    p = params_of(module, one)
    still = {t.name: np.zeros_like(one.arrays[t.name]) for t in found.levers.scores}
    right = instances.tangent(replace(one, arrays=one.arrays | still))
    yield Target("uniform_velocity", (one.x, one.mass, p), right, 1e-3)
    yield from _made(module, one, "reversed_piece", (p,), -instances.tangent(one))
    width = next((one.sizes[s.name] for s in found.levers.gate.out.spare), 1)
    rest = (width, *_numbers(result, p))
    yield from _split(module, one, rest)
    yield from _pull(module, one, rest)
    yield from _times(found)


def _numbers(result: TokenFlow, p: Any) -> list[np.ndarray]:
    """Numbers among the parameters, in their order."""
    own = result.model.state_dim.name
    return [v for name, v in p._asdict().items() if not np.ndim(v) and name != own]


def _made(
    module: ModuleType,
    one: FlowInstance,
    name: str,
    given: tuple[Any, ...],
    right: np.ndarray,
    rest: tuple[Any, ...] = (),
) -> Iterator[Target]:
    """A function that gives parameters: the text's velocity at them, and the same under jit."""
    params = getattr(module, name)(*given, *rest)
    there = instances.tangent(_under(one, params))
    yield Target(name, given, params, 1e-3, call=lambda f, *a: f(*a, *rest))
    yield Target(f"{name}, by the text", given, right, 1e-3, call=lambda f, *a: there)


def _under(one: FlowInstance, params: Any) -> FlowInstance:
    given = params._asdict()
    arrays = {k: np.asarray(given.get(k, v)) for k, v in one.arrays.items()}
    return replace(one, arrays=arrays)


def _directions(d: int) -> tuple[np.ndarray, np.ndarray]:
    pair = generator(94, d).standard_normal((2, d))
    pair /= np.linalg.norm(pair, axis=1, keepdims=True)
    return pair[0], pair[1]


def _split(module: ModuleType, one: FlowInstance, rest: tuple[Any, ...]) -> Iterator[Target]:
    alpha, _ = _directions(one.x.shape[1])
    c, z, mean = np.float64(C), one.x @ alpha, float(one.mass @ one.x @ alpha)
    right = (mean - c) * (alpha - z[:, None] * one.x)
    yield from _made(module, one, "split", (alpha, c), right, rest)
    v = instances.tangent(_under(one, module.split(alpha, c, *rest)))
    yield Target("split_rate", (z, mean, C), v @ alpha, 1e-3)


def _pull(module: ModuleType, one: FlowInstance, rest: tuple[Any, ...]) -> Iterator[Target]:
    omega, z = _directions(one.x.shape[1])
    s, g = one.x @ omega, one.x @ z
    h = np.float64(np.median(g))
    right = np.where(g > h, g - h, 0.0)[:, None] * (omega - s[:, None] * one.x)
    yield from _made(module, one, "pull", (omega, z, h), right, rest)
    v = instances.tangent(_under(one, module.pull(omega, z, h, *rest)))
    yield Target("pull_rates", (s, g, float(omega @ z), h), (v @ omega, v @ z), 1e-3)


def _times(found: Manoeuvres) -> Iterator[Target]:
    rate = sp.lambdify((Z, C_SPLIT), found.split_rate.subs(MEAN, Z), "numpy")
    z0, z1 = WAYS.T
    right = _inverse(lambda z: rate(z, C), z0, z1)
    yield Target("split_time", (z0, z1, C), right, 1e-3, BY_QUADRATURE, _inverted)
    u = sp.Symbol("u", real=True)
    height = sp.solve(found.kept - KEPT, G)[0]
    speed = (found.pull_rates[0].subs(G, height) / (1 - S**2)).subs(S, sp.tanh(u))
    fast = sp.lambdify((u, K, KEPT, H), speed, "numpy")
    u0, u1, *given = PULLS.T
    right = _inverse(lambda at: fast(at, *(v[:, None] for v in given)), u0, u1)
    yield Target("pull_time", (u0, u1, *given), right, 1e-3, BY_QUADRATURE, _inverted)


def _inverse(
    rate: Callable[[np.ndarray], np.ndarray], start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """1 / time between each start and end; zero where the rate changes its sign or vanishes."""
    at = (start + end)[:, None] / 2 + (end - start)[:, None] / 2 * NODES
    rates = np.broadcast_to(rate(at), at.shape)
    passes = (np.sign(rates) == np.sign(rates[:, :1])).all(1) & (rates != 0).all(1)
    safe = np.where(rates == 0, 1.0, rates)
    times = (end - start) / 2 * (WEIGHTS / safe).sum(1)
    return np.where(passes, 1 / times, 0.0)


def _inverted(function: Callable[..., Any], *arguments: Any) -> Any:
    return 1 / function(*arguments)
