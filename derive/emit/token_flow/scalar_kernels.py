"""Reduced rates and growth rates of a token flow as functions of numbers.

Input: a derivation.  Output: functions added to `Parts`; what was not derived adds none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import sympy as sp

from derive.emit.common import scalars
from derive.emit.common.kernel import Kernel
from derive.emit.common.names import fresh, local
from derive.emit.gaussian_closure.kernels import Parts, taken_by
from derive.emit.token_flow.parameters import prelude
from derive.emit.token_flow.scalar_code import WORDS, statements
from derive.methods.token_flow.harmonics import Growth, T
from derive.methods.token_flow.result import Absent, TokenFlow
from derive.methods.token_flow.slow_motion import OTHER, OWN
from derive.methods.token_flow.two_clusters import MASS


def equal_angles(parts: Parts, result: TokenFlow) -> None:
    rates = result.equal_angles
    if isinstance(rates, Absent):
        return
    if rates.radius is None:
        doc = "Rate of the cosine rho of all pairs of n tokens at equal angles."
        _numbers(parts, result, "equal_angle_rate", "rho, n", doc, [rates.cosine])
        return
    doc = "Rates of the cosine rho of all pairs of n tokens at equal angles, and of their norm r."
    _numbers(parts, result, "equal_angle_rate", "rho, r, n", doc, [rates.cosine, rates.radius])


def deviations(parts: Parts, result: TokenFlow) -> None:
    found = result.deviations
    if isinstance(found, Absent):
        return
    doc = (
        "Growth rates of small changes of the cosines rho of n tokens at equal angles: of all "
        "cosines alike, of those of single tokens (n >= 3), of pairs (n >= 4)."
    )
    _numbers(parts, result, "equal_angle_stability", "rho, n", doc, found.rates)
    # squares of denominators: an exponential that overflows there would make a rate vanish
    kernel = parts.kernels[-1]
    body = [re.sub(r"\bexp\(", "exp_or_nan(", line) for line in kernel.body]
    text = re.sub(r"\bexp\(", "exp_or_nan(", kernel.result)
    parts.words.add("exp_or_nan")
    parts.kernels[-1] = replace(kernel, body=body, result=text)


def slow_motion(parts: Parts, result: TokenFlow) -> None:
    """How fast, and how far, each of the closest pair goes where the parameter is large."""
    found = result.slow_motion
    if isinstance(found, Absent):
        return
    doc = (
        f"log(time) / {found.large} in which two clusters at the cosine g move, as "
        f"{found.large} -> oo."
    )
    _numbers(parts, result, "clock_exponent", "g", doc, [-found.height])
    mass, other = sp.symbols("mass other", positive=True)
    share = found.share.xreplace({OWN: mass, OTHER: other})
    doc = "Part of the way to each other that the cluster of the first mass goes."
    _numbers(parts, result, "share_of_way", "mass, other", doc, [share])


def caps(parts: Parts, result: TokenFlow) -> None:
    """Bounds of what moves a token of a cap."""
    found = result.caps
    if isinstance(found, Absent):
        return
    mass = {MASS: sp.Symbol("mass", positive=True)}
    doc = (
        "Most that tokens at cosines up to g pull a token of a cap of that mass, whose cosines are "
        "at least r within."
    )
    _numbers(parts, result, "push_from_others", "g, r, mass", doc, [found.others.xreplace(mass)])
    doc = "Least that one token of that mass pulls another of its cap at the cosine r."
    _numbers(parts, result, "push_inside", "r, mass", doc, [found.inside.xreplace(mass)])


def _numbers(
    parts: Parts,
    result: TokenFlow,
    name: str,
    given: str,
    doc: str,
    found: Sequence[sp.Expr],
) -> None:
    """A function of numbers, with the parameters behind them."""
    symbols = {s for e in found for s in e.free_symbols}
    taken = {"rho", "r", "n", "g", "mass", "other", "params", *taken_by(result.model)}
    lines, texts = statements(found, taken, parts.words)
    unpacked = prelude(result, {s.name for s in symbols})
    doc += "\n\nNumbers or arrays that broadcast."
    kernel = Kernel(name, f"{given}, params", doc, [*unpacked, *lines], ", ".join(texts))
    parts.kernels.append(kernel)


def growth(parts: Parts, result: TokenFlow) -> None:
    found = result.growth
    if isinstance(found, Absent):
        return
    own = local(result.model.state_dim.name)
    lines, text = _drift(parts, result, found, own)
    by_noise = ""
    if found.diffusion != 0:
        kappa = scalars.factor_text(found.diffusion)
        by_noise = f" - {kappa} * degree * (degree + {own} - 2)"
    doc = (
        "Growth rate of a harmonic of the uniform law on the sphere of R^d; degree: an integer, at "
        "least one."
    )
    name = f"degree, params, {own}"
    parts.kernels.append(Kernel("growth", name, doc, lines, text + by_noise))
    parts.words.add("largest_share")
    doc = (
        "Diffusion kappa of a noise sqrt(2 kappa) on the sphere of R^d beyond which harmonics of "
        "degree 1 to `degrees` of the uniform law decay."
    )
    back = f" + {scalars.factor_text(found.diffusion)}" if found.diffusion != 0 else ""
    text = f"largest_share(lambda degree: growth(degree, params, {own}), degrees, {own}){back}"
    unpacked = prelude(result, {s.name for s in found.diffusion.free_symbols})
    given = f"params, {own}, degrees=32"
    parts.kernels.append(Kernel("noise_threshold", given, doc, unpacked, text))


def _drift(parts: Parts, result: TokenFlow, found: Growth, own: str) -> tuple[list[str], str]:
    """The growth rate by the velocity: lines, and the text of its value."""
    expressions = [found.push, found.diffusion, *(w for _, w in found.means)]
    symbols = {s for e in expressions for s in e.free_symbols}
    lines = prelude(result, {s.name for s in symbols}, [result.model.state_dim])
    parts.words |= {"growth_rate"}
    top = sp.Symbol(fresh("top", set(taken_by(result.model))), real=True)
    exponent, power, push, means = _shifted(found, top)
    front = ""
    if exponent is not None:
        parts.words.add("largest")
        lines.append(f"{top} = largest(lambda t: {_of_angle(exponent, parts)})")
        if power != 0:
            parts.words.add("exp")
            front = f"exp({scalars.python(power * top)}) * "
    for symbol, weight in means:
        if any(e.has(symbol) for e in expressions):
            parts.words.add("uniform_mean")
            lines.append(f"{symbol} = uniform_mean(lambda t: {_of_angle(weight, parts)}, {own})")
    return lines, f"{front}growth_rate(lambda t: {_of_angle(push, parts)}, degree, {own})"


Shifted = tuple[sp.Expr | None, sp.Expr, sp.Expr, tuple[tuple[sp.Symbol, sp.Expr], ...]]


def _shifted(found: Growth, top: sp.Symbol) -> Shifted:
    """The one exponent in t, where exp(exponent) scales push and means by powers; that of push;
    both with the exponent less its largest value, so that no exponential overflows."""
    weights = [w for _, w in found.means]
    atoms = {e for w in (found.push, *weights) for e in w.atoms(sp.exp) if e.has(T)}
    if len(atoms) != 1:
        return None, sp.Integer(0), found.push, found.means
    (atom,) = atoms
    scale = sp.Dummy("scale", positive=True)
    powers = {s: _power(w.xreplace({atom: scale * atom}) / w, scale) for s, w in found.means}
    if any(p is None for p in powers.values()):
        return None, sp.Integer(0), found.push, found.means
    scaled = {s: scale**p * s for s, p in powers.items()}
    power = _power(found.push.xreplace({atom: scale * atom, **scaled}) / found.push, scale)
    if power is None:
        return None, sp.Integer(0), found.push, found.means
    less = {atom: sp.exp(atom.args[0] - top)}
    means = tuple((s, w.xreplace(less)) for s, w in found.means)
    return atom.args[0], power, found.push.xreplace(less), means


def _power(ratio: sp.Expr, scale: sp.Symbol) -> sp.Expr | None:
    """p where the ratio is scale^p, else None."""
    power = sp.simplify(scale * sp.diff(ratio, scale) / ratio)
    alike = power.is_Rational and sp.simplify(ratio / scale**power - 1) == 0
    return power if alike else None


def _of_angle(expression: sp.Expr, parts: Parts) -> str:
    text = scalars.python(expression)
    for word in WORDS:
        if f"{word}(" in text:
            parts.words.add(word)
    if not expression.has(T):
        text = f"{text} + 0 * t"
    return text
