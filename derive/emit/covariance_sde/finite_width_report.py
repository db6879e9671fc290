"""The report of what one layer of finite width does beyond the limit.

Input: a derived covariance SDE.  Output: which parts of L_1 vanish and why, the others in their
shortest form, the corrected SDE or why there is none, and what is derived of L_2.
"""

from __future__ import annotations

from derive.calculus.index.expressions import Expression
from derive.emit.common.document import Document
from derive.emit.covariance_sde.equations import names_in, shown, terms
from derive.emit.covariance_sde.report import title
from derive.errors import Refusal
from derive.methods.common.record import require_sound
from derive.methods.covariance_sde.corrected import Corrected, corrected
from derive.methods.covariance_sde.finite_width import FiniteWidth, finite_width
from derive.methods.covariance_sde.result import CovarianceSDE

LEFT_SIDES = {
    "L_1 drift": "b^{(1)}_{a b}",
    "L_1 diffusion": r"\Sigma^{(1)}_{a b, c d}",
    "L_1 third cumulant": r"\kappa^{(1)}_{a b, c d, e f}",
    "L_2 drift": "b^{(2)}_{a b}",
    "L_2 covariance": r"\Sigma^{(2)}_{a b, c d}",
}


def document(result: CovarianceSDE) -> Document:
    """The report; raises `Refusal` where there is no expansion."""
    found = finite_width(result)
    require_sound((), result.model.name, found.facts)
    sde: Corrected | None = None
    try:
        sde = corrected(result, found)
        verdict = _verdict(sde)
    except Refusal as reason:
        verdict = f"no corrected SDE: {reason.message}"
    n, headings = found.width.name, _headings(found.width.name)
    kept = _kept(found)
    avoid = names_in(kept.values())
    return Document(
        name=result.model.name,
        title=f"{title(result)} Finite width.".strip(),
        intro=[
            f"  {n} E[f(V') - f(V)] = L_0 f + {n}^(-1/2) L_1 f + {n}^(-1) L_2 f + ..., one layer, "
            "f smooth",
            "  L_0, derived again from all moments, is the generator of the SDE: 0 terms left",
            "",
            *(f"  {fact}" for fact in found.facts),
            f"  {verdict}",
        ],
        equations=[
            shown(name, headings[name], LEFT_SIDES[name], e, avoid) for name, e in kept.items()
        ],
        notes=[],
        latex_notes=[*found.facts, verdict],
        facts=found.facts,
        data={"width": n},
        more={
            "L_1 vanishes": found.vanishes,
            "corrected SDE": verdict,
            "rates": None if sde is None else {n: str(r) for n, r in sde.rates.items()},
            "all equations": {name: terms(e) for name, e in found.equations.items()},
        },
    )


def _verdict(sde: Corrected) -> str:
    kept = " and ".join(sde.corrections).replace("_", " ")
    out = (
        f"corrected SDE, weak error O(1/{sde.found.width}): the limit + {kept} / "
        f"sqrt({sde.found.width}); in the generated module, simulate(..., width=...)"
    )
    if sde.conditions:
        out += f"; the diffusion is positive semi-definite where {' and '.join(sde.conditions)}"
    return out


def _headings(width: str) -> dict[str, str]:
    return {
        "L_1 drift": f"L_1: coefficient of {width}^(-1/2) in {width} E[V' - V]",
        "L_1 diffusion": f"L_1: coefficient of {width}^(-1/2) in {width} Cov[V']",
        "L_1 third cumulant": f"L_1: coefficient of {width}^(-1/2) in {width} times the third "
        "cumulant of V'",
        "L_2 drift": f"L_2, information: coefficient of 1/{width} in {width} E[V' - V]",
        "L_2 covariance": f"L_2, information: coefficient of 1/{width} in {width} Cov[V']",
    }


def _kept(found: FiniteWidth) -> dict[str, Expression]:
    """Equations that are not zero, and every part of an L_1 that does not vanish whole."""
    whole = found.vanishes
    return {n: e for n, e in found.equations.items() if not (whole and n.startswith("L_1"))}
