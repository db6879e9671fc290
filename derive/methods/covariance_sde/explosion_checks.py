"""One-dimensional diffusions in words, read again and compared with the derived equations.

Input: the words of a scalar (its equation, and whether it explodes), drift and diffusion as index
expressions.  Output: `Check`s.  The words themselves are parsed, and nothing of the algebra that
made them takes part: drift and diffusion are evaluated at covariances of one and two tokens, Ito's
formula is applied in numbers, and Feller's test is an integral.

Feller's test: infinity is reached with positive probability iff v = int s'(x) int 2 / (s' q) dy dx
is finite there.  With u = log x and g = dv / du it reads dg/du = (1 - 2 b x / q) g + 2 x^2 / q: v
is finite iff g falls, and its slope in u tells how far the verdict is from the other one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import UNIT
from derive.draws import generator
from derive.methods.common.printed import parsed
from derive.methods.common.record import Check, worst_of
from derive.methods.covariance_sde.instances import symbols_of
from derive.methods.covariance_sde.one_dimension import Scalar
from derive.notation.common.scalars import Opaque, Param

_SEED = 611
_EDGE = 2e-3  # slopes nearer to zero than this are zero
# corrections of lower powers are 1e-4 there, and terms that cancel leave no rounding that counts
_REACH = 1e5
_STEP = 0.1  # of log x
_PLACES = 8
Numbers = dict[sp.Symbol, float]
Rates = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Chart:
    """A scalar of V: states on which it has given values, and its derivatives there."""

    states: Callable[[np.ndarray, float, float], np.ndarray]
    first: Callable[[np.ndarray], np.ndarray]
    second: Callable[[np.ndarray], np.ndarray]


def _variance() -> Chart:
    return Chart(
        lambda v, x, y: np.asarray(v)[:, None, None],
        lambda V: np.ones((len(V), 1)),
        lambda V: np.zeros((len(V), 1, 1)),
    )


def _gap() -> Chart:
    def states(w: np.ndarray, x: float, y: float) -> np.ndarray:
        one = np.array([[1 + 2 * x - y, x], [x, y]])
        return np.asarray(w)[:, None, None] * one

    weights = np.array([1.0, -1.0, -1.0, 1.0])
    return Chart(
        states,
        lambda V: np.tile(weights, (len(V), 1)),
        lambda V: np.zeros((len(V), 4, 4)),
    )


def _correlation() -> Chart:
    def states(rho: np.ndarray, x: float, y: float) -> np.ndarray:
        one = np.ones((len(rho), 2, 2))
        one[:, 0, 0], one[:, 1, 1] = x**2, y**2
        one[:, 0, 1] = one[:, 1, 0] = np.asarray(rho) * x * y
        return one

    def parts(V: np.ndarray) -> tuple[np.ndarray, ...]:
        a, d = V[:, 0, 0], V[:, 1, 1]
        g = 1 / np.sqrt(a * d)
        return a, d, g, g * (V[:, 0, 1] + V[:, 1, 0]) / 2

    def first(V: np.ndarray) -> np.ndarray:
        a, d, g, f = parts(V)
        return np.stack([-f / (2 * a), g / 2, g / 2, -f / (2 * d)], axis=1)

    def second(V: np.ndarray) -> np.ndarray:
        a, d, g, f = parts(V)
        out = np.zeros((len(V), 4, 4))
        out[:, 0, 0], out[:, 3, 3] = 3 * f / (4 * a**2), 3 * f / (4 * d**2)
        out[:, 0, 3] = out[:, 3, 0] = f / (4 * a * d)
        for k in (1, 2):
            out[:, 0, k] = out[:, k, 0] = -g / (4 * a)
            out[:, 3, k] = out[:, k, 3] = -g / (4 * d)
        return out

    return Chart(states, first, second)


CHARTS = {"v": _variance, "w": _gap, "rho": _correlation}


class Generator:
    """Drift and squared noise of a scalar by Ito's formula in numbers, term by term."""

    def __init__(self, drift: Expression, diffusion: Expression, name: str) -> None:
        self.chart, self.tokens = CHARTS[name](), 1 if name == "v" else 2
        self.token = drift.free[0].dim
        self.symbols = sorted(symbols_of((drift, diffusion)), key=str)
        self.terms = [
            (Expression(e.free, ((sp.Integer(1), f),)), e is diffusion)
            for e in (drift, diffusion)
            for _, f in e.terms
        ]
        coefficients = [
            c.subs(self.token, self.tokens) for e in (drift, diffusion) for c, _ in e.terms
        ]
        coefficients = [_plain(c) for c in coefficients]
        self.coefficients = sp.lambdify(self.symbols, coefficients, "numpy", dummify=True)
        # products of entries of V are the same at all parameters, functions of V may not be
        tensors = {f.tensor for e in (drift, diffusion) for _, fs in e.terms for f in fs}
        self.plain = {t.kind for t in tensors} <= {"covariance", "delta"}
        self.known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def at(self, V: np.ndarray, numbers: Numbers) -> Rates:
        """At states V (count, m, m)."""
        c = np.array(self.coefficients(*(numbers[s] for s in self.symbols)), dtype=float)
        found = []
        for parts in self._parts(V, numbers):
            value, whole = c @ parts, np.abs(c) @ np.abs(parts)
            # what terms that cancel leave behind is no drift and no noise
            found.append(np.where(np.abs(value) > 1e-13 * whole, value, 0.0))
        return found[0], found[1]

    def _parts(self, V: np.ndarray, numbers: Numbers) -> tuple[np.ndarray, np.ndarray]:
        """What each term adds to drift and squared noise, without its coefficient."""
        key = V.tobytes()
        if self.plain and key in self.known:
            return self.known[key]
        count, size = len(V), self.tokens**2
        first, second = self.chart.first(V), self.chart.second(V)
        mean, square = (np.zeros((len(self.terms), count)) for _ in range(2))
        for k, (term, quadratic) in enumerate(self.terms):
            value = evaluate(term, {"V": V}, numbers | {self.token: float(self.tokens)})
            legs = (self.tokens,) * len(term.free)
            value = np.broadcast_to(value, (count, *legs))
            if quadratic:
                q = value.reshape(count, size, size)
                mean[k] = np.einsum("kij,kij->k", second, q) / 2
                square[k] = np.einsum("ki,kij,kj->k", first, q, first)
            else:
                mean[k] = np.einsum("ki,ki->k", first, value.reshape(count, size))
        self.known[key] = mean, square
        return mean, square


