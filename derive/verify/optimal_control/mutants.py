"""L6 of control problems: every node of every equation broken, to be caught by L1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import sympy as sp

from derive.draws import generator
from derive.methods.optimal_control import instances
from derive.methods.optimal_control.instances import Point, inside, relative
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import Array, walk
from derive.verify.common.rung import Rung
from derive.verify.optimal_control.steps import residual_of

_SEED = 43


def mutants(result: OptimalControl, most: int) -> Rung:
    """Every node of every equation broken: negated, doubled, times 1.01, dropped, transposed."""
    names = dict(result.algebra.names)
    at = [inside(result.model, k) for k in range(instances.INSTANCES)]
    elsewhere = []
    for seed in (99, 100, 101):
        fresh = inside(result.model, seed)
        loud = {leaf.data: 20 * fresh.arrays[leaf.data] for leaf in result.p}
        elsewhere += [fresh, replace(fresh, arrays={**fresh.arrays, **loud})]
    rng = generator(_SEED)
    made = list(_mutations(result))
    chosen = made if len(made) <= most else [made[k] for k in rng.permutation(len(made))[:most]]
    killed, same, survivors = 0, 0, []
    old = np.seterr(all="ignore")  # broken equations divide by zero
    for name, position, what, mutant in chosen:
        parts = list(result.equations[name])
        if all(_equal(result, parts[position], mutant, place) for place in elsewhere):
            same += 1
            continue
        parts[position] = mutant
        broken = replace(result, equations={**result.equations, name: tuple(parts)})
        try:
            residual = residual_of(broken, name, at)
        except (ValueError, IndexError):
            residual = float("inf")
        if residual > instances.TOLERANCE:
            killed += 1
        else:
            survivors.append(f"{name}[{position}]: {what}")
    np.seterr(**old)
    result.algebra.names.clear()  # broken expressions have named their parts
    result.algebra.names.update(names)
    if not killed and not survivors:
        return Rung(
            "L6 mutants",
            "every broken equation is caught by L1",
            False,
            unreached=f"none of {len(made)} mutants differs from its equation in value",
        )
    return Rung(
        "L6 mutants",
        "every broken equation is caught by L1",
        not survivors,
        {
            "made": len(made),
            "tried": len(chosen),
            "killed": killed,
            "equal in value": same,
            "survivors": survivors[:10],
        },
    )


def _equal(result: OptimalControl, first: Array, second: Array, at: Point) -> bool:
    """Whether two expressions have one value at a point where no check looks."""
    before = instances.graph_value(result, first, at)
    try:
        after = instances.graph_value(result, second, at)
    except (ValueError, IndexError):
        return False
    return relative(after, before) <= 1e-9


def _mutations(result: OptimalControl) -> Iterator[tuple[str, int, str, Array]]:
    g = result.algebra
    factors = {"negated": -1, "doubled": 2, "times 1.01": sp.Rational(101, 100), "dropped": 0}
    for name, parts in result.equations.items():
        for position, part in enumerate(parts):
            for node in walk(part):
                if node.op in ("full", "eye"):
                    continue
                changes = {what: g.scale(sp.sympify(f), node) for what, f in factors.items()}
                square = node.ndim == 2 and node.shape[0] == node.shape[1]
                if square and not g.is_symmetric(node):
                    changes["transposed"] = g.transpose(node)
                if node.op == "matmul" and all(
                    a.ndim == 2 and a.shape[0] == a.shape[1] for a in node.args
                ):
                    changes["swapped"] = g.matmul(node.args[1], node.args[0])
                for what, other in changes.items():
                    (mutant,) = g.rebuild([part], {node: other})
                    if mutant is not part:
                        yield name, position, f"{node.op} {what}", mutant
