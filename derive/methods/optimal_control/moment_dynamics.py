"""Rates of mean and covariance in a control problem, from the derivation of a Gaussian closure.

Input: nodes "moment_rate" of a definition (see `derive.notation.control.dynamics`).  Output: the
derived rates as array expressions, and what may be said of them: exact, or those of a projected
closure.

A closure whose verdict is undecided is refused by its own derivation; one whose rates need a
quadrature or the eigenvalues of a matrix is refused here, with that reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import sympy as sp

from derive.calculus.arrays.algebra import Algebra
from derive.calculus.arrays.from_index import Arrays, NoArray
from derive.calculus.index.defined import depends
from derive.calculus.index.defined_values import value
from derive.calculus.index.expressions import Expression
from derive.errors import DefinitionError, Refusal
from derive.methods.gaussian_closure.clouds import hermite_cloud
from derive.methods.gaussian_closure.derivation import derive
from derive.methods.gaussian_closure.result import CLOSED, FOURIER, GaussianClosure, cov_rate
from derive.notation.closures.model import ClosureModel
from derive.notation.closures.numeric import run
from derive.notation.common.arrays import Array, walk
from derive.notation.control.dynamics import Rate
from derive.notation.control.numeric import run_problem as run_text


@lru_cache(maxsize=64)
def closure_of(model: ClosureModel) -> GaussianClosure:
    return derive(model)


@dataclass(frozen=True)
class ReplacedRates:
    """The nodes replaced, the closures that were derived, and facts about them."""

    roots: list[Array]
    closures: tuple[GaussianClosure, ...]
    facts: tuple[str, ...]


def expand(g: Algebra, roots: list[Array]) -> ReplacedRates:
    """Replace every rate in interned expressions by what its closure's derivation gives."""
    nodes: list[Array] = []
    for root in roots:
        nodes += [a for a in walk(root) if a.op == "moment_rate" and a not in nodes]
    known: dict[Array, Array] = {}
    made: dict[tuple[Any, ...], _ClosureRates] = {}
    facts: list[str] = []
    for node in nodes:
        rate: Rate = node.data
        args = g.rebuild(list(node.args), known)
        key = (rate.closure, tuple(rate.names), tuple(args), rate.symbols)
        if key not in made:
            made[key] = _ClosureRates(g, rate, args)
            facts += made[key].facts
        known[node] = made[key].rate(rate.which)
        name = g.names.get(node)
        if name:
            g.names.setdefault(g.split(known[node])[1], name)
    closures = tuple(dict.fromkeys(m.closure for m in made.values()))
    return ReplacedRates(g.rebuild(roots, known), closures, tuple(dict.fromkeys(facts)))


class _ClosureRates:
    """The rates of one closure at one law."""

    def __init__(self, g: Algebra, rate: Rate, args: list[Array]) -> None:
        self.g, self.of = g, rate
        self.closure = closure_of(rate.closure)
        given = dict(zip(rate.names, args, strict=True))
        for name in ("S", "key_cov"):
            if name in given and not g.is_symmetric(given[name]):
                raise DefinitionError(
                    f"the covariance of {rate.closure.name} is not symmetric by form; declare it: "
                    '"S[d, d] symmetric"',
                    rate.place,
                )
        symbols = dict(rate.symbols)
        d = given["S"].shape[0]
        self.at_rest = "m" not in given
        mean = given.get("m", g.full((d,), sp.Integer(0)))
        self._refuse_routes()
        self.arrays = Arrays(g, self.closure.book, {**given, "m": mean}, symbols)
        self.mean_rate = self._array(self.closure.mean_rate)
        self.gradient = self._array(self.closure.jacobian)
        noise = self.closure.noise
        self.noise = None if noise is None else self._array(noise)
        facts = [self._verdict()]
        if self.at_rest:
            facts.append(self._stays(given, symbols))
        self.facts = tuple(facts)

    def _refuse_routes(self) -> None:
        closure = self.closure
        if closure.route == CLOSED:
            return
        why = (
            "contain an integral over the Fourier transform of "
            + ", ".join(w.rule.name for w in closure.waves)
            if closure.route == FOURIER
            else "need a cubature over the law of the tokens"
        )
        raise Refusal(self._refused(why), self.of.place)

    def _refused(self, why: str) -> str:
        return (
            f"the rates of {self.of.closure.name} {why}; the dynamics of a control problem are "
            "array expressions in closed form. Its particles can be controlled: "
            "particle_velocity(...)"
        )

    def _array(self, expression: Expression) -> Array:
        try:
            return self.arrays.of(expression)
        except NoArray as problem:
            raise Refusal(self._refused(f"contain {problem}"), self.of.place) from None

    def _verdict(self) -> str:
        closure = self.closure
        if closure.exact:
            return f"{closure.model.name}: exact closure, Gaussian laws stay Gaussian"
        return (
            f"{closure.model.name}: projected closure; the velocity is not affine, and mean and "
            "covariance are those of the Gaussian projection, not of the particles"
        )

    def _stays(self, given: Mapping[str, Array], symbols: Mapping[sp.Symbol, sp.Expr]) -> str:
        """A law without mean stays without mean, or its covariance does not feel the mean."""
        name = self.of.closure.name
        if self.g.is_zero(self.mean_rate):
            return f"{name}: the mean stays zero, m' = 0 at m = 0"
        mean = self.closure.names.mean
        rate = cov_rate(self.closure)
        if not depends(rate, mean, self.closure.book):
            return f"{name}: the rate of the covariance does not depend on the mean"
        raise Refusal(
            f"the mean of {name} leaves zero and moves the covariance; take both as states: "
            'state="m[d], S[d, d] symmetric", dynamics=moment_rates(..., m, S, ...)',
            self.of.place,
        )

    def rate(self, which: str) -> Array:
        if which == "mean":
            return self.mean_rate
        g = self.g
        drift = g.matmul(self.gradient, self.arrays.given["S"])
        core = g.split(drift)[1]
        if core.op not in ("leaf", "full", "eye"):
            g.names.setdefault(core, "drift")
        out = g.add(drift, g.transpose(drift))
        return out if self.noise is None else g.add(out, self.noise)


