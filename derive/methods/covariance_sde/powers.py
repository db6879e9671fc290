"""Power counting: on which clock a layer has a limit, and what it is.

Input: n times the exact mean and covariance of one increment.  Output: findings in words, the
limits of the moments; a layer without a limit on the clock depth / width^pace is refused by name,
with the clock that holds.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Index
from derive.calculus.index.text import show, show_term
from derive.calculus.limit.order import Law
from derive.draws import generator
from derive.errors import Place, Refusal
from derive.methods.covariance_sde.instances import symbols_of
from derive.notation.common.arrays import Array, walk
from derive.notation.layers.model import Model, Trace


class WrongClock(Refusal):
    """The layer has no limit on the clock that is given; on depth / width^`pace` it moves."""

    pace: Fraction

    def __init__(self, message: str, place: Place | None, pace: Fraction) -> None:
        super().__init__(message, place)
        self.pace = pace


def finer_powers(output: Array, width: sp.Symbol) -> bool:
    """Whether a layer holds finer powers of the width than its square root."""
    scalars = [a.data for a in walk(output) if a.op == "full"]
    exponents = [p.exp for c in scalars for p in c.atoms(sp.Pow) if p.base == width]
    return any(not (2 * e).is_Integer for e in exponents)


def require_closed(moment: Expression, law: Law, model: Model) -> None:
    """An average must be a function of V alone."""
    for position, (_, factors) in enumerate(moment.terms):
        if any(f.tensor == law.state for f in factors):
            raise Refusal(
                f"the covariance V does not close: the term {show_term(moment, position)} of "
                f"the averaged increment depends on {law.state.name} beyond "
                f"{law.state.name} {law.state.name}^T; entrywise functions of the state and "
                "weights that act unit by unit do this. Let weights mix the units before the "
                f"function, phi({law.state.name} @ W), and count layers from there",
                model.place,
            )


def require_small_mean(drift: Expression, law: Law, traced: Trace) -> None:
    """Refuse a mean increment that is too large for the clock, with the limit that does hold.

    `drift` is the mean of one increment times the layers in a unit of time.
    """
    width, pace = law.scaling.width, law.scaling.pace
    clock = power(width, pace)
    unit = "n" if pace == 1 else clock
    mean = _largest(drift, law)
    if mean and mean[0] > pace:
        raise Refusal(
            f"one layer changes V by order {power(width, mean[0] - pace)}: the term {mean[1]} of "
            f"{unit} E[V' - V]. No limit exists at any depth; {_too_large(traced)}",
            traced.model.place,
        )
    if mean and mean[0] == pace:
        added = f"V[a,b] + {_leading_text(drift, law, pace)}".replace("+ -", "- ")
        lead = drift.map_coefficients(lambda c: law.scaling.leading(c, pace))
        raise Refusal(
            f"one layer changes V by order one: the term {mean[1]} of {unit} E[V' - V] grows like "
            f"{clock}. "
            + (
                f"The norms of the tokens are fast: V is left alone where every token has norm one "
                f"(V[a,a] = 1), and goes there by the map V'[a,b] = {added} a layer, at a depth of "
                f"order one. The limit of what is slow on that manifold is not derived. Normalise "
                f"after the skip instead, with unit_rows=True, or take the branch small: "
                f"{law.state.name} + branch / sqrt({width})"
                if _rests_at_unit_norms(lead, law)
                else "The layer does not reduce to the identity as the width grows, and V "
                "collapses at a depth of order one; the limit that does hold is the map "
                f"V'[a,b] = {added} a layer. Centre the "
                "mixing matrix (A(0) = I), and let the squared weights of skip and branch sum to "
                "one" + _slopes(traced)
            ),
            traced.model.place,
        )
    if mean and mean[0] > 0:
        raise WrongClock(
            f"the mean increment is too large for the clock depth / {clock}: the term {mean[1]} "
            f"of {unit} E[V' - V] grows like {power(width, mean[0])}, a mean that does "
            "not vanish (E B != 0). The limit that does hold is an ODE on the clock depth / "
            f"{power(width, pace - mean[0])}: dV[a,b]/ds = "
            f"{_leading_text(drift, law, mean[0])}. "
            "Centre the mixing matrix (E B = 0) for an SDE at depth / width",
            traced.model.place,
            pace - mean[0],
        )


def _rests_at_unit_norms(lead: Expression, law: Law) -> bool:
    """Whether a map vanishes, to rounding, where all tokens have norm one, but not elsewhere."""
    rng = generator(20241)
    root = rng.standard_normal((3, 5))
    V = root @ root.T / 5
    size = np.sqrt(np.diag(V))
    numbers = {s: rng.uniform(0.3, 0.8) for s in sorted(symbols_of((lead,)), key=str)}
    numbers[law.gram.dims[0]] = 3.0
    there, elsewhere = (
        float(np.abs(evaluate(lead, {law.gram.name: at}, numbers)).max())
        for at in (V / np.outer(size, size), V)
    )
    moved = V + evaluate(lead, {law.gram.name: V}, numbers)
    nearer = np.abs(np.diag(moved) - 1) < np.abs(np.diag(V) - 1)
    return there < 1e-10 < 1e-3 < elsewhere and bool(nearer.all())


def _too_large(traced: Trace) -> str:
    """What to do about a layer that grows: an activation that does not vanish, or a weight."""
    for array in walk(traced.output):
        if array.op == "function" and array.data[0] not in _PARTS:
            value = array.data[1](0)
            if value.is_number and value.is_finite and value != 0:
                line = f" (line {array.place.line})" if array.place else ""
                return (
                    f"{array.data[0]}{line} is {value} at zero, and a shaped activation must "
                    f"vanish there: subtract it, phi(x) - {value}"
                )
    n = traced.model.width
    return (
        f"a product with a weight sums {n} terms: divide each by the root of the dimension it "
        f"sums over, X @ W / sqrt({n})"
    )


def _slopes(traced: Trace) -> str:
    """Shaped activations whose slope at zero is not one: they shrink or stretch the branch."""
    for array in walk(traced.output):
        if array.op != "function" or array.data[0] in _PARTS:
            continue
        (x,), body = array.data[1].variables, array.data[1].expr
        slope = sp.diff(body, x).subs(x, 0)
        if slope.is_number and slope.is_finite and slope != 1:
            line = f" (line {array.place.line})" if array.place else ""
            return (
                f"; {array.data[0]}{line} has the slope phi'(0) = {slope}, and a shaped "
                "activation needs slope one at zero"
            )
    return ""


_PARTS = ("reciprocal", "power", "exp", "log", "sqrt")  # of normalisations, not activations


def count_powers(
    drift: Expression,
    diffusion: Expression,
    increment: Expression,
    law: Law,
    traced: Trace,
    still: bool = False,
) -> tuple[str, ...]:
    """On which clock the layer has a limit; refuses what has none on the one that is given.

    `drift` and `diffusion` are the exact mean and covariance of one `increment` times the layers
    in a unit of time; the covariance is taken anew where it is too small to show in them.
    `still`: what does not move is legal, other blocks do.
    """
    width, pace = law.scaling.width, law.scaling.pace
    clock = power(width, pace)
    require_small_mean(drift, law, traced)
    require_small_spread(diffusion, law, traced.model)
    mean, spread = _largest(drift, law), _largest(diffusion, law)
    if (not mean or mean[0] < 0) and (not spread or spread[0] < 0):
        if still:
            return (f"it moves V too little to count on the clock depth / {clock} (subcritical)",)
        size = power(width, -pace)
        message = (
            f"neither mean nor fluctuation of one layer is as large as {size}: nothing moves "
            f"on the clock depth / {clock}, the definition is subcritical"
        )
        slower = _slower(increment, law)
        if slower is None:
            raise Refusal(message, traced.model.place)
        after = power(width, (slower - pace) / 2)
        raise WrongClock(
            f"{message}; its noise moves V on the clock depth / {power(width, slower)}, or on "
            f"depth / {clock} after scaling the branch up by {after}",
            traced.model.place,
            slower,
        )
    noise = "an SDE" if spread and spread[0] == 0 else "an ODE (its noise vanishes)"
    small = power(width, -pace)
    moves = power(width, -pace / 2) if spread and spread[0] == 0 else small
    return (
        f"one layer moves V by order {moves}, with mean of order {small}: {noise} on the "
        f"clock depth / {clock}",
    )


def _slower(increment: Expression, law: Law) -> Fraction | None:
    """The clock, as a power of the width, on which a subcritical layer's noise moves V."""
    spread = _largest(own_covariance(increment, law), law)
    return -spread[0] if spread else None


