"""May the mean of the state over its units be read as zero?  Only where it does not count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Tensor
from derive.calculus.limit.order import Law
from derive.calculus.limit.response import peeled
from derive.calculus.limit.series import Expansion
from derive.calculus.limit.units import rests_on_means
from derive.errors import Refusal
from derive.notation.common.arrays import Array, scale, walk
from derive.notation.layers.model import Trace

Increment = Callable[[Expression, Law, Fraction], Expression]


def takes_means(traced: Trace) -> bool:
    """Whether a layer sums the state over its units."""
    sums = (a for a in walk(traced.output) if a.op == "sum")
    return any(
        a.args[0].op in ("state", "multiply", "add")
        and a.args[0].shape == traced.state.shape
        and a.data[0] == 1
        for a in sums
    )


def without_means(traced: Trace) -> Trace:
    """The layer with zero for the mean of the state over its units, as its limit reads it."""
    done: dict[Array, Array] = {}
    for array in walk(traced.output):
        args = tuple(done[a] for a in array.args)
        new = replace(array, args=args) if args != array.args else array
        summed = array.op == "sum" and array.data[0] == 1 and peeled(array.args[0])[1]
        done[array] = scale(sp.Integer(0), new) if summed is traced.state else new
    return replace(traced, output=done[traced.output])


def require_quiet_means(
    traced: Trace,
    law: Law,
    weights: dict[Array, Tensor],
    reach: Fraction,
    increment_of: Increment,
) -> None:
    """Refuse a layer in which the mean over the units moves V by as much as the rest does.

    Functions that read it as zero are off by a relative 1/n: they may stand in what is small.  A
    product with the mean itself may neither fluctuate with the rest nor have a mean.
    """
    if not takes_means(traced):
        return
    top = 2 * law.scaling.pace
    layer = Expansion(law, weights, reach, means=True).of(traced.output)
    whole = any(
        rests_on_means(f) and law.order(c, f, layer.free) <= 0 and not _own(f)
        for c, f in layer.terms
    )
    increment = increment_of(layer, law, top).only(lambda _, f: _own(f))
    first = law.up_to(increment, law.scaling.pace)
    if whole or not first.is_zero or not law.up_to(law.mean(increment), top).is_zero:
        place = next((a.place for a in walk(traced.output) if a.op == "sum"), None)
        raise Refusal(
            f"the mean of {law.state.name} over the units holds one part in {law.scaling.width} of "
            f"V, and taking it out of more than the logits moves V by that much a layer, which "
            f"counts on the clock depth / {law.scaling.width}; that part is no function of V. Take "
            "it out before the logits alone, or normalise without it (RMS)",
            place,
        )


def _own(factors: tuple[object, ...]) -> bool:
    return any(f.tensor.kind == "unit mean" for f in factors)  # type: ignore[attr-defined]