# on plain arrays


def numeric_rates(
    model: ClosureModel, mean: Any, cov: Any, given: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """(m', S') on NumPy arrays, complex ones too: the value of the derived expressions.

    These expressions are checked against quadrature of the text when they are derived.
    """
    mean, cov, arrays, params = _as_arrays(model, mean, cov, given)
    closure = closure_of(model)
    sizes = _sizes(closure, arrays)
    sizes[model.state_dim.name] = len(mean)
    if model.cross:
        sizes[model.key_dim.name] = len(arrays["key_mean"])
    numbers = {q: params[q.name] for q in model.params}
    arrays |= {"m": mean, "S": cov}
    first, gradient = (
        value(e, closure.book, arrays, sizes, numbers)
        for e in (closure.mean_rate, closure.jacobian)
    )
    second = gradient @ cov
    second = second + second.T
    if closure.noise is not None:
        second = second + value(closure.noise, closure.book, arrays, sizes, numbers)
    return first, second


#: a problem's text on NumPy arrays: `run_text` with these rates
run_problem = partial(run_text, rates=numeric_rates)


def _as_arrays(
    model: ClosureModel, mean: Any, cov: Any, given: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], dict[str, float]]:
    arrays = {n: np.asarray(v) for n, v in given.items() if np.ndim(v)}
    # parameters of the file that the definition does not use are not given
    params = {q.name: float(given.get(q.name, 1.0)) for q in model.params}
    return np.asarray(mean), np.asarray(cov), arrays, params


def _sizes(closure: GaussianClosure, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    return {
        dim.name: size
        for matrix in closure.trace.used
        for dim, size in zip(matrix.shape, arrays[matrix.data].shape, strict=True)
    }


def rates_by_text(
    model: ClosureModel, mean: Any, cov: Any, given: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """(m', S') on real NumPy arrays of moderate size, by quadrature of the definition's text.

    m' = E v, S' = E (x - m) v^T + its transpose, v from the text; noise by its own matrix.
    """
    mean, cov, arrays, params = _as_arrays(model, mean, cov, given)
    nodes = {1: (24, 40), 2: (14, 26), 3: (7, 13)}[min(3, len(mean))]
    queries = hermite_cloud(mean, cov, nodes[0])
    names = ("key_mean", "key_cov")
    key_mean, key_cov = (arrays[n] for n in names) if model.cross else (mean, cov)
    keys = hermite_cloud(key_mean, key_cov, nodes[1])
    velocity = run(model, queries, keys, arrays=arrays, params=params)
    first = queries.weight @ velocity
    cross = (queries.weight[:, None] * (queries.at - mean)).T @ velocity
    second = cross + cross.T
    closure = closure_of(model)
    if closure.noise is not None:  # a matrix of the definition, not a mean
        sizes = _sizes(closure, arrays)
        numbers = {q: params[q.name] for q in model.params}
        second = second + value(closure.noise, closure.book, dict(arrays), sizes, numbers)
    return first, second
