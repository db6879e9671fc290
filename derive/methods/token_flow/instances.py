"""Numbers at which a token flow is checked, and the definition's text run on them.

Nothing of the calculus takes part in the text's side: it runs on weighted points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.defined_values import value
from derive.calculus.index.expressions import Expression
from derive.draws import generator
from derive.methods.common.parameters import sample
from derive.methods.token_flow.names import COUNT, ORDERS
from derive.notation.closures.numeric import Cloud, noise_rate, run
from derive.notation.flows.model import FlowDefinition

SCALE = 0.6  # of matrices, and of tokens in space


@dataclass(frozen=True)
class FlowInstance:
    """`x` (n, d), on the sphere if the model is; `mass` (n,) of sum one; arrays, parameters."""

    model: FlowDefinition
    x: np.ndarray
    mass: np.ndarray
    arrays: dict[str, np.ndarray]
    params: dict[str, float]

    @property
    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for m in self.model.matrices:
            found |= {s.name: k for s, k in zip(m.shape, self.arrays[m.data].shape, strict=True)}
        # arrays that the velocity does not read may have been drawn for another dimension
        return found | {COUNT.name: len(self.x), self.model.state_dim.name: self.x.shape[1]}

    @property
    def numbers(self) -> dict[sp.Symbol, float]:
        """Parameters and dimensions by symbol."""
        given = {p: self.params[p.name] for p in self.model.params}
        return given | {d: self.sizes.get(d.name, 2) for d in self.model.dims}


def instance(
    model: FlowDefinition,
    seed: int,
    tokens: int = 5,
    d: int = 3,
    equal: bool = False,
    given: Mapping[str, int] = MappingProxyType({}),
) -> FlowInstance:
    """Generic tokens, masses, matrices and parameters; heads and widths of sizes that differ.

    `equal`: all tokens have one mass; `given`: sizes by dimension that are to be these.
    """
    rng = generator(83, seed)
    sizes = {
        dim.name: d if dim == model.state_dim else 2 + position % 2
        for position, dim in enumerate(model.dims)
    } | dict(given)
    arrays = {
        m.data: SCALE * rng.standard_normal([sizes[s.name] for s in m.shape])
        for m in model.matrices
    }
    params = {p.name: float(sample(p, rng)) for p in model.params}
    x = SCALE * rng.standard_normal((tokens, d))
    mass = np.full(tokens, 1 / tokens) if equal else rng.dirichlet(3 * np.ones(tokens))
    return at_tokens(FlowInstance(model, x, mass, arrays, params), x)


def at_tokens(one: FlowInstance, x: np.ndarray, mass: np.ndarray | None = None) -> FlowInstance:
    """The same parameters with other tokens, put on the sphere if the model lives there."""
    x = on_home(one.model, x)
    return FlowInstance(one.model, x, one.mass if mass is None else mass, one.arrays, one.params)


def on_home(model: FlowDefinition, points: np.ndarray) -> np.ndarray:
    """Points (..., d) put where tokens live: on the sphere, or left in space."""
    if not model.sphere:
        return points
    return np.asarray(points / np.linalg.norm(points, axis=-1, keepdims=True))


def text_velocity(one: FlowInstance, x: np.ndarray | None = None) -> np.ndarray:
    """The text at all tokens (n, d) among all tokens with their masses; not projected."""
    at = one.x if x is None else x
    places = np.arange(float(len(at))) if one.model.positional else None
    cloud = Cloud(at, one.mass, places)
    return np.array(run(one.model, cloud, cloud, arrays=one.arrays, params=one.params))


def text_noise(one: FlowInstance) -> np.ndarray:
    """Covariance rate (d, d) of the noise by the text's own factors."""
    d = one.x.shape[1]
    found = noise_rate(one.model, arrays={**one.arrays, "m": np.zeros(d)}, params=one.params)
    return np.broadcast_to(found, (d, d)) if np.ndim(found) == 2 else np.zeros((d, d))


def tangent(one: FlowInstance, x: np.ndarray | None = None) -> np.ndarray:
    """The text's velocity, on the sphere its tangential part."""
    at = one.x if x is None else x
    v = text_velocity(one, at)
    return v - (v * at).sum(1, keepdims=True) * at if one.model.sphere else v


def text_gram_rate(one: FlowInstance) -> np.ndarray:
    """Rate of all inner products by the text."""
    half = tangent(one) @ one.x.T
    return half + half.T


def at(one: FlowInstance, expression: Expression, book: Book, **changed: np.ndarray) -> np.ndarray:
    """The value of an expression in tokens, masses, inner products; `changed`: arrays by name."""
    n = len(one.x)
    places = np.arange(n)
    arrays = {**one.arrays, "x": one.x, "mass": one.mass, "R": one.x @ one.x.T}
    orders = {"<=": np.less_equal, "<": np.less, ">=": np.greater_equal, ">": np.greater}
    for relation, name in ORDERS.items():
        arrays[f"mask_{name}"] = orders[relation](places[None, :], places[:, None]).astype(float)
    return np.asarray(value(expression, book, arrays | changed, one.sizes, one.numbers))


def simplex(one: FlowInstance, tokens: int, cosine: float, radius: float) -> FlowInstance:
    """Tokens of equal mass with all angles equal, in as many dimensions as tokens."""
    root = np.linalg.cholesky((1 - cosine) * np.eye(tokens) + cosine)
    rng = generator(84, tokens)
    turn = np.linalg.qr(rng.standard_normal((tokens, tokens)))[0]
    equal = np.full(tokens, 1 / tokens)
    return FlowInstance(one.model, radius * root @ turn, equal, one.arrays, one.params)