def too_quiet(loud: set[str], increment: Expression, law: Law) -> tuple[str, ...]:
    """Weights whose fluctuations are smaller than those that make the noise of this clock.

    `loud`: words of the cores that the noise stands for.
    """
    if law.scaling.pace == 1 or not loud:
        return ()
    clock, held = power(law.scaling.width, law.scaling.pace), increment.tensors()
    return tuple(
        f"{t.name} fluctuates too little to count on the clock depth / {clock}"
        + ("; its mean square enters" if t in held else "")
        for t in law.gaussian
        if t.name not in loud
    )


def require_small_spread(diffusion: Expression, law: Law, model: Model) -> None:
    """Refuse a fluctuation that is too large for the clock."""
    width, pace = law.scaling.width, law.scaling.pace
    clock = power(width, pace)
    unit = "n" if pace == 1 else clock
    spread = _largest(diffusion, law)
    hint = _declare(diffusion, law)
    if spread and spread[0] > 0 and hint:
        raise Refusal(
            f"how much one layer fluctuates depends on how a dimension scales: the term "
            f"{spread[1]} of {unit} Cov[V'] may grow like {power(width, spread[0])}. Say how"
            + hint,
            model.place,
        )
    if spread and spread[0] >= pace:
        raise Refusal(
            f"one layer changes V at random by order one: the term {spread[1]} of {unit} Cov[V'] "
            f"grows like {power(width, spread[0])}, and no clock makes that a small step. Scale "
            "that part down",
            model.place,
        )
    if spread and spread[0] > 0:
        raise WrongClock(
            f"the fluctuation of one layer is too large for the clock depth / {clock}: the term "
            f"{spread[1]} of {unit} Cov[V'] grows like {power(width, spread[0])}, so V moves on "
            f"the clock depth / {power(width, pace - spread[0])}, where smaller parts of the "
            "layer do not count; the definition is supercritical. Scale that part down by "
            f"{power(width, spread[0] / 2)}, in attention by a higher temperature",
            model.place,
            pace - spread[0],
        )


