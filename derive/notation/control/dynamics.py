"""The definition of an attention gives a control problem its dynamics.

Input: a `gaussian_closure` definition, the state, and arrays for the definition's matrices by
name.  Output: arrays to give to `problem(dynamics=...)`.

>>> @optimal_control(state="S[d, d] symmetric", control="V[d, d]", data="A[d, d], goal[d, d]")
... def steer(S, V, A, goal):
...     rate = covariance_rate(attention, S, V=V, A=A)
...     return problem(dynamics=rate, running=squared_norm(S - goal) + squared_norm(V))

The rates of mean and covariance are not written here: a node stands for them, which
`derive.methods.optimal_control.moment_dynamics` replaces by what the closure's derivation gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp

from derive.errors import DefinitionError, Place, Refusal, user_place
from derive.notation.closures.model import ClosureModel, ClosureTrace, trace_closure
from derive.notation.closures.numeric import Cloud, run
from derive.notation.closures.particles import velocities
from derive.notation.common.arrays import Array, exact, lift, node, show_shape, walk
from derive.notation.common.names import nearest
from derive.notation.common.tracing import current


@dataclass(frozen=True, eq=False)
class Rate:
    """What a node "moment_rate" stands for: d/dt of the mean or of the covariance.

    `names`: what its arguments are, in order: m, S, the definition's matrices.  `symbols`: the
    definition's sizes and parameters in terms of the problem's.
    """

    closure: ClosureModel
    which: str
    names: tuple[str, ...]
    symbols: tuple[tuple[sp.Symbol, sp.Expr], ...]
    place: Place | None = field(default=None)


def moment_rates(closure: Any, mean: Any, covariance: Any, **given: Any) -> Any:
    """(m', S') of a Gaussian law of tokens N(m, S) that move with the definition's velocity.

    **Arguments:** `closure`: a `gaussian_closure` definition.  `mean`: (d,).  `covariance`: (d, d),
    symmetric.  `given`: an array for each matrix of the definition and a scalar for each of its
    parameters, by name; for keys with a law of their own also `key_mean`, `key_cov`.
    """
    _closure(closure, "moment_rates")
    if not isinstance(covariance, Array):
        return _numeric_rates(closure, mean, covariance, given)
    return (
        _rate(closure, "mean", mean, covariance, given, "moment_rates"),
        _rate(closure, "covariance", mean, covariance, given, "moment_rates"),
    )


def covariance_rate(closure: Any, covariance: Any, **given: Any) -> Any:
    """S' of a Gaussian law of tokens N(0, S); refused where the mean would leave zero.

    **Arguments:** as for `moment_rates`.
    """
    _closure(closure, "covariance_rate")
    if not isinstance(covariance, Array):
        nowhere = np.zeros(np.shape(covariance)[-1])
        return _numeric_rates(closure, nowhere, covariance, given)[1]
    return _rate(closure, "covariance", None, covariance, given, "covariance_rate")


def particle_velocity(closure: Any, points: Any, *, keys: Any = None, **given: Any) -> Any:
    """Velocities (n, d) of tokens at `points` (n, d) under the empirical law of the tokens.

    Tokens with positions stand in the order of their rows.

    **Arguments:** `closure`: a `gaussian_closure` definition.  `points`: the tokens.  `keys`:
    (n_k, d_k), for a definition whose keys have a law of their own.  `given`: as for
    `moment_rates`.
    """
    _closure(closure, "particle_velocity")
    if closure.cross != (keys is not None):
        raise DefinitionError(
            f"the keys of {closure.name} have a law of their own: give keys=..."
            if closure.cross
            else f"the keys of {closure.name} are its tokens: leave out keys=..."
        )
    keys = points if keys is None else keys
    if not isinstance(points, Array):
        return _numeric_velocity(closure, points, keys, given)
    trace = _traced(closure, "particle_velocity")
    for word, array in (("points", points), ("keys", keys)):
        if array.ndim != 2:
            raise DefinitionError(
                f"{word} has shape {show_shape(array.shape)}; particles are rows of an array (n, d)"
            )
    arrays, symbols = _matched(
        trace,
        [
            ("points", (closure.state_dim,), points.shape[1:]),
            ("keys", (closure.key_dim,), keys.shape[1:]),
        ],
        given,
        laws=False,
    )  # fmt: skip
    try:
        return velocities(trace, points, keys, arrays, symbols)
    except Refusal as problem:
        raise Refusal(f"{closure.name}: {problem.message}", user_place()) from None


def _closure(closure: Any, word: str) -> None:
    if isinstance(closure, ClosureModel):
        if closure.second:
            raise Refusal(
                f"{closure.name} averages over two keys, and {word} is written for one; write its "
                "dynamics out"
            )
        if closure.centred and word == "moment_rates":
            raise Refusal(
                f"{closure.name} has a mean of zero by definition: covariance_rate(...) is its rate"
            )
        return
    method = getattr(closure, "method", None)
    if method == "covariance_sde":
        raise Refusal(
            f"{closure.name} is a covariance_sde: the covariance of a random network follows a "
            "stochastic equation, and a control problem has deterministic dynamics; "
            f"{word} takes a gaussian_closure definition"
        )
    shown = f"{closure.name}, a definition for {method}" if method else repr(closure)
    raise DefinitionError(f"{word} takes a gaussian_closure definition, not {shown}")


def _traced(closure: ClosureModel, word: str) -> ClosureTrace:
    if closure.positional and word != "particle_velocity":
        raise Refusal(
            f"{closure.name} has tokens with positions, one law for each of them; the state of "
            f"{word} is one law. Its particles can be controlled, in the order of their rows: "
            "particle_velocity(...)"
        )
    return trace_closure(closure)


def _rate(
    closure: ClosureModel,
    which: str,
    mean: Any,
    covariance: Array,
    given: Mapping[str, Any],
    word: str,
) -> Array:
    trace = _traced(closure, word)
    d = closure.state_dim
    shapes: list[Any] = [("covariance", (d, d), covariance.shape)]
    laws: list[tuple[str, Array]] = []
    if mean is not None:
        mean = lift(mean)
        shapes.insert(0, ("mean", (d,), mean.shape))
        laws.append(("m", mean))
    laws.append(("S", covariance))
    arrays, symbols = _matched(trace, shapes, given, laws=True)
    named = [*laws, *arrays.items()]
    rate = Rate(
        closure, which, tuple(n for n, _ in named), tuple(symbols.items()), user_place()
    )  # fmt: skip
    size = covariance.shape[0]
    shape = (size,) if which == "mean" else (size, size)
    return node("moment_rate", tuple(a for _, a in named), shape, rate)


def _matched(
    trace: ClosureTrace,
    shapes: list[tuple[str, tuple[sp.Symbol, ...], tuple[sp.Expr, ...]]],
    given: Mapping[str, Any],
    *,
    laws: bool,
) -> tuple[dict[str, Array], dict[sp.Symbol, sp.Expr]]:
    """Arrays for the matrices, and the definition's symbols in terms of the problem's."""
    closure = trace.model
    wanted: dict[str, tuple[sp.Symbol, ...]] = {m.data: m.shape for m in trace.used}
    if closure.cross and laws:
        e = closure.key_dim
        wanted |= {"key_mean": (e,), "key_cov": (e, e)}
    scalars = {q.name: q for q in closure.params if q in _symbols(trace)}
    _check_names(closure, wanted, scalars, given)
    symbols: dict[sp.Symbol, sp.Expr] = {}
    arrays: dict[str, Array] = {}
    for name in wanted:
        value = given[name]
        if not isinstance(value, Array):
            raise DefinitionError(f"{name}={value!r}: {closure.name} takes a matrix there")
        arrays[name] = value
        shapes = [*shapes, (name, wanted[name], value.shape)]
    for name, own, shape in shapes:
        if len(own) != len(shape):
            raise DefinitionError(
                f"{name} has shape {show_shape(shape)}, but {closure.name} asks for "
                f"{show_shape(own)}"
            )
        for dim, size in zip(own, shape, strict=True):
            if symbols.setdefault(dim, size) != size:
                raise DefinitionError(
                    f"{name} has shape {show_shape(shape)}, but the dimension {dim} of "
                    f"{closure.name} is {symbols[dim]} elsewhere"
                )
    for name, symbol in scalars.items():
        value = given[name]
        if isinstance(value, Array):
            raise Refusal(
                f"{name} is a parameter of {closure.name}, and stands in coefficients of the "
                "derived rates; give a number or a declared parameter, not an array"
            )
        symbols[symbol] = exact(value)
        if symbol.is_positive and symbols[symbol].is_nonpositive:
            raise DefinitionError(f"{name}={value} is outside its range ({symbol.range.text})")
    return arrays, symbols


def _symbols(trace: ClosureTrace) -> set[sp.Symbol]:
    out: set[sp.Symbol] = set()
    for root in (trace.velocity, *trace.noises):
        for a in walk(root):
            if a.op == "full":
                out |= sp.sympify(a.data).free_symbols
            elif a.op == "function":
                out |= a.data[1].expr.free_symbols
    return out


def _check_names(
    closure: ClosureModel,
    wanted: Mapping[str, tuple[sp.Symbol, ...]],
    scalars: Mapping[str, sp.Symbol],
    given: Mapping[str, Any],
) -> None:
    known = [*wanted, *scalars]
    for name in given:
        if name not in known:
            near = nearest(name, known) or "".join(
                f" (did you mean {k}?)" for k in known if k.lower() == name.lower()
            )
            raise DefinitionError(
                f"{closure.name} has no {name}; it is written in {', '.join(known) or 'nothing'}"
                + (
                    near
                    or f"; to control a product of its matrices (A = K^T Q, say), write the "
                    f"definition in that product, exp(y @ ({name} @ x)) for instance"
                )
            )
    missing = [n for n in known if n not in given]
    if missing:
        raise DefinitionError(
            f"{closure.name} is written in {', '.join(known)}; give "
            + ", ".join(f"{n}=..." for n in missing)
        )


# on plain arrays: what the closure's method says of the moments, and the text run on particles


def _numeric_rates(closure: ClosureModel, mean: Any, cov: Any, given: Mapping[str, Any]) -> Any:
    rates = current().rates
    if rates is None:
        raise DefinitionError("rates on plain arrays are read by the method optimal_control alone")
    return rates(closure, mean, cov, given)


def _numeric_velocity(
    closure: ClosureModel, points: Any, keys: Any, given: Mapping[str, Any]
) -> np.ndarray:
    clouds = [
        Cloud(np.asarray(c), np.full(len(c), 1 / len(c)), np.arange(len(c))) for c in (points, keys)
    ]
    arrays = {n: np.asarray(v) for n, v in given.items() if np.ndim(v)}
    params = {q.name: given.get(q.name, 1.0) for q in closure.params}
    return run(closure, *clouds, arrays=arrays, params=params)
