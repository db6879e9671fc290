"""What may be said in words of a Gaussian closure, and the check of each.

Input: words and the derivation.  Output: `Fact`s.  The words are read, and compared with the
definition's text on arrays: second differences, rates at singular laws, quadrature of laws on both
sides of a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Tensor
from derive.calculus.written.meanings import expression_text
from derive.errors import Refusal
from derive.methods.common.record import Check, Fact
from derive.methods.gaussian_closure import checks, clouds, instances
from derive.methods.gaussian_closure.conditions import U, has_frequency, is_gram
from derive.methods.gaussian_closure.instances import ClosureInstance
from derive.methods.gaussian_closure.result import GaussianClosure, coupled
from derive.notation.common.arrays import Array
from derive.notation.common.graph import value

AFFINE = 1e-9  # second differences below it are rounding
SEEN = 1e-6  # and above it are none: the verdict itself asks for as much

LAWS = 12
ROUNDING = 1e-9  # of an eigenvalue that is zero, over the largest


def exactness(words: Iterable[str], result: GaussianClosure) -> tuple[Fact, ...]:
    """Whether the closure is exact, with the second difference of the text."""
    out = []
    for said in words:
        if said.startswith("exact where"):
            out.append(Fact(said, "exactness", _shared(result)))
        else:
            claimed = replace(result, exact=said.startswith("exact"))
            out.append(Fact(said, "exactness", checks.second_difference(claimed)))
    return tuple(out)


def _shared(result: GaussianClosure) -> Check:
    """Blocks with one law: one velocity, and affine."""
    model = result.model
    one = instances.instance(model, 3)
    same = {n: np.broadcast_to(one.arrays[n][:1], one.arrays[n].shape) for n in ("m", "S", "x")}
    one = replace(one, arrays={**one.arrays, **same})
    instances.with_law(one.arrays)
    keys = clouds.key_cloud(model, one.arrays, 24)
    x = one.arrays["x"]
    step = 0.5 * np.cos(np.arange(x.shape[-1]))
    low, here, high = (
        clouds.text_velocity(model, one, clouds.query_cloud(model, one, x + k * step), keys)
        for k in (-1, 0, 1)
    )
    scale = max(float(np.max(np.abs(here))), 1e-3)
    bent = float(np.max(np.abs(low - 2 * here + high)))
    apart = float(np.max(np.ptp(here, axis=0)))
    return Check(
        "text at one law for all positions: second difference, and its spread over positions",
        max(bent, apart) / scale,
        AFFINE,
    )


def rank(words: str, result: GaussianClosure) -> Fact:
    """Whether the rank of the covariance is conserved: the part of S' outside the range of S."""
    one = instances.instance(result.model, 31, size=3, rank=1)
    # any rule will do: the part in question is not an average
    _, rate = clouds.text_rates(result.model, one, 6)
    rate = rate + _text_noise(result, one)
    values, vectors = np.linalg.eigh(one.arrays["S"])
    outside = vectors * (values < 1e-9 * values.max(axis=-1, keepdims=True))[..., None, :]
    grown = np.max(np.abs(outside.swapaxes(-1, -2) @ rate @ outside)) / np.max(np.abs(rate))
    what = "S' from the text at a law of rank one, outside of the range of S"
    if "the rank of S is conserved" in words:
        return Fact(words, "rank", Check(what, float(grown), 1e-9))
    return Fact(words, "rank", Check(f"{what} (1e-6 / size)", 1e-6 / max(float(grown), 1e-300), 1))


def _text_noise(result: GaussianClosure, one: ClosureInstance) -> np.ndarray:
    """B B^T of every noise, by the graph of the text."""
    leaves: dict[Array, np.ndarray] = {m: one.arrays[m.data] for m in result.trace.used}
    numbers = {d: float(one.sizes[d.name]) for m in result.trace.used for d in m.shape} | (
        one.numbers
    )
    total = np.zeros(())
    for graph in result.trace.noises:
        factor = value(graph, leaves, numbers)
        total = total + factor @ factor.swapaxes(-1, -2)
    return total


