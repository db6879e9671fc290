"""One-dimensional diffusions inside a covariance SDE, and whether they explode.

Input: drift and diffusion as index expressions.  Output: for one and two tokens, the scalars that
are diffusions of their own, with the criterion for explosion from Feller's test.

At m = 1 the variance V is one; at m = 2 the distance w = V_11 - 2 V_12 + V_22 and the correlation
are tried: a scalar f(V) is autonomous if b . grad f + Sigma : hess f / 2 and grad f . Sigma grad f
are functions of f alone.  Feller's test needs the behaviour at infinity only: with 2 a / q ~ c w^r,
the scale function is finite there iff r > -1 and c > 0, or r = -1 and c > 1; the time is finite iff
in addition a grows faster than linearly (r > -1), or q faster than w^2 (r = -1).  Without noise, f
follows an ODE, and a power of f above the first with a positive coefficient ends in finite time.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp

from derive.calculus.gaussian.kinks import CORRELATION
from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import UNIT
from derive.calculus.index.readable import readable
from derive.calculus.ito import image
from derive.draws import generator
from derive.notation.common.scalars import Param

NO_WORD = "no word on explosion"
Entries = dict[tuple[int, int], sp.Expr]


@dataclass(frozen=True)
class Scalar:
    """d f = drift dt + sqrt(square) dB, functions of the symbol `name`.

    `kind`: v, w or rho, whatever the symbol has to be called beside the parameters.
    """

    kind: str
    name: sp.Symbol
    meaning: str
    drift: sp.Expr
    square: sp.Expr

    def explosion(self) -> str:
        """Whether the scalar reaches infinity in finite time, in words; nothing if bounded.

        Feller's test is one of coefficients that are constant in time: where a parameter
        depends on depth, nothing is said but that.
        """
        if self.kind == "rho":
            return ""
        symbols = sorted(self.drift.free_symbols | self.square.free_symbols, key=str)
        moving = [s.name for s in symbols if isinstance(s, Param) and s.varying]
        if moving:
            verb = "depend" if len(moving) > 1 else "depends"
            return f"{NO_WORD}: {' and '.join(moving)} {verb} on depth"
        return _explosion(self.drift, self.square, self.name)

    @property
    def decided(self) -> bool:
        """Whether the words say that it explodes, or does not."""
        said = self.explosion()
        return bool(said) and not said.startswith(NO_WORD)

    @property
    def text(self) -> str:
        """The equation in words, and whether the scalar explodes."""
        drift = sp.sstr(_gathered(self.drift))
        root = _bracketed(_root(self.square, self.name))
        if self.square == 0:
            equation = f"d{self.name}/dt = {drift}"
        elif self.drift == 0:
            equation = f"d{self.name} = {root} dB"
        else:
            equation = f"d{self.name} = ({drift}) dt + {root} dB"
        return f"{self.meaning}: {equation}" + (f"; {self.explosion()}" if self.explosion() else "")


def _gathered(drift: sp.Expr) -> sp.Expr:
    """Terms with one root or special function together, each with a readable coefficient."""
    roots = {p for p in drift.atoms(sp.Pow) if not p.exp.is_Integer}
    special = sorted(roots | drift.atoms(sp.Function), key=sp.default_sort_key)
    if not special:
        return readable(drift)
    parts = sp.collect(sp.expand(drift), special, evaluate=False)
    return sp.Add(*(readable(sp.factor(c)) * p for p, c in parts.items()))


def _root(square: sp.Expr, name: sp.Symbol) -> sp.Expr:
    """A root of the squared noise: of either sign, which the law of a diffusion does not see."""
    root = sp.sqrt(readable(sp.factor(square))).replace(sp.Abs, lambda x: x)
    root = readable(root)
    return readable(-root) if root.subs(name, 0).is_negative else root


def _bracketed(scalar: sp.Expr) -> str:
    return f"({sp.sstr(scalar)})" if scalar.is_Add else sp.sstr(scalar)


def scalars(drift: Expression, diffusion: Expression) -> list[Scalar]:
    """The autonomous scalars found, for one token and for two."""
    kinds = {t.kind for e in (drift, diffusion) for t in e.tensors()}
    if kinds - {"covariance", "delta", "kernel", "spread"}:
        return []
    unit = any(t.meaning == UNIT for e in (drift, diffusion) for t in e.tensors())
    found = [] if unit else [_one_token(drift, diffusion)]
    for one, f, level in ((_distance, _gap, _same_gap), (_correlation, _angle, _same_angle)):
        if one is _correlation and unit or _may_be_autonomous(drift, diffusion, f, level):
            scalar = one(drift, diffusion, unit)
            if scalar is not None:
                found.append(scalar)
    return [_named_apart(s) for s in found if s.drift != 0 or s.square != 0]


def _named_apart(scalar: Scalar) -> Scalar:
    """Under another name where a parameter has its own: v_ beside a parameter v."""
    symbols = (scalar.drift.free_symbols | scalar.square.free_symbols) - {scalar.name}
    own = name = scalar.name.name
    while name in {s.name for s in symbols}:
        name += "_"
    if name == own:
        return scalar
    symbol = sp.Symbol(name, real=True, positive=scalar.name.is_positive)
    drift, square = (e.xreplace({scalar.name: symbol}) for e in (scalar.drift, scalar.square))
    meaning = re.sub(rf"\b{own}\b", name, scalar.meaning)
    return replace(scalar, name=symbol, meaning=meaning, drift=drift, square=square)


def _gap(V: np.ndarray) -> float:
    return float(V[0, 0] - 2 * V[0, 1] + V[1, 1])


def _same_gap(x: float, y: float) -> np.ndarray:
    """Covariances of two tokens with V_11 - 2 V_12 + V_22 = 1, by two coordinates."""
    return np.array([[1 + 2 * x - y, x], [x, y]])


def _angle(V: np.ndarray) -> float:
    return float(V[0, 1] / np.sqrt(V[0, 0] * V[1, 1]))


def _same_angle(x: float, y: float) -> np.ndarray:
    """Covariances of two tokens with correlation 0.3."""
    return np.array([[x**2, 0.3 * x * y], [0.3 * x * y, y**2]])


def _may_be_autonomous(
    drift: Expression,
    diffusion: Expression,
    scalar: Callable[[np.ndarray], float],
    level: Callable[[float, float], np.ndarray],
) -> bool:
    """Whether the rates of a scalar agree, in numbers, at states on which it is the same.

    Spares the algebra for the many that are not; what passes is decided by algebra.
    """
    token = drift.free[0].dim
    symbols = {s for e in (drift, diffusion) for c, _ in e.terms for s in c.free_symbols}
    rng = generator(5)
    numbers = {s: float(rng.uniform(0.3, 0.9)) for s in sorted(symbols, key=str)} | {token: 2.0}
    rates = []
    for x, y in ((0.9, 1.3), (0.7, 0.8), (0.4, 0.6)):
        V = level(x, y)
        h = 1e-4 * np.eye(4).reshape(4, 2, 2)
        h = (h + h.swapaxes(1, 2)) / 2
        first = np.array([(scalar(V + e) - scalar(V - e)) / 2e-4 for e in h])
        second = np.array(
            [
                [
                    (scalar(V + e + f) - scalar(V + e - f) - scalar(V - e + f) + scalar(V - e - f))
                    / 4e-8
                    for f in h
                ]
                for e in h
            ]
        )
        b = evaluate(drift, {"V": V}, numbers).ravel()
        q = evaluate(diffusion, {"V": V}, numbers).reshape(4, 4)
        rates.append(
            image(
                dict(enumerate(first)),
                dict(np.ndenumerate(second)),
                dict(enumerate(b)),
                dict(np.ndenumerate(q)),
            )
        )
    spread = np.ptp(rates, axis=0) / np.maximum(np.abs(rates).max(axis=0), 1e-3)
    return bool(spread.max() < 1e-3)


def _one_token(drift: Expression, diffusion: Expression) -> Scalar:
    v = sp.Symbol("v", positive=True)
    entries = {(0, 0): v}
    b = _entry(drift, (0, 0), 1, entries)
    q = _entry(diffusion, (0, 0, 0, 0), 1, entries)
    return Scalar("v", v, "one token, v = V", sp.factor(b), sp.factor(q))


def _distance(drift: Expression, diffusion: Expression, unit: bool) -> Scalar | None:
    """w = V_11 - 2 V_12 + V_22, for polynomials."""
    if unit or any(t.kind in ("kernel", "spread") for t in drift.tensors()):
        return None
    x, y, w = sp.Symbol("x", real=True), sp.Symbol("y", real=True), sp.Symbol("w", positive=True)
    entries = {(0, 0): w + 2 * x - y, (0, 1): x, (1, 0): x, (1, 1): y}
    weights = {(0, 0): 1, (0, 1): -1, (1, 0): -1, (1, 1): 1}
    b, q = (sp.expand(e) for e in image(weights, {}, *_rates(drift, diffusion, weights, entries)))
    if (b.free_symbols | q.free_symbols) & {x, y}:
        return None
    return Scalar("w", w, "two tokens, w = V_11 - 2 V_12 + V_22", sp.factor(b), sp.collect(q, w))


def _correlation(drift: Expression, diffusion: Expression, unit: bool) -> Scalar | None:
    """rho = V_12 / sqrt(V_11 V_22), by Ito's formula."""
    s, t = sp.symbols("s t_", positive=True)
    rho = CORRELATION
    v = {p: sp.Symbol(f"v{p[0]}{p[1]}", positive=True) for p in ((0, 0), (0, 1), (1, 1))}
    f = v[0, 1] / sp.sqrt(v[0, 0] * v[1, 1])
    put = {v[0, 0]: s**2, v[1, 1]: t**2, v[0, 1]: rho * s * t}
    if unit:
        s = t = sp.Integer(1)
        put = {v[0, 0]: s, v[1, 1]: t, v[0, 1]: rho}
    entries = {(0, 0): s**2, (1, 1): t**2, (0, 1): rho * s * t, (1, 0): rho * s * t}
    first = {p: sp.diff(f, v[p]).subs(put) for p in v}
    second = {(p, r): sp.diff(f, v[p], v[r]).subs(put) for p in v for r in v}
    out, square = image(first, second, *_rates(drift, diffusion, v, entries, rho))
    out, square = sp.simplify(sp.expand(out)), sp.factor(sp.simplify(sp.expand(square)))
    free = {x for x in (s, t) if x.is_Symbol}
    if (out.free_symbols | square.free_symbols) & free:
        return None
    name = sp.Symbol("rho", real=True)
    change = {rho: name}
    return Scalar("rho", name, "two tokens, correlation rho", out.subs(change), square.subs(change))


