"""What is said of the cosines at which reduced rates stand still, and of their stability."""

from __future__ import annotations

import sympy as sp

from derive.methods.common.record import Fact, worst_of
from derive.methods.token_flow import deviation_checks
from derive.methods.token_flow.deviations import Deviations, equilibria, sign_for_many
from derive.methods.token_flow.equal_angles import RHO, EqualAngles
from derive.methods.token_flow.names import COUNT, Names
from derive.methods.token_flow.result import Absent
from derive.methods.token_flow.tidy import tidy
from derive.methods.token_flow.two_clusters import COSINE, MASS, TwoClusters

LONGEST = 60  # characters of a rate that is put into words


def equal_angles(
    rates: EqualAngles | Absent, found: Deviations | Absent, names: Names
) -> tuple[Fact, ...]:
    """Every equilibrium that is seen, with the growth of three kinds of small changes."""
    if isinstance(rates, Absent) or isinstance(found, Absent):
        return ()
    out = []
    check = deviation_checks.rates(found, names)
    for cosine in equilibria(rates.cosine, RHO):
        at = [tidy(r.subs(RHO, cosine)) if _short(r) else r for r in found.rates]
        signs = [sign_for_many(r) if _short(r) else 0 for r in at]
        resting = deviation_checks.resting(cosine, names)
        if resting is None:
            continue
        words = f"equal angles rest at rho = {_where(cosine)}{_verdict(signs)}"
        if len(set(at)) == 1:
            words += f": all small changes of cosines {_changes(at[0], signs[0])}"
        elif all(len(sp.sstr(r)) <= LONGEST for r in at):
            how = [_changes(r, sign) for r, sign in zip(at, signs, strict=True)]
            words += f": small changes of all cosines alike {how[0]}, of one token's cosines "
            words += f"(n >= 3) {how[1]}, of pairs' (n >= 4) {how[2]}"
        else:
            words += "; equal_angle_stability has the rates of small changes"
        out.append(Fact(words, "rest", worst_of((resting, check))))
    return tuple(out)


def _where(cosine: sp.Expr) -> str:
    if cosine.free_symbols <= {COUNT}:
        return sp.sstr(cosine)
    return f"{sp.sstr(cosine)}, where that is a cosine of theirs"


def _short(rate: sp.Expr) -> bool:
    return bool(rate.count_ops() < 1000)


def _changes(rate: sp.Expr, sign: int) -> str:
    if rate == 0:
        return "stand to first order"
    return f"decay at {sp.sstr(-rate)}" if sign < 0 else f"grow at {sp.sstr(rate)}"


def _verdict(signs: list[int]) -> str:
    if all(s < 0 for s in signs):
        return ", stable"
    if not any(s > 0 for s in signs):
        return ""
    kinds = ("all cosines alike", "one token's cosines", "pairs' cosines")
    grow = [k for k, s in zip(kinds, signs, strict=True) if s > 0]
    if len(grow) == len(kinds):
        return ", unstable in every way"
    return f", unstable in {' and in '.join(grow)}"


def two_clusters(found: TwoClusters | Absent, names: Names) -> tuple[Fact, ...]:
    """Where two clusters rest, and how fast their cosine leaves it; at equal masses if short."""
    if isinstance(found, Absent):
        return ()
    out = []
    for cosine in equilibria(found.rate, COSINE):
        if cosine.has(MASS, COUNT):
            continue
        slope = tidy(found.rate.diff(COSINE).subs(COSINE, cosine))
        check = deviation_checks.two_resting(cosine, slope, names)
        shown, where = slope, ""
        if slope.has(MASS):
            shown, where = tidy(slope.subs(MASS, sp.Rational(1, 2))), " at equal masses"
        if check is None:
            continue
        words = f"two clusters rest at g = {_where(cosine)}"
        sign = 1 if shown.is_positive else -1 if shown.is_negative else 0
        words += {1: ", unstable", -1: ", stable", 0: ""}[sign] + (where if sign else "")
        if len(sp.sstr(shown)) <= LONGEST:
            words += f": small changes of g {_changes(shown, sign)}"
        out.append(Fact(words, "rest", check))
    return tuple(out)
