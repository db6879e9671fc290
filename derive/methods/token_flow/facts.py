"""What is said of a token flow in words, each finding with the check that could refute it."""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression, scalar
from derive.methods.common.record import Check, Fact, worst_of
from derive.methods.token_flow import (
    checks,
    clusters,
    growth_values,
    lone,
    metastability,
    symmetric_starts,
    tails,
)
from derive.methods.token_flow import slow_motion as slow
from derive.methods.token_flow.closing import Closing
from derive.methods.token_flow.energy import Gradient
from derive.methods.token_flow.equal_angles import RADIUS, EqualAngles
from derive.methods.token_flow.equivariance import Direction, turned_arrays
from derive.methods.token_flow.harmonics import Growth
from derive.methods.token_flow.names import Names
from derive.methods.token_flow.result import Absent, TokenFlow
from derive.methods.token_flow.slow_motion import SlowMotion
from derive.methods.token_flow.told import told
from derive.methods.token_flow.two_clusters import TwoClusters


def equivariance(velocity: Expression, noise: Expression | None, names: Names, book: Book) -> Fact:
    """Of the velocity, and of the law of the noise."""
    parts = [velocity] if noise is None else [velocity, noise]
    try:
        arrays = tuple(sorted({n for part in parts for n in turned_arrays(part, names, book)}))
    except Direction as found:
        words = f"no rotation of all tokens is seen to commute with the definition: {found}"
        return Fact(words, "equivariance", None, "what is not found is not compared")
    check = checks.equivariant(names.model, arrays)
    if not arrays:
        words = "every rotation of all tokens commutes with the definition"
    else:
        kept = ", ".join(arrays)
        words = f"a rotation of all tokens commutes with the definition where it leaves {kept} as "
        words += "they are" if len(arrays) > 1 else "it is"
    return Fact(words, "equivariance", check)


def gram(rate: Expression | Absent, names: Names, check: Check) -> Fact:
    if isinstance(rate, Absent):
        words = f"inner products do not close: {rate.why} is left in their rate"
        return Fact(words, "gram", check)
    return Fact("inner products close: R' is a function of R and the masses", "gram", check)


def equal_angles(rates: EqualAngles | Absent, names: Names) -> Fact:
    if isinstance(rates, Absent):
        words = f"equal angles are not seen to be preserved: {rates.why}"
        return Fact(words, "equal angles", None, "what is not found is not compared")
    free = "" if rates.radius is None else " and all radii equal"
    words = f"equal angles{free} are preserved, for tokens of equal mass"
    return Fact(words, "equal angles", checks.equal_angles(rates, names))


def closing(found: Closing | Absent, rates: EqualAngles | Absent, names: Names) -> tuple[Fact, ...]:
    if isinstance(rates, Absent):
        return ()
    if isinstance(found, Absent):
        words = f"how equal angles close is not said: {found.why}"
        return (Fact(words, "closing", None, "nothing is said"),)
    rate = sp.sstr(found.rate)
    if found.kind == "repelling":
        away = _in_product(sp.sstr(-found.rate))
        words = f"consensus is unstable: near it (1 - rho)' = {away} (1 - rho)"
        words += f"^{found.order}" if found.order > 1 else ""
        return (Fact(words, "consensus", tails.near_consensus(found, rates, names)),)
    if found.order == 1:
        first = f"near consensus 1 - rho decays at the rate {rate}"
    else:
        first = f"near consensus (1 - rho)' = -{_in_product(rate)} (1 - rho)^{found.order}"
    out = [Fact(first, "consensus", tails.near_consensus(found, rates, names))]
    check = tails.tail(found, rates, names)
    why = "" if check is not None else "the rate is negative where it was tried"
    condition = "where this rate is positive, " if found.if_positive else ""
    return (*out, Fact(condition + _tail(found), "tail", check, why))