def _rates(
    drift: Expression,
    diffusion: Expression,
    places: Iterable[tuple[int, int]],
    entries: Entries,
    rho: sp.Expr | None = None,
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Drift and diffusion of the entries of V at two tokens, and of their pairs."""
    return (
        {p: _entry(drift, p, 2, entries, rho) for p in places},
        {(p, r): _entry(diffusion, p + r, 2, entries, rho) for p in places for r in places},
    )


def _entry(
    expression: Expression,
    place: tuple[int, ...],
    m: int,
    entries: Entries,
    rho: sp.Expr | None = None,
) -> sp.Expr:
    """One entry of an expression for m tokens, sums written out."""
    # products of entries are collected before the algebra: there are few of them
    found: dict[tuple[Any, ...], tuple[list[sp.Expr], list[Any]]] = {}
    for coefficient, factors in expression.terms:
        at = dict(zip(expression.free, place, strict=True))
        bound = [i for i in dict.fromkeys(i for f in factors for i in f.indices) if i not in at]
        for values in itertools.product(range(m), repeat=len(bound)):
            here = {**at, **dict(zip(bound, values, strict=True))}
            held = [(f.tensor, tuple(sorted(here[i] for i in f.indices))) for f in factors]
            if any(t.kind == "delta" and ends[0] != ends[1] for t, ends in held):
                continue
            key = tuple(sorted((t.name, ends) for t, ends in held if t.kind != "delta"))
            found.setdefault(key, ([], held))[0].append(coefficient)
    total = sp.Integer(0)
    for coefficients, held in found.values():
        product = sp.Mul(*(_value(t, ends, entries, rho) for t, ends in held))
        total += sp.Add(*coefficients) * product
    token = expression.free[0].dim
    return sp.expand(total.subs(token, m))


def _value(tensor, at: tuple[int, ...], entries: Entries, rho: sp.Expr | None) -> sp.Expr:  # type: ignore[no-untyped-def]
    a, b = at[0], at[-1]
    if tensor.kind == "delta":
        return sp.Integer(int(a == b))
    if tensor.kind == "covariance":
        return entries[a, b]
    if tensor.kind == "spread":
        return tensor.meaning[0] * sp.sqrt(entries[a, a])
    shape, degree, _ = tensor.meaning
    correlation = sp.Integer(1) if a == b else rho
    size = sp.sqrt(entries[a, a] * entries[b, b]) ** degree
    return size * shape.subs(CORRELATION, correlation)


def _explosion(drift: sp.Expr, square: sp.Expr, name: sp.Symbol) -> str:
    if square == 0:
        return _end(drift, name)
    a, top_a = _leading(drift, name)
    q, top_q = _leading(square, name)
    if a is None or q is None or a == 0:
        return f"{name} does not explode: no drift at infinity" if a == 0 else ""
    r = top_a - top_q
    c = sp.simplify(2 * a / q)
    if r < -1 or (r > -1 and top_a <= 1) or (r == -1 and top_q <= 2):
        return f"{name} does not explode"
    bound = _open_sign(c - 1 if r == -1 else c)
    if bound.is_positive:
        return f"{name} explodes in finite time with positive probability"
    if bound.is_nonpositive:
        return f"{name} does not explode"
    condition = sp.sstr(sp.Gt(bound, 0))
    return f"{name} explodes in finite time with positive probability iff {condition}"


def _open_sign(scalar: sp.Expr) -> sp.Expr:
    """An expression of the same sign, without factors whose sign is known on the ranges."""
    numerator, denominator = sp.fraction(sp.factor(sp.together(scalar)))
    left = sp.Integer(1)
    for factor in sp.Mul.make_args(sp.factor(numerator * denominator)):
        base, exponent = factor.as_base_exp()
        if exponent.is_even:
            continue
        sign = _sign(base)
        left *= sign if sign else base
    # a constant sign goes into the sum: -(x - y) is y - x
    return sp.expand(left) if left.as_coeff_Mul()[0].is_negative else left


def _sign(scalar: sp.Expr) -> int:
    """1 or -1 where it is that on the whole range of its one parameter, else 0."""
    if scalar.is_positive or scalar.is_negative:
        return 1 if scalar.is_positive else -1
    symbols = scalar.free_symbols
    one = next(iter(symbols)) if len(symbols) == 1 else None
    if not isinstance(one, Param) or not scalar.is_polynomial(one):
        return 0
    low, high = (sp.nsimplify(x) for x in (one.range.low, one.range.high))
    polynomial = sp.Poly(scalar, one)
    if not polynomial.domain.is_QQ and not polynomial.domain.is_ZZ:
        return 0
    ends = sum(polynomial.eval(x) == 0 for x in (low, high) if x.is_finite)
    if polynomial.count_roots(low, high) > ends or (ends and not _open_there(one, polynomial)):
        return 0
    inside = low + 1 if high == sp.oo else high - 1 if low == -sp.oo else (low + high) / 2
    return int(sp.sign(polynomial.eval(inside)))


def _open_there(one: Param, polynomial: sp.Poly) -> bool:
    """Whether the ends of the range where the polynomial vanishes are left out of it."""
    bounds = ((one.range.low, one.range.low_open), (one.range.high, one.range.high_open))
    return all(is_open for x, is_open in bounds if polynomial.eval(sp.nsimplify(x)) == 0)


def _end(drift: sp.Expr, name: sp.Symbol) -> str:
    """Whether an ODE with a polynomial right side leaves every bound in finite time."""
    a, top = _leading(drift, name)
    if a is None or a == 0:
        return ""
    if top <= 1 or a.is_negative:
        return f"{name} does not explode"
    if not a.is_positive:
        return f"{name} explodes in finite time where {sp.sstr(sp.Gt(a, 0))}"
    alone = sp.simplify(drift - a * name**top) == 0
    return f"{name} explodes in finite time" + ("" if alone else f", if {name} is large")


def _leading(function: sp.Expr, name: sp.Symbol) -> tuple[sp.Expr | None, sp.Expr]:
    """Leading coefficient and exponent at infinity of a polynomial."""
    if function == 0:
        return sp.Integer(0), sp.Integer(0)
    if not function.is_polynomial(name):
        return None, sp.Integer(0)
    polynomial = sp.Poly(sp.expand(function), name)
    return polynomial.LC(), sp.Integer(polynomial.degree())