def _plain(coefficient: sp.Expr) -> sp.Expr:
    """Hidden scalars written out."""
    for hidden in coefficient.atoms(Opaque):
        coefficient = coefficient.xreplace({hidden: hidden.value})
    return coefficient


def scalar(words: str, one: Scalar, drift: Expression, diffusion: Expression) -> Check:
    """All that is said of a scalar: its equation, and whether it explodes where that is said."""
    found = [equation(words, one, drift, diffusion)]
    if one.decided:
        found.append(explosion(words, one.kind, drift, diffusion))
    return worst_of(found)


def equation(words: str, one: Scalar, drift: Expression, diffusion: Expression) -> Check:
    """The equation in words against Ito's formula, at states that share the scalar's value."""
    name = one.kind
    numbers = _numbers(drift, diffusion)
    ours = _read_equation(words, one.name.name, numbers)
    generator = Generator(drift, diffusion, name)
    values = np.array([-0.6, 0.2, 0.7]) if name == "rho" else np.array([0.3, 1.7, 12.0])
    # on the unit sphere both tokens have size one, and no other state is legal
    unit = name == "rho" and drift.tensors() and _unit(drift, diffusion)
    places = ((1.0, 1.0),) if unit else ((0.9, 1.3), (0.7, 0.8), (0.4, 0.6))
    states = np.concatenate([generator.chart.states(values, x, y) for x, y in places])
    worst = 0.0
    for found, target in zip(ours(values), generator.at(states, numbers), strict=True):
        off = np.abs(np.tile(found, len(places)) - target) / np.where(target, np.abs(target), 1.0)
        worst = max(worst, float(np.max(off)) if np.all(np.isfinite(off)) else float("inf"))
    return Check("the equation as it is written against Ito's formula in numbers", worst, 1e-8)


def _unit(*expressions: Expression) -> bool:
    return any(t.meaning == UNIT for e in expressions for t in e.tensors())


def explosion(words: str, name: str, drift: Expression, diffusion: Expression) -> Check:
    """What is said of explosion against Feller's integral.

    At parameters all over their ranges, and on both sides of where the verdict changes.
    """
    points = [_numbers(drift, diffusion, share) for share in _shares(drift, diffusion)]
    verdict = _read_verdict(words, points[0])
    points += _beside_edge(verdict, points)
    generator = Generator(drift, diffusion, name)
    x = np.exp(np.arange(0.0, np.log(_REACH), _STEP))
    states = generator.chart.states(x, 0.9, 1.3)
    worst, seen = 0.0, set()
    for numbers in points:
        says = verdict(numbers)
        slope = feller_slope(x, *generator.at(states, numbers))
        if _EDGE < abs(slope) < 10 * _EDGE:  # too near the edge of the condition to tell
            continue
        seen.add(says)
        off = slope + 2 * _EDGE if says else -slope
        worst = max(worst, off if np.isfinite(off) else float("inf"))
    if not seen:
        return Check("no parameters were found at which Feller's test decides", float("inf"), _EDGE)
    met = " and ".join("explodes" if s else "does not" for s in sorted(seen, reverse=True))
    return Check(f"slope of Feller's integral at infinity, where it {met}", max(worst, 0.0), _EDGE)


def _shares(drift: Expression, diffusion: Expression) -> np.ndarray:
    """Places in the unit cube of the parameters, every eighth of every range once."""
    rng = generator(_SEED + 1)
    count = len(symbols_of((drift, diffusion)))
    strata = [rng.permutation(_PLACES) for _ in range(count)] or [np.arange(1)]
    return (np.array(strata).T + 0.5) / _PLACES