def of_rates(
    words: Iterable[str], result: GaussianClosure, moments: Check | None
) -> tuple[Fact, ...]:
    """How the rates are averaged, where no closed form is known."""
    if result.waves:
        return tuple(fourier(words, result, moments))
    return tuple(cubature(w, result) for w in words)


def fourier(words: Iterable[str], result: GaussianClosure, moments: Check | None) -> list[Fact]:
    """A derivative that is integrable, by differences; and the sums of the Fourier integral."""
    out = []
    for said in words:
        wave = next((w for w in result.waves if said.startswith(f"{w.rule.name}: ")), None)
        if wave is not None:
            order = int(said.partition("order ")[2].split()[0])
            out.append(Fact(said, "integrable", _tails(wave.rule.rule.body, order)))
        else:
            out.append(Fact(said, "quadrature", moments, "no quadrature of the text to compare"))
    return out


def _tails(body: sp.Lambda, order: int) -> Check:
    """The integral of |f^(k)|, f differenced k times, that lies beyond half of the range."""
    s = np.arange(-60.0, 60.0, 0.02)
    s = s[np.abs(s) > 1e-9]  # functions with a removable singularity at zero
    with np.errstate(all="ignore"):
        f = np.asarray(sp.lambdify(*body.args, ["scipy", "numpy"])(s), float) + 0 * s
        for _ in range(order):
            f = np.gradient(f, s)
    kept = np.isfinite(f)
    size = np.abs(f[kept])
    tail = float(size[np.abs(s[kept]) > 30].sum() / size.sum())
    return Check(f"share of the integral of |f^({order})|, by differences, beyond 30", tail, 1e-2)


def cubature(words: str, result: GaussianClosure) -> Fact:
    """The velocity that is averaged does not move where all that it is said to see stands still."""
    said = words.partition("the law of ")[2].partition(" (")[0]
    if said == "x":
        why = "nothing is left out that could be looked for"
        return Fact(words, "seen", None, why)
    names = [part.removesuffix(" x") for part in said.split(", ")]
    one = instances.instance(result.model, 33, size=7)
    x = one.arrays["x"]
    d = x.shape[-1]
    matrices = [m for m in result.trace.used if m.data in names]
    rows = [np.reshape(_on_x(m, one, d), (-1, d)) for m in matrices]
    whole = np.concatenate(rows)
    _, values, basis = np.linalg.svd(whole)
    still = basis[np.sum(values > 1e-9 * values[0]) :]
    if not len(still):
        return Fact(words, "seen", None, f"{said} is all of x at the sizes of the check")
    assert result.cubature is not None
    moved = x + 3 * still[0]
    here, there = (instances.at(one, result.cubature, result.book, x=at) for at in (x, moved))
    off = checks.residual(there, here)
    return Fact(words, "seen", Check(f"x moved so that {said} stand still", off, 1e-9))


def _on_x(matrix: object, one: ClosureInstance, d: int) -> np.ndarray:
    """A matrix with the axis that meets x last."""
    array = one.arrays[matrix.data]  # type: ignore[attr-defined]
    axis = next(k for k, n in reversed(list(enumerate(array.shape))) if n == d)
    return np.moveaxis(array, axis, -1)


def condition(words: str, result: GaussianClosure, matrix: Expression, cov: Tensor) -> Fact:
    """Averages of the text over keys settle inside the condition, and do not outside of it."""
    model = result.model
    if model.positional or model.second or coupled(result):
        return Fact(words, "integrable", None, "laws on both sides of it are not made here")
    one = instances.instance(model, 34, scale=0.6)
    margin = _margins(one, matrix, cov, result)
    worst, seen = 0.0, []
    for inside, scales in ((True, np.geomspace(1, 1e-3, 16)), (False, np.geomspace(1, 1e3, 16))):
        for scale in scales:
            least = margin(scale)
            if (least > 0.7) if inside else (least < -0.5):
                seen.append("inside" if inside else "outside")
                gap = _unsettled(result, one, cov, scale)
                worst = max(worst, gap / 1e-4 if inside else 1e-2 / max(gap, 1e-300))
                break
    if not seen:
        return Fact(words, "integrable", None, "no law of the instance is clearly on one side")
    what = f"quadratures of the text with 32 and 48 nodes, {' and '.join(seen)}"
    return Fact(words, "integrable", Check(what, worst, 1.0))