def _tail(found: Closing) -> str:
    exponent = sp.sstr(found.exponent)
    where, radius = "where rho goes to 1", ""
    if found.radius is not None:
        speed, power = found.radius
        grows = f"r' {'->' if power == 0 else '~'} {sp.sstr(speed * RADIUS**power)}"
        where, radius = f"{where} and r to oo", f", the radius by {grows}"
    if found.kind == "open":
        return f"as t -> oo, where r goes to oo, rho does not go to 1{radius}: angles freeze"
    if found.kind == "exponential":
        return f"as t -> oo, {where}, 1 - rho ~ exp(-{_in_product(exponent)} t){radius}"
    return f"as t -> oo, {where}, 1 - rho ~ t^(-{exponent}){radius}"


def _in_product(text: str) -> str:
    return f"({text})" if " + " in text or " - " in text else text


def kept(velocity: Expression, names: Names, book: Book, noisy: bool) -> tuple[Fact, ...]:
    """Configurations that the definition's symmetries keep; noise of every token keeps none."""
    out = []
    if not noisy and symmetric_starts.spanned_by_tokens(velocity, names):
        words = "tokens in a subspace stay in it: on a line, in a plane"
        if names.model.sphere:
            words = "tokens in a subspace stay in it: on a great circle, where angles are all"
        out.append(Fact(words, "subspace", symmetric_starts.in_a_plane(names)))
    if not names.model.positional and not noisy:
        words = "tokens at one place stay together: n tokens at K places are K clusters with masses"
        out.append(Fact(words, "clusters", symmetric_starts.clusters(names)))
        if symmetric_starts.inversion_commutes(velocity, names, book):
            words = "antipodal pairs of equal mass stay antipodal"
            out.append(Fact(words, "antipodal", symmetric_starts.antipodal(names)))
    return tuple(out)


def at_one_point(
    motion: Expression | Absent, matrix: Expression | None, names: Names, book: Book
) -> tuple[Fact, ...]:
    if isinstance(motion, Absent):
        return ()
    check = lone.by_the_text(motion, names, book)
    shown = told(motion, names, book)
    if names.model.sphere and lone.rests(motion, names):
        words = "tokens at one point stand still: consensus is an equilibrium wherever it is"
        return (Fact(words, "one point", worst_of((check, lone.resting_by_the_text(names)))),)
    if names.model.sphere:
        words = f"tokens at one point move on together, by the tangential part of {shown}"
        return (Fact(words, "one point", check),)
    if motion.is_zero:
        return (Fact("tokens at one point stand still", "one point", check),)
    out = [Fact(f"tokens at one point move on together by {shown}", "one point", check)]
    if matrix is not None:
        words = "in the frame z = exp(-t M) x tokens at one point rest, M = "
        words += told(matrix, names, book)
        out.append(Fact(words, "frame", lone.in_frame_by_the_text(matrix, names, book)))
    return tuple(out)


def circle(pushes: Expression | Absent, names: Names, book: Book) -> tuple[Fact, ...]:
    if isinstance(pushes, Absent):
        return ()
    words = (
        "on the circle (d = 2) theta[a]' = sum_b w[a,b] sin(theta[b] - theta[a]), w[a,b] = "
        f"{told(pushes, names, book)}, R[a,b] = cos(theta[a] - theta[b])"
    )
    return (Fact(words, "circle", symmetric_starts.circle(pushes, names, book)),)


def contraction(found: Expression | Absent, names: Names, book: Book) -> tuple[Fact, ...]:
    if isinstance(found, Absent):
        return ()
    words = (
        "a token beside cluster a, off the span of all clusters, closes in at the rate c[a] = "
        f"{told(found, names, book)}"
    )
    return (Fact(words, "contraction", clusters.by_the_text(found, names, book)),)


