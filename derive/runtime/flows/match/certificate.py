"""What a plan does, measured: on its laws, at another tolerance, on more tokens, on other laws."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.precision import precision
from derive.runtime.flows.match.distances import w2, worst
from derive.runtime.flows.match.laws import Laws
from derive.runtime.flows.match.plan import Plan, distances
from derive.runtime.flows.match.planes import unit

SECOND = 1e-10  # tolerance of the second replay
FEW = 32  # tokens on which the attention is evaluated


def certify(plan: Plan, seed: int = 0, fresh: Laws | None = None) -> dict[str, Any]:
    """Findings by name, all from replays from the given laws.

    `fresh`: other tokens of the same laws; without, twice the tokens are drawn around the given
    ones, half a nearest distance away.
    """
    rng = np.random.default_rng(seed)
    first = plan.run(plan.inputs)
    second = plan.run(plan.inputs, SECOND)
    to_target, farthest = distances(first, plan.targets)
    more = doubled(plan.inputs, rng) if fresh is None else fresh
    arrived = plan.run(more)
    again, far_again = distances(arrived, plan.targets)
    other = _uniform(plan.inputs, rng)
    ends = plan.run(other)
    nearest = [_nearest(ends, k, plan.targets) for k in range(2)]
    return {
        "W_2 to each target": to_target,
        "worst token": farthest,
        "replayed at 1e-10, W_2": distances(second, plan.targets)[0],
        "between the replays, worst token": float(np.abs(first.x - second.x).max()),
        "attention switched off, weights beside masses": attention(plan, rng),
        "twice the tokens, W_2": again,
        "twice the tokens, worst": far_again,
        "the uniform law ends, W_2 from the nearest target": nearest[0],
        "a mixture of all inputs ends, W_2 from the nearest target": nearest[1],
    }


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
    n, d = laws.x.shape[1:]
    each = -(-n // len(laws.x))
    mixed = np.concatenate(
        [laws.x[k, rng.choice(laws.x.shape[1], each, p=laws.masses[k])] for k in range(len(laws.x))]
    )[:n]
    x = np.stack([unit(rng.standard_normal((n, d))), mixed])
    return Laws(x, np.full((2, n), 1 / n), np.array([n, n]))


def _nearest(ends: Laws, law: int, targets: Laws) -> float:
    here, mass = ends.own(law), ends.masses[law, : ends.counts[law]]
    found = []
    for k in range(len(targets.x)):
        try:
            share = targets.masses[k, : targets.counts[k]]
            found.append(w2(here, mass, targets.own(k), share))
        except ImportError:
            found.append(worst(here, targets.own(k)))
    return min(found)


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
