"""What is said of tokens in space as t -> oo, each finding with a check that could refute it.

Input: M and S of an average.  Why it is so stands in `derive.runtime.flows.limit_objects`, which
decides the conditions for given arrays.  A finding is said where parameters were seen that meet
its condition; there it is checked, on M and S as the text has them.
"""

from __future__ import annotations

import numpy as np

from derive.calculus.index.defined import Book
from derive.methods.common.record import Check, Fact, worst_of
from derive.methods.token_flow.checks import BY_DIFFERENCES, DIFFERENCE, EXACT, residual
from derive.methods.token_flow.instances import at, instance, text_velocity
from derive.methods.token_flow.long_times import (
    Led,
    Measured,
    Starts,
    later,
    shares,
    text_frame,
    text_score,
    text_weights,
)
from derive.methods.token_flow.names import Names
from derive.methods.token_flow.rescaled import Rescaled
from derive.methods.token_flow.result import Absent
from derive.methods.token_flow.told import told

LONG, FAR = 8.0, 12.0  # eigenvalue times time: of a run, of a look ahead
SCORES = 40.0  # the largest at the start of a run
REACHED = 0.05  # of the coordinates at the start
BOOLEAN = 1e-3


def long_times(found: Rescaled | Absent | None, names: Names, book: Book) -> tuple[Fact, ...]:
    """All findings; None: on the sphere, or where tokens at one point have no linear motion."""
    if found is None:
        return ()
    if isinstance(found, Absent):
        words = f"no limit in that frame is told: {found.why}"
        return (Fact(words, "limit object", None, "nothing is said"),)
    words = (
        "z[a]' = sum_b P[a,b] M (z[b] - z[a]), P the softmax of x[a]^T S x[b], x = exp(t M) z, S = "
        + told(found.score, names, book)
    )
    out = [Fact(words, "rescaled", by_the_text(found, names, book))]
    starts = Starts(names.model)
    return (*out, *_leading(starts), *_resting(starts), *_at_zero(starts), *_leaders(starts))


def by_the_text(found: Rescaled, names: Names, book: Book) -> Check:
    worst = 0.0
    for seed in (41, 42):
        one = instance(names.model, seed, tokens=4)
        M, S = at(one, found.matrix, book), at(one, found.score, book)
        worst = max(worst, residual(M, text_frame(one)), residual(S, text_score(one)))
        weights = text_weights(one)
        share = weights / weights.sum(axis=1, keepdims=True)
        moved = (share[:, :, None] * (one.x[None] - one.x[:, None])).sum(1) @ M.T
        worst = max(worst, residual(moved, text_velocity(one) - one.x @ M.T))
    what = "the text at one point, its log weights, its velocity less M x"
    return Check(what, worst, EXACT)


def _leading(starts: Starts) -> tuple[Fact, ...]:
    one = starts.first_led(3, lambda f: len(f.form) == 1) or starts.first_led(3, lambda f: True)
    if one is None:
        return ()
    words = (
        "where M has an eigenvalue lambda > 0, real, with as many eigenvectors Phi as roots, above "
        "the modulus of all others: c = Psi z (Psi its left eigenvectors, Psi Phi = 1) moves by "
        "c[a]' = lambda sum_b P[a,b] (c[b] - c[a]), so that the hull of all c only shrinks, to a "
        "polytope times the other directions; scores are exp(2 lambda t) (<c[a], F c[b]> + o(1)), "
        "F = Phi^T S Phi: where c[a] is not 0, P gives all weight to the largest <c[a], F c[b]>"
    )
    x, c = one.one.x, one.coordinates
    found = (text_velocity(one.one) - x @ one.M.T) @ one.across.T
    exact = residual(one.eigenvalue * (shares(x, one.S) @ c - c), found) / EXACT
    what = f"the text's velocity along Psi; weights at exp(t M) z where lambda t = {FAR:g}"
    return (Fact(words, "leading", Check(what, max(exact, _dominated(one) / BOOLEAN), 1.0)),)


def _dominated(one: Led) -> float:
    """What the token of largest <c_a, F c_b> lacks of all weight, where it is clearly the one."""
    c = one.coordinates
    values, right = np.linalg.eig(one.M)
    grown = (right * np.exp(FAR / one.eigenvalue * values)) @ np.linalg.inv(right)
    pairs = c @ one.form @ c.T
    two = np.sort(pairs, axis=1)[:, -2:]
    clear = two[:, 1] - two[:, 0] > 0.05 * np.max(np.abs(pairs))
    share = shares(one.one.x @ grown.real.T, one.S)
    kept = share[np.arange(len(c)), np.argmax(pairs, axis=1)][clear]
    return 1 - float(np.min(kept, initial=1.0))


def _resting(starts: Starts) -> tuple[Fact, ...]:
    """One eigenvector among three; and as many as there are dimensions, where that is seen."""
    up, down = (
        [
            f
            for f in (
                starts.first_led(3, lambda f, s=sign: _one_way(f, s)),  # type: ignore[misc]
                starts.first_led(2, lambda f, s=sign: _is_whole(f, s)),  # type: ignore[misc]
            )
            if f is not None
        ]
        for sign in (1, -1)
    )
    out = []
    if up:
        words = (
            "for such M, F symmetric and positive: each token comes to rest where <c, F c> = max "
            "over the polytope's vertices v of <c, F v>: at a vertex, at 0 or at the foot of the "
            "perpendicular from 0 on a face; of one eigenvector: in three parallel hyperplanes at "
            "most, c = 0 one of them; M = lambda 1: in space itself"
        )
        out.append(Fact(words, "limit object", worst_of([_stands(f) for f in up])))
    if down:
        words = (
            "for such M, F symmetric and negative: all tokens come to one c; of one eigenvector: "
            "in one hyperplane"
        )
        out.append(Fact(words, "limit object", worst_of([_meets(f) for f in down])))
    return tuple(out)