def two_clusters(found: TwoClusters | Absent, names: Names) -> tuple[Fact, ...]:
    if isinstance(found, Absent) or found.exponent is None:
        return ()
    large, exponent = found.exponent
    words = (
        "two clusters of equal mass merge from the cosine g_0 after a time with "
        f"log(time) / {large} -> {sp.sstr(exponent)} as {large} -> oo"
    )
    return (Fact(words, "merging", checks.merging_exponent(found, names)),)


def slow_motion(found: SlowMotion | Absent, names: Names) -> tuple[Fact, ...]:
    if isinstance(found, Absent):
        return ()
    large, at = sp.sstr(found.large), sp.sstr(found.height)
    words = (
        f"as {large} -> oo a cluster of mass m_b at the cosine g pulls one of mass m_a by "
        f"{sp.sstr(found.weight)} exp({large} ({at})): on this clock of the closest pair it alone "
        f"moves, along its geodesic, cluster a the part {sp.sstr(found.share)} of the way"
    )
    return (Fact(words, "slow motion", slow.by_the_text(found, names)),)


def caps(result: TokenFlow, names: Names) -> tuple[Fact, ...]:
    """The bounds that make caps of tokens metastable."""
    found = result.caps
    if isinstance(found, Absent):
        return ()
    words = (
        "a token of a cap of mass mu, its cosines at least r within the cap and at most g to all "
        f"others, is pulled by these by at most {sp.sstr(found.others)}, and by one token of mass "
        f"mu of its own cap by at least {sp.sstr(found.inside)}"
    )
    check = metastability.by_the_text(found, names, result.velocity, result.book)
    return (Fact(words, "caps", check),)


def gradient(found: Gradient, names: Names, book: Book, noisy: bool) -> tuple[Fact, ...]:
    """`noisy`: then the energy is no function that never falls."""
    drift = "drift of the tokens" if noisy else "velocity"
    one = scalar(sp.Integer(1), (names.s,))
    if found.weight is None:
        assert found.left is not None
        words = (
            f"the {drift} is no gradient in the metric of the masses, nor with what its terms "
            f"share as a weight: of the antisymmetric part of its derivative there is left "
            f"{told(found.left, names, book)}"
        )
        return (Fact(words, "gradient", checks.closed(one, names, book, False)),)
    plain = found.weight == one
    metric = "of the masses"
    metric += "" if plain else f" times g[a] = {told(found.weight, names, book)}"
    words = f"the {drift} is the gradient of an energy in the metric {metric}"
    out = [Fact(words, "gradient", checks.closed(found.weight, names, book, True))]
    if found.energy is None:
        words = "the energy has no closed form by the rules of the line integral"
        return (*out, Fact(words, "energy", None, "nothing is said of its value"))
    g = "" if plain else " g[a]"
    if noisy:
        words = "the energy of the drift is E; with noise it may fall"
        return (*out, Fact(words, "energy", checks.energy(found, names, book)))
    words = f"energy identity: E' = sum_a mass[a]{g} |x_a'|^2, so that E never falls"
    words += "" if found.positive else " where every g[a] is positive"
    return (*out, Fact(words, "energy", checks.energy(found, names, book)))


def growth(found: Growth | Absent, names: Names) -> tuple[Fact, ...]:
    if not names.model.sphere:
        return ()
    if isinstance(found, Absent):
        words = f"the uniform law's stability is not derived: {found.why}"
        return (Fact(words, "growth", None, "nothing is said"),)
    means = "; ".join(f"{s} = mean of {sp.sstr(w)} over the uniform law" for s, w in found.means)
    words = (
        "a harmonic of degree k of the uniform law grows at c_d int f(t) P_k'(t) "
        f"(1 - t^2)^((d-1)/2) dt, f(t) = {sp.sstr(found.push)}"
    )
    words += f", {means}" if means else ""
    if found.diffusion != 0:
        words += f", less {_in_product(sp.sstr(found.diffusion))} k (k + d - 2) by the noise"
        words += ": the uniform law is stable where that is more for every k"
    return (Fact(words, "growth", growth_values.by_the_text(found, names)),)
