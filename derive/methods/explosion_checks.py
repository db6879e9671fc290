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

from derive.calculus.evaluate import evaluate
from derive.calculus.index import Expression
from derive.methods.checks import symbols_of
from derive.methods.record import Check, worst_of
from derive.notation.scalars import Param, number

_SEED = 611
_EDGE = 2e-3  # slopes nearer to zero than this are zero
# corrections of lower powers are 1e-4 there, and terms that cancel leave no rounding that counts
_REACH = 1e5
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
    """Drift and squared noise of a scalar by Ito's formula in numbers, at one set of parameters."""

    def __init__(
        self, drift: Expression, diffusion: Expression, name: str, numbers: Numbers
    ) -> None:
        self.chart, self.tokens = CHARTS[name](), 1 if name == "v" else 2
        self.numbers = numbers | {drift.free[0].dim: float(self.tokens)}
        # term by term, so that what cancels is seen; their numbers are put in once
        self.drift, self.diffusion = (
            [
                Expression(e.free, ((sp.Float(number(c, self.numbers)), factors),))
                for c, factors in e.terms
            ]
            for e in (drift, diffusion)
        )

    def rates(self, values: np.ndarray, x: float = 0.9, y: float = 1.3) -> Rates:
        return self.at(self.chart.states(values, x, y))

    def at(self, V: np.ndarray) -> Rates:
        count, size = len(V), self.tokens**2
        b, b_whole = (a.reshape(count, size) for a in self._values(self.drift, V, 2))
        q, q_whole = (a.reshape(count, size, size) for a in self._values(self.diffusion, V, 4))
        first, second = self.chart.first(V), self.chart.second(V)

        def means(first: np.ndarray, second: np.ndarray, b: np.ndarray, q: np.ndarray) -> Rates:
            mean = np.einsum("ki,ki->k", first, b) + np.einsum("kij,kij->k", second, q) / 2
            return mean, np.einsum("ki,kij,kj->k", first, q, first)

        found = means(first, second, b, q)
        whole = means(np.abs(first), np.abs(second), b_whole, q_whole)
        # what terms that cancel leave behind is no drift and no noise
        mean, square = (
            np.where(np.abs(f) > 1e-12 * w, f, 0.0) for f, w in zip(found, whole, strict=True)
        )
        return mean, square

    def _values(
        self, terms: list[Expression], V: np.ndarray, legs: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The sum of the terms, and of their sizes."""
        total = np.zeros((len(V), *(self.tokens,) * legs))
        whole = total.copy()
        for term in terms:
            value = evaluate(term, {"V": V}, self.numbers)
            total += value
            whole += np.abs(value)
        return total, whole


def scalar(words: str, name: str, drift: Expression, diffusion: Expression) -> Check:
    """All that is said of a scalar: its equation, and where there is a word on it explosion."""
    found = [equation(words, name, drift, diffusion)]
    if "explode" in words:
        found.append(explosion(words, name, drift, diffusion))
    return worst_of(found)


def equation(words: str, name: str, drift: Expression, diffusion: Expression) -> Check:
    """The equation in words against Ito's formula, at states that share the scalar's value."""
    rng = np.random.default_rng(_SEED)
    numbers = _numbers(drift, diffusion, rng)
    ours = _read_equation(words, name, numbers)
    generator = Generator(drift, diffusion, name, numbers)
    values = np.array([-0.6, 0.2, 0.7]) if name == "rho" else np.array([0.3, 1.7, 12.0])
    # on the unit sphere both tokens have size one, and no other state is legal
    unit = name == "rho" and drift.tensors() and _unit(drift, diffusion)
    places = ((1.0, 1.0),) if unit else ((0.9, 1.3), (0.7, 0.8), (0.4, 0.6))
    states = np.concatenate([generator.chart.states(values, x, y) for x, y in places])
    worst = 0.0
    for found, target in zip(ours(values), generator.at(states), strict=True):
        off = np.abs(np.tile(found, len(places)) - target) / np.where(target, np.abs(target), 1.0)
        worst = max(worst, float(np.max(off)) if np.all(np.isfinite(off)) else float("inf"))
    return Check("the equation as it is written against Ito's formula in numbers", worst, 1e-8)


def _unit(*expressions: Expression) -> bool:
    from derive.calculus.index import UNIT

    return any(t.meaning == UNIT for e in expressions for t in e.tensors())


def explosion(words: str, name: str, drift: Expression, diffusion: Expression) -> Check:
    """What is said of explosion against Feller's integral, at parameters on both sides of it."""
    rng = np.random.default_rng(_SEED + 1)
    worst, seen = 0.0, set()
    for _ in range(24):
        numbers = _numbers(drift, diffusion, rng, wide=True)
        says = _read_verdict(words, numbers)
        if says in seen:
            continue
        slope = feller_slope(Generator(drift, diffusion, name, numbers))
        if _EDGE < abs(slope) < 10 * _EDGE:  # too near the edge of the condition to tell
            continue
        seen.add(says)
        off = slope + 2 * _EDGE if says else -slope
        worst = max(worst, off if np.isfinite(off) else float("inf"))
        if len(seen) == 2 or not _conditional(words):
            break
    if not seen:
        return Check("no parameters were found at which Feller's test decides", float("inf"), _EDGE)
    met = " and ".join("explodes" if s else "does not" for s in sorted(seen, reverse=True))
    return Check(f"slope of Feller's integral at infinity, where it {met}", max(worst, 0.0), _EDGE)


def feller_slope(generator: Generator) -> float:
    """d log g / d log x far out; v (without noise: the time) is finite iff it is negative."""
    step = 0.05
    u = np.arange(0.0, np.log(_REACH), step)
    x = np.exp(u)
    b, q = generator.rates(x)
    last = len(u) // 5
    if not np.any(q):
        if np.any(b[-last:] <= 0):  # it never gets there
            return 1.0
        return _slope(np.log(x / b), u, last)
    if np.any(q <= 0) or not np.all(np.isfinite(b)):
        return float("nan")
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
    drift: Expression, diffusion: Expression, rng: np.random.Generator, wide: bool = False
) -> Numbers:
    """Parameters inside their ranges; `wide`: also near the ends, and over two decades."""
    out: Numbers = {}
    for s in sorted(symbols_of((drift, diffusion)), key=str):
        low, high = (s.range.low, s.range.high) if isinstance(s, Param) else (0.0, np.inf)
        if np.isfinite(low) and np.isfinite(high):
            near = 0.03 if wide else 0.2
            out[s] = low + (high - low) * rng.uniform(near, 1 - near)
            continue
        size = 10.0 ** rng.uniform(-1, 1) if wide else rng.uniform(0.4, 1.6)
        if np.isfinite(low):
            out[s] = low + size
        elif np.isfinite(high):
            out[s] = high - size
        else:
            out[s] = size * rng.choice([-1.0, 1.0])
    return out


def parsed(text: str, symbols: Iterable[sp.Symbol]) -> sp.Expr:
    return sp.sympify(text, locals={s.name: s for s in symbols})


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
        expression = parsed(text, (*numbers, variable))
        expression = expression.xreplace({s: sp.Float(v) for s, v in numbers.items()})
        call = sp.lambdify(variable, expression, "numpy")
        return lambda x: np.broadcast_to(np.asarray(call(x), dtype=float), np.shape(x))

    b, r = function(drift), function(root)
    return lambda x: (b(x), r(x) ** 2)


def _conditional(words: str) -> bool:
    return bool(re.search(r"explodes .*(iff|where) ", words))


def _read_verdict(words: str, numbers: Mapping[sp.Symbol, float]) -> bool:
    """Whether the words say that it explodes, at these parameters."""
    if "does not explode" in words:
        return False
    found = re.search(r"explodes .*(?:iff|where) (.*)$", words)
    if found is None:
        return "explodes" in words
    condition = parsed(found[1], numbers)
    return bool(condition.xreplace({s: sp.Float(v) for s, v in numbers.items()}))
