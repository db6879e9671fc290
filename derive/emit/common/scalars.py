"""Scalar SymPy expressions as Python text for kernels.

An allow-list: a node that is not on it is an error that names it, never a guess.  Powers are
written as products, quotients and square roots, which cost a tenth of a general power.

A parameter that may be infinite is inverted before it is raised: of c / tau**2 the derivative at
tau = inf is computed as 0 * inf, of c * (1 / tau)**2 as 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import sympy as sp

from derive.emit.common.names import local
from derive.errors import Refusal
from derive.notation.common.scalars import Dim, GaussianMean, Param, Share
from derive.notation.common.words.word import ATOM, POWER, PRODUCT, SUM

FUNCTIONS = {
    sp.exp: "exp",
    sp.log: "log",
    sp.tanh: "tanh",
    sp.sin: "sin",
    sp.cos: "cos",
    sp.erf: "erf",
    sp.asin: "arcsin",
    sp.atan: "arctan",
    sp.Abs: "abs",
}


def python(expression: sp.Expr) -> str:
    """Python text of a scalar expression; deterministic, no floats but decimal fractions of two."""
    return render(expression)[0]


def interval(parameter: Param) -> tuple[float | str, float | str, bool, bool, str]:
    """A parameter's range as kernels hold it: no infinities, which have no literal."""
    r = parameter.range
    low, high = (e if math.isfinite(e) else str(e) for e in (float(r.low), float(r.high)))
    return low, high, r.low_open, r.high_open, r.text


def bounded(parameters: Iterable[Param]) -> list[tuple[str, str]]:
    """The field `ranges` of a specification, for the parameters that have ends."""
    found = {
        p.name: interval(p)
        for p in parameters
        if math.isfinite(p.range.low) or math.isfinite(p.range.high)
    }
    return [("ranges", repr(found).replace("'", '"'))] if found else []


def factor_text(expression: sp.Expr) -> str:
    """Text that may stand as a factor of a product."""
    text, strength = render(expression)
    return text if strength >= PRODUCT else f"({text})"


def symbol_text(symbol: sp.Symbol) -> str:
    """The local variable of a symbol: of a definition's, or of the emitter's own."""
    if isinstance(symbol, Share):
        return f"{local(symbol.whole.name)}/{local(symbol.count.name)}"
    own = isinstance(symbol, (Dim, Param)) or symbol.name.endswith("_ratio")
    return local(symbol.name) if own else symbol.name


def render(e: sp.Expr) -> tuple[str, int]:
    """Text and the binding strength of its outermost operation."""
    if e.is_Symbol:
        return symbol_text(e), ATOM
    if e.is_Integer:
        return (str(e), ATOM) if e >= 0 else (str(e), SUM)
    if e.is_Rational:
        return f"{e.p} / {e.q}", PRODUCT if e > 0 else SUM
    if e == sp.pi:
        return "pi", ATOM
    if e.is_Add:
        return _sum(e), SUM
    if e.is_Mul:
        return _product(e)
    if e.is_Pow:
        return _power(e)
    if e.func is sp.Max and 0 in e.args and len(e.args) == 2:
        (inner,) = [a for a in e.args if a != 0]
        return f"relu({render(inner)[0]})", ATOM
    if e.func is GaussianMean:
        g, body = e.args
        return f"gaussian_mean(lambda {g}: {render(body)[0]})", ATOM
    if e.func in FUNCTIONS:
        return f"{FUNCTIONS[e.func]}({', '.join(render(a)[0] for a in e.args)})", ATOM
    raise Refusal(f"no kernel text for {type(e).__name__} in {e}")


def _sum(e: sp.Expr) -> str:
    out = ""
    for term in sorted(e.args, key=lambda t: (_sign(t) < 0, sp.default_sort_key(t))):
        negative = _sign(term) < 0
        text, _ = render(-term if negative else term)
        out += (" - " if negative else " + ") + text if out else ("-" if negative else "") + text
    return out


