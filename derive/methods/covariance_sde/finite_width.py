"""Beyond the limit: what one layer of finite width does to smooth functions of V.

Input: a derived covariance SDE.  Output: `FiniteWidth`, the next operator of

    n E[f(V') - f(V)] = L_0 f + n^(-1/2) L_1 f + n^(-1) L_2 f + ...

by its parts: a drift (of n E[V' - V]), a diffusion (of n Cov[V']) and a third cumulant (of n times
the third cumulant of V'), each the coefficient of n^(-1/2), and why a part vanishes.

Blocks act one after the other, (1 + L^a/n)(1 + L^b/n) = 1 + (L^a + L^b)/n + O(1/n^2), so their L_1
add; their L_2 do not.  Not supported: rows normalised after the step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.limit.order import Law
from derive.errors import Refusal
from derive.methods.common.record import Fact
from derive.methods.covariance_sde import width_facts
from derive.methods.covariance_sde.layer_moments import ZERO, LayerMoments
from derive.methods.covariance_sde.project import row_scaling
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.layers.model import Trace


@dataclass(frozen=True)
class FiniteWidth:
    """L_1 by its parts; free indices (a, b), (a, b, c, d) and (a, b, c, d, e, f).

    `limit_drift` and `limit_diffusion` are L_0, derived on the way.
    `second_drift` and `second_diffusion` are the coefficients of 1/n in n E[V' - V] and n Cov[V'],
    derived where L_1 = 0 and the layer is one block; information, no SDE is claimed of them.
    """

    width: sp.Symbol
    limit_drift: Expression
    limit_diffusion: Expression
    drift: Expression
    diffusion: Expression
    third_cumulant: Expression
    second_drift: Expression | None
    second_diffusion: Expression | None
    facts: tuple[Fact, ...]

    @property
    def vanishes(self) -> bool:
        return self.drift.is_zero and self.diffusion.is_zero and self.third_cumulant.is_zero

    @property
    def equations(self) -> dict[str, Expression]:
        named = {
            "L_1 drift": self.drift,
            "L_1 diffusion": self.diffusion,
            "L_1 third cumulant": self.third_cumulant,
            "L_2 drift": self.second_drift,
            "L_2 covariance": self.second_diffusion,
        }
        return {name: e for name, e in named.items() if e is not None}


def finite_width(result: CovarianceSDE, second: bool = True) -> FiniteWidth:
    """Derive L_1 of a layer, and, where L_1 = 0 and `second` is set, what is asked of L_2.

    Raises `Refusal` for layers whose rows are normalised, and where an average is not derived.
    """
    place = result.model.place
    if result.model.pace != 1:
        raise Refusal(
            f"the expansion in the width is one of n E[f(V') - f(V)], on the clock depth / "
            f"{result.model.clock}; this definition lives on the clock depth / "
            f"{result.model.clock_text}, where corrections come in other powers of the width",
            place,
        )
    if row_scaling(result.trace, result.law) is not None:
        raise Refusal(
            "the expansion in the width is not derived for rows that are normalised after the "
            "step: the division by their size is no polynomial in the weights, and the averages "
            "that are exact in the width are those of polynomials",
            place,
        )
    alone = len(result.blocks) == 1
    parts = [of_block(b.trace, second and alone) for b in result.blocks]
    found = parts[0] if alone else _added(parts)
    missed = (result.drift - found.limit_drift, result.diffusion - found.limit_diffusion)
    if not all(e.is_zero for e in missed):
        raise Refusal(
            "the expansion in the width does not begin with the limit: "
            f"{len(missed[0].terms)} terms of the drift and {len(missed[1].terms)} of the "
            "diffusion differ",
            place,
        )
    width = found.width
    last = (
        f"L_1 = 0: the weak error of the SDE is O(1/{width})"
        if found.vanishes
        else f"L_1 is not zero: the weak error of the SDE is O({width}^(-1/2))"
    )
    parts_of = (found.drift, found.diffusion, found.third_cumulant)
    said = width_facts.weak_error(last, parts_of, found.facts)
    return replace(found, facts=(*found.facts, said))


def of_block(traced: Trace, second: bool = False) -> FiniteWidth:
    """The expansion of one block, from its trace alone."""
    layer = LayerMoments(traced, 3)
    width = layer.law.scaling.width
    first = layer.first()
    limits = layer.mean(ZERO)[0], layer.covariance(ZERO)[0]
    moments: tuple[Expression | None, Expression | None] = (None, None)
    facts = list(first.facts)
    if first.vanishes and second:
        moments = LayerMoments(traced, 4).second()
        information = (
            f"the 1/{width} parts of one layer's mean and covariance are information: at that "
            "order third and fourth cumulants enter too, and no SDE matches them"
        )
        facts.append(width_facts.information(information))
        held = sorted({str(d) for e in moments for d in _free_dims(e, layer.law)})
        facts += [
            width_facts.enters(
                f"{d} enters at order 1/{width}, though not the limit", layer.law, moments
            )
            for d in held
        ]
    return FiniteWidth(
        width,
        *limits,
        first.drift,
        first.diffusion,
        first.third_cumulant,
        *moments,
        tuple(facts),
    )


def _added(parts: list[FiniteWidth]) -> FiniteWidth:
    def summed(name: str) -> Expression:
        return reduce(add, (getattr(p, name) for p in parts))

    facts = [fact.marked(f"block {k}: ") for k, p in enumerate(parts, 1) for fact in p.facts]
    return FiniteWidth(
        parts[0].width,
        summed("limit_drift"),
        summed("limit_diffusion"),
        summed("drift"),
        summed("diffusion"),
        summed("third_cumulant"),
        None,
        None,
        tuple(facts),
    )


def _free_dims(expression: Expression | None, law: Law) -> set[sp.Symbol]:
    if expression is None:
        return set()
    used = {s for c, _ in expression.terms for s in c.free_symbols}
    return used & law.scaling.free