def _beside_edge(verdict: Callable[[Numbers], bool], points: list[Numbers]) -> list[Numbers]:
    """Two points near where the verdict in words changes, between points of either verdict."""
    says = [verdict(p) for p in points]
    if len(set(says)) < 2:
        return []
    one, other = points[says.index(True)], points[says.index(False)]

    def between(t: float) -> Numbers:
        return {s: (1 - t) * one[s] + t * other[s] for s in one}

    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if verdict(between(middle)) else (low, middle)
    # a threshold off by less than this share of the way is not seen
    return [between(t) for t in (low - 0.06, high + 0.06) if 0 < t < 1]


def feller_slope(x: np.ndarray, b: np.ndarray, q: np.ndarray) -> float:
    """d log g / d log x far out; v (without noise: the time) is finite iff it is negative.

    `x`: places that grow by a constant factor from 1 on; b and q: drift and squared noise there.
    """
    u = np.log(x)
    step = float(u[1] - u[0])
    if np.any(q):
        end = int(np.argmax(q <= 0)) if np.any(q <= 0) else len(u)
        if x[end - 1] < 1e3 or not np.all(np.isfinite(b + q)):
            return float("nan")
        x, u, b, q = x[:end], u[:end], b[:end], q[:end]
    last = len(u) // 5
    if not np.any(q):
        if np.any(b[-last:] <= 0):  # it never gets there
            return 1.0
        return _slope(np.log(x / b), u, last)
    # g' = (1 - B) g + C with constant coefficients on each step, in logarithms: g may overflow
    rate, log_c = 1 - 2 * b * x / q, np.log(2 * x**2 / q)
    log_g = np.empty(len(u))
    log_g[0] = log_c[0]
    for k in range(1, len(u)):
        r = rate[k]
        move = r * step
        # log of (e^move - 1) / r, which is the step itself where r = 0
        if abs(move) < 1e-8:
            gain = np.log(step)
        elif move > 30:
            gain = move - np.log(r)
        else:
            gain = np.log(np.expm1(move) / r)
        log_g[k] = np.logaddexp(log_g[k - 1] + move, log_c[k] + gain)
    return _slope(log_g, u, last)


def _slope(values: np.ndarray, u: np.ndarray, last: int) -> float:
    return float((values[-1] - values[-last]) / (u[-1] - u[-last]))


def _numbers(
    drift: Expression, diffusion: Expression, shares: Iterable[float] | None = None
) -> Numbers:
    """Parameters inside their ranges; an infinite range is one decade and a half from its end."""
    symbols = sorted(symbols_of((drift, diffusion)), key=str)
    places = generator(_SEED).uniform(0.3, 0.7, len(symbols))
    out: Numbers = {}
    for s, share in zip(symbols, places if shares is None else shares, strict=False):
        low, high = (s.range.low, s.range.high) if isinstance(s, Param) else (0.0, np.inf)
        if np.isfinite(low) and np.isfinite(high):
            out[s] = low + (high - low) * share
        elif np.isfinite(low):
            out[s] = low + 10.0 ** (1.5 * share - 0.75)
        elif np.isfinite(high):
            out[s] = high - 10.0 ** (1.5 * share - 0.75)
        else:
            out[s] = 4.0 * (share - 0.5) + 0.01
    return out


def _read_equation(
    words: str, name: str, numbers: Mapping[sp.Symbol, float]
) -> Callable[[np.ndarray], Rates]:
    """Drift and squared noise as functions, from d<name> = (...) dt + ... dB."""
    variable = sp.Symbol(name, real=True)
    text = words.partition(": d")[2].partition("; ")[0]
    left, _, right = text.partition(" = ")
    if left == f"{name}/dt":
        drift, root = right, "0"
    elif " dt + " in right:
        drift, _, root = right.rpartition(" dt + ")
    else:
        drift, root = "0", right
    root = root.removesuffix(" dB")

    def function(text: str) -> Callable[[np.ndarray], np.ndarray]:
        expression = parsed(text, [*numbers, variable])
        expression = expression.xreplace({s: sp.Float(v) for s, v in numbers.items()})
        call = sp.lambdify(variable, expression, "numpy", dummify=True)
        return lambda x: np.broadcast_to(np.asarray(call(x), dtype=float), np.shape(x))

    b, r = function(drift), function(root)
    return lambda x: (b(x), r(x) ** 2)


def _read_verdict(words: str, symbols: Iterable[sp.Symbol]) -> Callable[[Numbers], bool]:
    """Whether the words say that it explodes, as a function of the parameters."""
    symbols = list(symbols)
    if "does not explode" in words:
        return lambda numbers: False
    found = re.search(r"explodes .*(?:iff|where) (.*)$", words)
    if found is None:
        says = "explodes" in words
        return lambda numbers: says
    condition = sp.lambdify(symbols, parsed(found[1], symbols), "numpy", dummify=True)
    return lambda numbers: bool(condition(*(numbers[s] for s in symbols)))
