"""Is there such a velocity: weights that are normalised must not take both signs.

Input: a definition and its trace.  Output: nothing, or a Refusal with a pair of tokens where a
weight is negative.  The text itself is run at many pairs of tokens of many sizes, and from the
smallest weight found on in ever smaller neighbourhoods of its pair: where a weight is positive at
one pair and negative at another, its normaliser vanishes for some query or some law, and the
velocity has a pole there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from derive.draws import generator
from derive.errors import Refusal
from derive.methods.gaussian_closure.instances import ClosureInstance, instance
from derive.notation.closures.model import ClosureModel, ClosureTrace
from derive.notation.closures.numeric import Cloud, weights_of_averages
from derive.notation.common.arrays import walk

TOKENS = 160
SIZES = (0.3, 1.0, 3.0, 10.0, 100.0)
DRAWS, ROUNDS = 6, 12  # of parameters and matrices; of the search for the smallest weight
ROUNDING = 1e-12


def require_one_sign(
    model: ClosureModel, traced: ClosureTrace, home: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> None:
    """Raises Refusal for a normaliser that takes both signs, or whose weight vanishes.

    `home`: puts points (..., d) where tokens live.
    """
    nodes = [n for n in walk(traced.velocity) if n.op == "average"]
    nodes += [n for n in walk(traced.velocity) if n.op == "bistochastic"]
    if not nodes:
        return
    place = nodes[0].place if len(nodes) == 1 else model.place
    for seed in range(DRAWS):
        one = instance(model, 300 + seed, scale=1.0)
        rng = generator(seed)
        d, e = (one.sizes[n.name] for n in (model.state_dim, model.key_dim))
        size = np.repeat(SIZES, TOKENS // len(SIZES))[:, None]
        label = rng.integers(0, 3, TOKENS).astype(float) if model.positional else None
        queries, keys = (
            Cloud(home(size * rng.standard_normal((TOKENS, n))), np.full(TOKENS, 1 / TOKENS), label)
            for n in (d, e)
        )
        keys = replace(keys, at=rng.permutation(keys.at))
        if model.second:
            keys = replace(keys, at=size * rng.standard_normal((TOKENS, d)), second=keys.at)

        def at(q: Cloud, k: Cloud, one: ClosureInstance = one) -> list[np.ndarray]:
            return weights_of_averages(model, q, k, arrays=one.arrays, params=one.params)

        for number, weight in enumerate(at(queries, keys)):
            if label is not None:
                _require_keys(weight, label, place)
            _require(model, weight, one.params, place)
            least = _least(lambda q, k, n=number: at(q, k)[n], weight, queries, keys, rng, home)  # type: ignore[misc]
            _require(model, np.append(weight, least), one.params, place)


def _least(
    weights: Callable[[Cloud, Cloud], np.ndarray],
    found: np.ndarray,
    queries: Cloud,
    keys: Cloud,
    rng: np.random.Generator,
    home: Callable[[np.ndarray], np.ndarray],
) -> float:
    """The weight nearest to a change of sign, about the smallest one found, (queries, keys)."""
    sign = np.sign(np.nanmedian(found))
    least, half = np.inf, 1.0
    for _ in range(ROUNDS):
        value = np.where(np.isfinite(found), sign * np.asarray(found, float), np.inf)
        a, b = np.unravel_index(np.argmin(value), value.shape)
        if value[a, b] < least:
            least, q, k = float(value[a, b]), queries.at[a], keys.at[b]
            places = [c.position if c.position is None else np.full(TOKENS, c.position[i])
                      for c, i in ((queries, a), (keys, b))]  # fmt: skip
        if least < 0 or not np.isfinite(least):
            break
        queries, keys = (
            replace(
                cloud,
                at=home(point + half * (1 + np.abs(point)) * rng.standard_normal(cloud.at.shape)),
                position=place,
            )
            for cloud, point, place in zip((queries, keys), (q, k), places, strict=True)
        )
        found, half = weights(queries, keys), half / 2
    return sign * least


def _require_keys(weight: np.ndarray, position: np.ndarray, place: object) -> None:
    """A position that sees no key has no average."""
    there: np.ndarray = np.not_equal(np.nan_to_num(weight), 0)  # inf times a mask of zero is nan
    seen: np.ndarray = np.any(np.broadcast_to(there, (len(position), weight.shape[-1])), axis=-1)
    blind = [p for p in np.unique(position) if not np.any(seen[position == p])]
    if np.any(seen) and blind:
        raise Refusal(
            "the normaliser of average(value, weight) is zero at some position: every key is "
            "masked there, as before the first one with tau < s; let a token see itself "
            "(tau <= s), or take integral(value, weight)",
            place,  # type: ignore[arg-type]
        )


def _require(
    model: ClosureModel, weight: np.ndarray, params: dict[str, float], place: object
) -> None:
    weight = np.asarray(weight, float)
    good = weight[np.isfinite(weight)]
    if not len(good):
        return
    low, high = float(good.min()), float(good.max())
    near = float(np.median(np.abs(good)))
    if low < -ROUNDING * near and high > ROUNDING * near:
        at = ", ".join(f"{n} = {v:.3g}" for n, v in params.items())
        raise Refusal(
            "the normaliser of average(value, weight) vanishes for some tokens or some law, and "
            f"the velocity has a pole there: the weight takes both signs, {high:.3g} at one pair "
            f"of tokens and {low:.3g} at another{f', with {at}' if at else ''}; take a weight that "
            "is nowhere negative (declare the ranges of its parameters), or "
            "integral(value, weight), which is not normalised",
            place,  # type: ignore[arg-type]
        )
    if low == high == 0:
        raise Refusal("the weight of an average is zero everywhere: 0 / 0", place)  # type: ignore[arg-type]


__all__ = ["require_one_sign"]
