"""Where tokens in space go as t -> oo, told from M, from S and from where they are.

x_a' = sum_b P_ab M x_b, P the softmax of x_a^T S x_b; in z = exp(-t M) x it is z_a' = sum_b P_ab
M (z_b - z_a).  Let lambda > 0 be an eigenvalue of M, real, with k eigenvectors Phi for its k roots,
above the modulus of all others; Psi are the left ones, Psi Phi = 1.  Then

- c = Psi z moves by c_a' = lambda sum_b P_ab (c_b - c_a): the hull of all c only shrinks.  Rows
  of P sum to one, so that the other coordinates of x grow more slowly than exp(lambda t), and
  scores are exp(2 lambda t) (<c_a, F c_b> + o(1)), F = Phi^T S Phi: where c_a is not 0 all weight
  goes to the tokens of largest <c_a, F c_b>.  What rests is a mean of those: <c_a, F c_a> = max.
- F symmetric and positive: <c_a, F c_a> never falls, and comes to rest there; on each face of the
  hull's limit that is one point at most, the foot of the perpendicular from 0.
- F symmetric and negative: |<c_a, F c_a>| never rises.  A token of the largest would rest only
  where no other is elsewhere: all come to one point.

S symmetric and positive, S M + M^T S negative, whatever the spectrum: sum_ab exp(x_a^T S x_b) falls
at the rate sum_a w_a u_a^T (S M + M^T S) u_a, u_a = sum_b P_ab x_b, w_a > 0; it rests where all u_a
vanish, so that sum_ab s_ab exp(s_ab) = 0 <= sum_ab s_ab: all scores are 0, and all tokens.

In one dimension tokens keep their order and, F > 0: by the largest value of -u exp(-v u) the square
of the largest token falls by (n - 1) / (e F) at most, to C^2; a token at s > 0 never falls below s
where v exp(v) >= (n - 2) / e, v = F s (C - s).  It ends with all its weight on the largest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from derive.runtime.common.numbers import finite
from derive.runtime.common.parameters import parameters
from derive.runtime.common.precision import precision
from derive.runtime.flows.specification import FlowModel

APART = 1e-6  # relative: eigenvalues closer than that are taken for one
ZERO = 1e-9  # relative: what is smaller has no sign


class LimitObject(NamedTuple):
    """What tokens approach in z = exp(-t M) x as t -> oo; n tokens, k coordinates.

    `kind`: "polytope" (c is all of z), "hyperplanes" (k = 1), "polytope and plane" (neither),
    "origin" (of x), or "none".  `words`: what it is, or why none is told.  `most`: so many parallel
    planes or points at most, None where no number is told.  `eigenvalue`: of M, the leading one.
    `across` (k, d): c = across @ z, with orthonormal rows.  `form` (k, k): scores grow as exp(2
    eigenvalue t) c_a^T form c_b.  `coordinates` (n, k): c of the tokens given.  `unrest` (n,): how
    much more of a score another token has than a token itself, relative; it goes to 0 where every
    token comes to rest.  `leaders` (n,): in one dimension, the token to which all weight of each
    goes, the first of equal ones; -1 where that is not told.  Fields without a meaning are None.
    """

    kind: str
    words: str
    most: int | None
    eigenvalue: float
    across: np.ndarray | None
    form: np.ndarray | None
    coordinates: np.ndarray | None
    unrest: np.ndarray | None
    leaders: np.ndarray | None


class Leading(NamedTuple):
    eigenvalue: float
    across: np.ndarray
    along: np.ndarray  # (d, k)


def limit_object(spec: FlowModel, x: Any, params: Any) -> LimitObject:
    """What tokens x (n, d) approach; see a generated module's `limit_object`."""
    assert spec.frame is not None and spec.score is not None
    at = finite("x", x)
    if at.ndim != 2 or len(at) < 2:
        raise ValueError(
            f"x must have shape (n, d), two tokens or more of one system, got {at.shape}"
        )
    sizes = dict(zip("nd", at.shape, strict=True))
    values, axes = parameters(spec.params, spec.param_shapes, params, sizes, "x")
    batched = [name for name, shape in axes.items() if shape]
    if batched:
        raise ValueError(f"one system is told of at a time; {batched[0]} has batch axes")
    given = spec.params(**values)
    with precision("float64"):
        M, S = (np.asarray(f(at, given)) for f in (spec.frame, spec.score))
    if _goes_to_zero(M, S):
        words = (
            "S is symmetric and positive, S M + M^T S negative: all tokens x go to 0, their "
            "differences more slowly than any exponential"
        )
        return LimitObject("origin", words, 1, _top(M), None, None, None, None, None)
    found = leading(M)
    if isinstance(found, str):
        return LimitObject("none", found, None, _top(M), None, None, None, None, None)
    return _led(found, S, at)


def _led(found: Leading, S: np.ndarray, x: np.ndarray) -> LimitObject:
    form = found.along.T @ S @ found.along
    c = x @ found.across.T
    k, d = found.across.shape
    sized = c / max(float(np.max(np.abs(c))), np.finfo(float).tiny)  # late tokens are large
    scores = sized @ form @ sized.T
    size = max(float(np.max(np.abs(scores))), np.finfo(float).tiny)
    unrest = (scores.max(axis=1) - np.diag(scores)) / size
    words, most = _rest(form, float(np.linalg.norm(S, 2) * np.linalg.norm(found.along, 2) ** 2), c)
    kind = "polytope" if k == d else "hyperplanes" if k == 1 else "polytope and plane"
    if most == 0:
        kind, seen = "none", None
    else:
        seen = most
    leaders = _leaders(c[:, 0], float(form[0, 0])) if k == d == 1 and most else None
    return LimitObject(kind, words, seen, found.eigenvalue, found.across, form, c, unrest, leaders)