def _one_way(found: Led, sign: int) -> bool:
    """One eigenvector, and a score along it that counts."""
    return len(found.form) == 1 and bool(sign * found.form[0, 0] > 0.05 * np.linalg.norm(found.S))


def _is_whole(found: Led, sign: int) -> bool:
    F = sign * found.form
    symmetric = np.allclose(F, F.T, rtol=0, atol=1e-9 * np.linalg.norm(F))
    return len(F) == len(found.M) and symmetric and bool(np.linalg.eigvalsh(F)[0] > 0)


def _ends(found: Led) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates c of tokens with scores of some size, and of the same at a late time; what is
    off the leading directions is small, as it is after some time."""
    c = found.coordinates
    if c.shape[1] == 1:  # on both sides of 0, none of them near it
        c = np.linspace(-1.0, 0.8, len(c))[:, None]
    c = c - (c.mean(axis=0) if c.shape[1] > 1 else 0)
    c = c * np.sqrt(SCORES / np.max(np.abs(c @ found.form @ c.T)))
    x = c @ found.along.T
    x = x + 0.1 * (found.one.x - found.coordinates @ found.along.T)
    end = later(x, found.M, found.S, LONG / found.eigenvalue)
    return c, np.exp(-LONG) * end @ found.across.T


def _stands(found: Led) -> Check:
    """What a token lacks of the largest score; and tokens far apart at the start are so still."""
    start, end = _ends(found)
    scores = end @ found.form @ end.T
    lacks = float(np.max(scores.max(axis=1) - np.diag(scores)) / np.max(np.abs(scores)))
    kept = float(np.max(np.ptp(end, axis=0)) / np.max(np.ptp(start, axis=0)))
    error = max(lacks, REACHED * 0.25 / max(kept, 1e-9))
    return Check("scores late in a run, and the hull's size", error, REACHED)


def _meets(found: Led) -> Check:
    start, end = _ends(found)
    gap = float(np.max(np.ptp(end, axis=0))) / float(np.max(np.abs(start)))
    return Check("all c late in a run", gap, REACHED)


def _at_zero(starts: Starts) -> tuple[Fact, ...]:
    for found in (*starts.of(2), *starts.of(1)):
        S = found.S
        symmetric = np.linalg.norm(S - S.T) <= 1e-9 * np.linalg.norm(S)
        falls = np.linalg.eigvalsh(S @ found.M + found.M.T @ S)[-1] < 0
        if symmetric and falls and np.linalg.eigvalsh(S)[0] > 0:
            words = (
                "where S is symmetric and positive, S M + M^T S negative: all tokens go to 0, as "
                "sum_ab exp(x[a]^T S x[b]) falls until they are there"
            )
            return (Fact(words, "limit object", _falls(found)),)
    return ()


def _falls(found: Measured) -> Check:
    """Its rate along the text's velocity, by differences; and tokens of a run come closer to 0."""
    one, M, S = found.one, found.M, found.S
    v = text_velocity(one)
    weights = [np.exp((x := one.x + sign * DIFFERENCE * v) @ S @ x.T) for sign in (1, 0, -1)]
    slope = (weights[0].sum() - weights[2].sum()) / (2 * DIFFERENCE)
    mean = shares(one.x, S) @ one.x
    wanted = np.einsum("a,ai,ij,aj->", weights[1].sum(axis=1), mean, S @ M + M.T @ S, mean)
    error = residual(np.asarray(wanted), np.asarray(slope)) / BY_DIFFERENCES
    sizes = [
        float(np.max(np.abs(later(one.x, M, S, time / float(np.linalg.norm(M, 2))))))
        for time in (20, 80)
    ]
    error = max(error, sizes[1] / sizes[0] / 0.8)
    return Check("the text's velocity; a run, and one four times as long", error, 1.0)


def _leaders(starts: Starts) -> tuple[Fact, ...]:
    one = starts.first_led(1, lambda f: _one_way(f, 1))
    if one is None:
        return ()
    words = (
        "in one dimension, where M > 0 and S > 0, P becomes Boolean: tokens keep their order, "
        "those that end above 0 give all weight to the largest, those below to the smallest, and "
        "one token at most ends at 0"
    )
    start, end = (y[:, 0] for y in _ends(one))
    share = shares(np.exp(LONG) * end[:, None] * one.along[0, 0], one.S)
    leader = np.where(end > 0, np.argmax(start), np.argmin(start))
    ended = np.abs(end) > REACHED * np.max(np.abs(start))
    lacks = 1 - float(np.min(share[np.arange(len(end)), leader][ended], initial=1.0))
    ordered = np.array_equal(np.argsort(start), np.argsort(end))
    error = lacks if ordered and np.sum(~ended) <= 1 else float("inf")
    return (Fact(words, "leaders", Check("P late in a run, of the text", error, BOOLEAN)),)