def power(width: sp.Symbol, exponent: Fraction) -> str:
    """A power of the width in words."""
    if exponent == -1:
        return f"1/{width}"
    if exponent.denominator == 1 and exponent > 0:
        return str(width) if exponent == 1 else f"{width}^{exponent}"
    return f"{width}^({exponent})"


def _declare(moment: Expression, law: Law) -> str:
    """A hint, where the size hangs on a dimension of which nothing is said."""
    used = {s for c, _ in moment.terms for s in c.free_symbols} & law.scaling.free
    names = sorted(str(s) for s in used)
    return "".join(
        f' {n} scales: dims("{n}: ..., proportional to the width") or "..., fixed"' for n in names
    )


def _leading_text(drift: Expression, law: Law, degree: Fraction) -> str:
    """The part of n E[V' - V] that grows like width^degree, without that power."""
    part = drift.map_coefficients(lambda c: law.scaling.leading(c, degree))
    return " + ".join(show(part).split("\n")).replace("+ -", "- ")


def _largest(expression: Expression, law: Law) -> tuple[Fraction, str] | None:
    """Largest exponent of the width among the terms, and a term that has it."""
    found = [
        (max(degree), show_term(expression, position))
        for position, (c, _) in enumerate(expression.terms)
        if (degree := law.scaling.degree(c)) is not None
    ]
    return max(found) if found else None


def limit(exact: Expression, law: Law, model: Model) -> Expression:
    """Limit of an expectation as the width grows; names a dimension on which it hangs."""
    scaling = law.scaling
    value = exact.map_coefficients(lambda c: scaling.leading(c, 0))
    for c, _ in value.terms:
        for dim in sorted(c.free_symbols & scaling.free, key=str):
            raise Refusal(
                f"the limit depends on {dim}; say how it scales: "
                f'dims("{dim}: ..., fixed") or dims("{dim}: ..., proportional to the width")',
                model.place,
            )
    return value


def own_covariance(first: Expression, law: Law) -> Expression:
    """Cov(first_ab, first_cd)."""
    other = first.renamed({i: Index(n, i.dim) for i, n in zip(first.free, "cd", strict=True)})
    return law.covariance(first, other)