def _sign(term: sp.Expr) -> int:
    return -1 if term.could_extract_minus_sign() else 1


def _product(e: sp.Expr) -> tuple[str, int]:
    if _sign(e) < 0 and e.as_coeff_Mul()[0] < 0:
        text, strength = render(-e)
        return f"-{text}" if strength >= PRODUCT else f"-({text})", SUM
    top, bottom = fraction(e)
    over = [_factor(a) for a in _factors(top) if a != 1]
    under = [_factor(a) for a in _factors(bottom) if a != 1]
    if not under and len(over) == 1:
        return over[0], ATOM
    text = " * ".join(over) if over else "1"
    if under:
        text += f" / ({' * '.join(under)})" if len(under) > 1 else f" / {under[0]}"
    return text, PRODUCT


def fraction(e: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """Top and bottom of a quotient; what is inverted before it is raised stays on top."""
    top, bottom = sp.fraction(e, exact=True)
    below = sp.Mul.make_args(bottom)
    others = sum(bool(f.atoms(Param)) for f in below) > 1
    inverted = [f for f in below if _unbounded(f) and (others or not isinstance(f, Param))]
    if not inverted:
        return top, bottom
    kept = [f for f in below if f not in inverted]
    return sp.Mul(top, *(1 / f for f in inverted)), sp.Mul(*kept)


def _unbounded(factor: sp.Expr) -> bool:
    """A parameter that may be infinite, or a power of one that has an infinite slope there."""
    base, exponent = factor.as_base_exp()
    if not isinstance(base, Param) or not exponent.is_Rational:
        return False
    return base.range.high == math.inf and not base.range.high_open and exponent >= 1


def _factors(e: sp.Expr) -> list[sp.Expr]:
    """Factors in a fixed order, square roots gathered under one."""
    parts = list(sp.Mul.make_args(e))
    roots = [p for p in parts if p.is_Pow and p.exp == sp.Rational(1, 2)]
    if len(roots) > 1:
        parts = [p for p in parts if p not in roots]
        inside = sp.Mul(*(r.base for r in roots), evaluate=False)
        if all(r.base.is_Add for r in roots):  # (2 - x)(2 + x) is 4 - x^2
            inside = min(inside, sp.expand(inside), key=lambda e: len(str(e)))
        parts.append(sp.sqrt(inside, evaluate=False))
    return sorted(parts, key=lambda p: (not p.is_number, sp.default_sort_key(p)))


def _factor(e: sp.Expr) -> str:
    text, strength = render(e)
    return text if strength > PRODUCT else f"({text})"


def _power(e: sp.Expr) -> tuple[str, int]:
    base, exponent = e.as_base_exp()
    if exponent.is_negative and _unbounded(1 / e):
        inverted = f"(1 / {symbol_text(base)})"
        if exponent.is_Integer:
            return (inverted, ATOM) if exponent == -1 else (f"{inverted}**{-exponent}", POWER)
        return f"{symbol_text(base)}**({exponent})", POWER
    if exponent.is_negative:
        return f"1 / {_factor(1 / e)}", PRODUCT
    inner = _factor(base)
    if exponent.is_Integer:
        return f"{inner if render(base)[1] == ATOM else f'({render(base)[0]})'}**{exponent}", POWER
    if exponent == sp.Rational(1, 2):
        return f"sqrt({render(base)[0]})", ATOM
    if exponent.is_Rational and exponent.q == 2:
        whole = sp.Integer((exponent.p - 1) // 2)
        return f"{_factor(base**whole)} * sqrt({render(base)[0]})", PRODUCT
    if exponent.is_Rational:
        return f"{inner if render(base)[1] == ATOM else f'({inner})'}**({exponent})", POWER
    if exponent.free_symbols:
        return f"{inner if render(base)[1] == ATOM else f'({inner})'}**({python(exponent)})", POWER
    raise Refusal(f"no kernel text for the power {e}")
