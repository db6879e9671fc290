"""What a plan does, measured: on its laws, at another tolerance, on more tokens, on other laws."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.precision import precision
from derive.runtime.common.progress import Progress
from derive.runtime.flows.match.distances import known
from derive.runtime.flows.match.laws import Laws
from derive.runtime.flows.match.moving import advance
from derive.runtime.flows.match.plan import Plan, distances
from derive.runtime.flows.match.planes import unit

# Tolerance of the second replay, and what tokens are moved by before each piece: other arithmetic
# rounds otherwise, also where this one takes equal tokens to equal places.
SECOND, SHAKEN = 1e-10, 1e-15
OTHER = 1000  # tokens at most of laws that the plan was not built for
APART = "between the replays, worst token on the way"
AGAIN = f"replayed at {SECOND:g} with tokens moved by {SHAKEN:g}, W_2"
STEADY = 1e-6  # of W_2, what the second replay may reach at least
PARTED = 0.05  # of tokens of the two replays on the way
FEW = 32  # tokens on which the attention is evaluated


def certify(
    plan: Plan,
    seed: int = 0,
    fresh: Laws | None = None,
    report: Progress = lambda share: None,
) -> dict[str, Any]:
    """Findings by name, all from replays from the given laws.

    `fresh`: other tokens of the same laws; without, twice the tokens are drawn around the given
    ones, half a nearest distance away.
    """
    rng = np.random.default_rng(seed)
    first, second, on_the_way = _shaken(plan, rng)
    report(0.4)
    to_target, farthest = distances(first, plan.targets)
    more = doubled(plan.inputs, rng) if fresh is None else fresh
    arrived = plan.run(more)
    again, far_again = distances(arrived, plan.targets, known)
    report(0.7)
    other = _uniform(plan.inputs, rng)
    ends = plan.run(other)
    report(0.9)
    nearest = [_nearest(ends, k, plan.targets) for k in range(2)]
    return {
        "W_2 to each target": to_target,
        "worst token": farthest,
        AGAIN: distances(second, plan.targets)[0],
        APART: on_the_way,
        "attention switched off, weights beside masses": attention(plan, rng),
        "twice the tokens, W_2": again,
        "twice the tokens, worst": far_again,
        "the uniform law ends, W_2 from the nearest target": nearest[0],
        "a mixture of all inputs ends, W_2 from the nearest target": nearest[1],
    }


def unsteady(findings: dict[str, Any], tolerance: float) -> str:
    """Why a plan hangs on the last digits, in words; empty where it does not."""
    again, apart = float(np.max(findings[AGAIN])), findings[APART]
    if again <= max(tolerance, STEADY) and apart <= PARTED:
        return ""
    return (
        f"the plan hangs on the last digits: {AGAIN}, is {again:.3g}, and tokens part by up to "
        f"{apart:.2g} on the way; pass another seed, or laws farther from each other"
    )


def _shaken(plan: Plan, rng: np.random.Generator) -> tuple[Laws, Laws, float]:
    """Ends of the first replay and of the second, and how far they part on the way."""
    second, apart = plan.inputs, 0.0
    for piece, first in zip(plan.pieces, plan.states(), strict=True):
        x = unit(second.x + SHAKEN * unit(rng.standard_normal(second.x.shape)))
        second = advance(plan.spec, second.at(x), piece.params, piece.duration, SECOND)
        apart = max(apart, float(np.abs(first.x - second.x).max()))
    return first, second, apart


def doubled(laws: Laws, rng: np.random.Generator) -> Laws:
    """Every token as two, pushed apart by half the distance to its nearest neighbour."""
    from scipy.spatial import cKDTree

    x = np.repeat(laws.x, 2, axis=1)
    for k, count in enumerate(laws.counts):
        own = laws.own(k)
        if count < 2:
            continue
        gap = np.repeat(cKDTree(own).query(own, k=2)[0][:, 1], 2)
        push = unit(rng.standard_normal((2 * count, x.shape[2])))
        push[1::2] = -push[::2]
        x[k, : 2 * count] = unit(x[k, : 2 * count] + 0.5 * gap[:, None] * push)
    return Laws(x, np.repeat(laws.masses / 2, 2, axis=1), 2 * laws.counts)


def _uniform(laws: Laws, rng: np.random.Generator) -> Laws:
    """Two laws: uniform tokens; tokens of all inputs, as many of each."""
    count, n, d = laws.x.shape
    each = -(-min(n, OTHER) // count)
    picked = [rng.choice(n, each, p=masses) for masses in laws.masses]
    mixed = np.concatenate([x[i] for x, i in zip(laws.x, picked, strict=True)])
    x = np.stack([unit(rng.standard_normal((each * count, d))), mixed])
    return Laws(x, np.full(x.shape[:2], 1 / len(mixed)), np.full(2, len(mixed)))


def _nearest(ends: Laws, law: int, targets: Laws) -> float:
    here, mass = ends.own(law), ends.masses[law, : ends.counts[law]]
    shares = [m[:count] for m, count in zip(targets.masses, targets.counts, strict=True)]
    return float(np.min([known(here, mass, targets.own(k), m) for k, m in enumerate(shares)]))


def attention(plan: Plan, rng: np.random.Generator) -> float:
    """The model's own velocity beside that of the replay, on a few tokens of equal mass."""
    spec = plan.spec
    assert spec.uniform_velocity is not None
    d, gap = plan.inputs.x.shape[2], 0.0
    with precision("float64"):
        both = jax.jit(
            lambda x, m, p: (spec.velocity(x, p), spec.uniform_velocity(x, m, p))  # type: ignore[misc]
        )
        mass = jnp.full(FEW, 1 / FEW)
        for piece in plan.pieces:
            x = jnp.asarray(unit(rng.standard_normal((FEW, d))))
            params = type(piece.params)(*(jnp.asarray(np.asarray(p, float)) for p in piece.params))
            whole, part = both(x, mass, params)
            gap = max(gap, float(jnp.abs(whole - part).max()))
    return gap