def _rest(form: np.ndarray, scale: float, c: np.ndarray) -> tuple[str, int | None]:
    """Where the coordinates rest, in words, and at how many places; 0 where that is not told."""
    k = len(form)
    one = "in one hyperplane" if k == 1 else "at one point c, times the other directions"
    turned = np.linalg.norm(form - form.T) > ZERO * scale
    values = np.linalg.eigvalsh((form + form.T) / 2)
    if turned:
        words = (
            "the hull of c shrinks to a polytope; a token that rests has <c, F c> = max over its "
            "vertices v of <c, F v>; F is not symmetric, so that it is not told whether all rest"
        )
        return words, None
    if values[0] > ZERO * scale:
        if k > 1:
            return (
                "the hull of c shrinks to a polytope, F is positive: every token comes to rest "
                "where <c, F c> = max over its vertices v of <c, F v>: at a vertex, at 0, or at "
                "the foot of the perpendicular from 0 on a face"
            ), None
        if np.all(c > 0) or np.all(c < 0):
            return "all c have one sign, F > 0: all tokens end where |c| is largest", 1
        return "F > 0: c ends at the largest, at the smallest, or at 0", 3
    if values[-1] < -ZERO * scale:
        return f"F is negative: all tokens end {one}", 1
    lost = "vanishes" if k == 1 else "has no sign"
    return (
        f"F = Phi^T S Phi {lost} on the leading eigenvectors of M: what grows more slowly decides, "
        "and that is not told"
    ), 0


def _top(M: np.ndarray) -> float:
    return float(np.max(np.linalg.eigvals(M).real))


def leading(M: np.ndarray) -> Leading | str:
    """The leading eigenvalue of M with its vectors, or why it does not lead."""
    values = np.linalg.eigvals(M)
    first = values[np.argmax(values.real + ZERO * np.abs(values.imag))]
    scale = float(np.max(np.abs(values)))
    if first.real <= ZERO * scale or not scale:
        return (
            f"no eigenvalue of M has a positive real part (the largest: {first.real:.4g}): no "
            "direction of z gains on the others, and S and M do not show that x goes to 0"
        )
    if abs(first.imag) > APART * scale:
        return (
            f"the leading eigenvalues of M, {first.real:.4g} +- {abs(first.imag):.4g} i, are not "
            "real: the scores turn, and what that leads to is not told"
        )
    value, one = float(first.real), np.abs(values - first) <= APART * scale
    k = int(one.sum())
    if k < len(M) and (beside := float(np.max(np.abs(values[~one])))) >= value * (1 - APART):
        return (
            f"the leading eigenvalue of M, {value:.4g}, is not above the modulus of all others "
            f"({beside:.4g}): their part of x may grow as fast"
        )
    left, gaps, right = np.linalg.svd(M - value * np.eye(len(M)))
    if gaps[-k] > 10 * APART * max(scale, float(gaps[0])):
        return f"the leading eigenvalue of M, {value:.4g}, has fewer eigenvectors than roots"
    across, along = left[:, -k:].T, right[-k:].T
    if np.linalg.svd(across @ along, compute_uv=False)[-1] < APART:
        return (
            f"the leading eigenvalue of M, {value:.4g}, has almost fewer eigenvectors than roots: "
            "float64 does not tell"
        )
    return Leading(value, across, along @ np.linalg.inv(across @ along))


def _goes_to_zero(M: np.ndarray, S: np.ndarray) -> bool:
    scale = float(np.linalg.norm(S, 2))
    if np.linalg.norm(S - S.T) > ZERO * scale or np.linalg.eigvalsh(S)[0] <= ZERO * scale:
        return False
    falls = S @ M
    most = float(np.linalg.eigvalsh(falls + falls.T)[-1])
    return most < -ZERO * scale * float(np.linalg.norm(M, 2))


def _leaders(c: np.ndarray, F: float) -> np.ndarray:
    """Tokens that keep the weight in one dimension, told from the order and the sizes."""
    out = np.full(len(c), -1)
    if F < 0:
        if np.all(c > 0) or np.all(c < 0):
            out[:] = np.argmin(np.abs(c))
        return out
    size = float(np.max(np.abs(c)))
    if not size:
        return np.full(len(c), -1)
    with np.errstate(over="ignore"):
        c, F = c / size, float(np.float64(F) * size * size)
    others = max(len(c) - 2, 0) / np.e
    for sign in (1, -1):
        s = sign * c
        if np.all(s > 0):
            out[:] = np.argmax(s)
            return out
        kept = s.max() ** 2 - (len(c) - 1) / (np.e * F)  # C^2
        inside = kept - 4 * _inverse_of_product(others) / F
        if s.max() > 0 and inside > 0:  # F s (C - s) = v has roots: from the smaller on all stay
            out[s >= (np.sqrt(kept) - np.sqrt(inside)) / 2] = np.argmax(s)
        elif s.max() > 0 and kept > 0:
            out[np.argmax(s)] = np.argmax(s)
    return out


def _inverse_of_product(y: float) -> float:
    """v with v exp(v) = y >= 0, by Newton."""
    v = float(np.log1p(y))
    for _ in range(50):
        v -= (v - y * np.exp(-v)) / (1 + v)
    return v