def at_every_frequency(
    words: str, result: GaussianClosure, matrix: Expression, frequency: sp.Symbol
) -> Fact:
    """u^2 G keeps I + u^2 L^T G L positive at every u where G is positive semi-definite.

    Raises Refusal where it is not, at one of the random laws whose averages over keys exist.
    """
    others = [(m, c) for m, c in result.book.conditions if not _holds(m, frequency)]
    worst, laws = 0.0, 0
    for seed in range(LAWS):
        one = instances.instance(result.model, 340 + seed, scale=0.6 / (1 + seed % 4))
        if any(not _margins(one, m, c, result)(1.0) > 0 for m, c in others):
            continue  # the average over keys does not exist there, at no frequency
        found = instances.at(
            replace(one, numbers={**one.numbers, frequency: 1.0}), matrix, result.book
        )
        values = np.linalg.eigvalsh((found + np.swapaxes(found, -1, -2)) / 2)
        worst = max(worst, float(-values.min() / max(np.abs(values).max(), 1e-300)))
        laws += 1
    if not laws:
        return Fact(words, "integrable", None, "no law of the instances has an average over keys")
    if worst > ROUNDING:
        raise Refusal(
            f"the Fourier integral of the weight diverges for some laws: {words}, and M has a "
            f"negative eigenvalue ({worst:.2g} of the largest) at one of them; take a weight that "
            "decays in the keys",
            result.model.place,
        )
    check = Check(f"smallest eigenvalue of M at {laws} laws, over the largest", worst, ROUNDING)
    return Fact(words, "integrable", check)


def _holds(matrix: Expression, symbol: sp.Symbol) -> bool:
    return any(symbol in c.free_symbols for c, _ in matrix.terms)


def _margins(
    one: ClosureInstance, matrix: Expression, cov: Tensor, result: GaussianClosure
) -> Callable[[float], float]:
    def margin(scale: float) -> float:
        changed = {cov.name: scale * one.arrays[cov.name]}
        middle = instances.at(one, matrix, result.book, **changed)
        values, vectors = np.linalg.eigh(changed[cov.name])
        L = vectors * np.sqrt(np.maximum(values, 0))
        inner = np.swapaxes(L, -1, -2) @ ((middle + np.swapaxes(middle, -1, -2)) / 2) @ L
        return 1 + float(np.min(np.linalg.eigvalsh(inner)))

    return margin


def _unsettled(result: GaussianClosure, one: ClosureInstance, cov: Tensor, scale: float) -> float:
    """How far the averages of two quadratures over keys and queries are apart."""
    model = result.model
    arrays = {**one.arrays, cov.name: scale * one.arrays[cov.name]}
    instances.with_law(arrays)
    there = replace(one, arrays=arrays)
    with np.errstate(all="ignore"):
        found = [np.concatenate([np.ravel(a) for a in clouds.text_rates(model, there, n)])
                 for n in (32, 48)]  # fmt: skip
    gap = float(np.max(np.abs(found[1] - found[0])) / max(float(np.max(np.abs(found[0]))), 1e-300))
    return gap if np.isfinite(gap) else float("inf")


def conditions(result: GaussianClosure) -> tuple[Fact, ...]:
    """What must be positive definite for the Gaussian integrals to exist."""
    out = []
    for matrix, cov in result.book.conditions:
        if is_gram(matrix):
            continue
        shown = expression_text(matrix, result.names.stacks)
        if has_frequency(matrix):
            words = f"integrable at every frequency u: M = {shown} is positive semi-definite"
            out.append(at_every_frequency(words, result, matrix, U))
            continue
        words = f"integrable while I + L^T M L > 0, L L^T = {cov.name}, M = {shown}"
        out.append(condition(words, result, matrix, cov))
    return tuple(dict.fromkeys(out))
