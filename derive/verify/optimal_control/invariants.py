"""L4 of control problems: what a Hamiltonian system satisfies, and what its states add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.draws import generator
from derive.methods.optimal_control import law_checks
from derive.methods.optimal_control.instances import Point, relative
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import Array
from derive.notation.common.scalars import number
from derive.verify.common.rung import Rung, digit
from derive.verify.optimal_control.points import arguments, inner_product, moved

_SEED = 43


def invariants(result: OptimalControl, module: ModuleType, points: Sequence[Point]) -> Rung:
    """What every Hamiltonian system satisfies, and what the kind of its states adds."""
    found = {
        "H_xx, H_uu self-adjoint": 0.0,
        "H_ux adjoint to H_xu": 0.0,
        "H along the flow": 0.0,
        "law is the minimum": 0.0,
    }
    for k, at in enumerate(points):
        args = arguments(module, result, at)
        x, p, u, params = (args[n] for n in ("x", "p", "u", "params"))
        rng = generator(_SEED, k)

        def direction(
            leaves: Sequence[Array], kind: Any, at: Point = at, rng: np.random.Generator = rng
        ) -> Any:
            return kind(*(jnp.asarray(v) for v in moved(leaves, at, rng, result).values()))

        ax, bx = (direction(result.x, module.State) for _ in "ab")
        au, bu = (direction(result.u, module.Control) for _ in "ab")
        for block, a, b in ((module.h_xx, ax, bx), (module.h_uu, au, bu)):
            left, right = (
                inner_product(a, block(x, p, u, params, b)),
                inner_product(b, block(x, p, u, params, a)),
            )
            _keep(found, "H_xx, H_uu self-adjoint", relative(left, right))
        left = inner_product(au, module.h_ux(x, p, u, params, ax))
        right = inner_product(ax, module.h_xu(x, p, u, params, au))
        _keep(found, "H_ux adjoint to H_xu", relative(left, right))
        velocity = module.state_rate(x, u, params)
        force = module.costate_rate(x, p, u, params)
        change = jax.jvp(
            lambda x, p, u=u, params=params: module.hamiltonian(x, p, u, params),
            (x, p),
            (module.State(*velocity), module.Costate(*force)),
        )[1]
        rho = number(result.discount, at.numbers)
        size = sum(
            float(np.sum(np.abs(np.asarray(a) * b))) for a, b in zip(velocity, force, strict=True)
        )
        wanted = rho * inner_product(p, velocity)
        _keep(found, "H along the flow", relative(np.asarray(change), wanted, 1 + size))
        _keep(found, "law is the minimum", _not_least(result, module, args, at))
        _kinds(result, module, args, found)
    return Rung(
        "L4 invariants",
        "self-adjoint blocks, H conserved, the law minimises H, states stay on their manifold",
        max(found.values()) < 1e-10,
        {k: digit(v) for k, v in found.items()},
    )


def _keep(found: dict[str, float], name: str, value: float) -> None:
    found[name] = max(found.get(name, 0.0), float(value))


def _not_least(
    result: OptimalControl, module: ModuleType, args: Mapping[str, Any], at: Point
) -> float:
    """How far H at the law lies above H at admissible controls nearby and far."""
    law = module.control(args["x"], args["p"], args["params"])
    lowest = float(module.hamiltonian(args["x"], args["p"], law, args["params"]))
    rng = generator(_SEED)
    others = []
    for k in range(64):
        step = 10.0 ** (-(k % 4))
        other = {
            name: np.asarray(v) + step * rng.standard_normal(np.shape(v))
            for name, v in law._asdict().items()
        }
        others.append(law_checks.admissible(result, other, at))
    stacked = module.Control(*(np.stack([o[n] for o in others]) for n in module.Control._fields))
    values = module.hamiltonian(args["x"], args["p"], stacked, args["params"])
    return max(0.0, (lowest - float(jnp.min(values))) / (1 + abs(lowest)))


def _kinds(
    result: OptimalControl, module: ModuleType, args: Mapping[str, Any], found: dict[str, float]
) -> None:
    x, p, u, params = (args[n] for n in ("x", "p", "u", "params"))
    velocity = module.state_rate(x, u, params)
    force = module.costate_rate(x, p, u, params)
    for position, slot in enumerate(result.model.states):
        v, q, at = velocity[position], force[position], x[position]
        if slot.kind == "symmetric":
            for a in (v, q):
                _keep(found, "rates are symmetric", relative(np.asarray(a), np.asarray(a.T)))
        if slot.kind == "sphere":
            norm = (at * at).sum(-1)
            _keep(found, "|x| is kept", float(jnp.max(jnp.abs((at * v).sum(-1)))))
            flat = p[position] - (at * p[position]).sum(-1, keepdims=True) / norm[..., None] * at
            tangent = p._replace(**{slot.name: flat})
            moved = module.costate_rate(x, tangent, u, params)[position]
            drift = (at * moved).sum(-1) + (v * flat).sum(-1)
            _keep(found, "x.p = 0 is kept", float(jnp.max(jnp.abs(drift))))
            shifted = p._replace(**{slot.name: p[position] + 0.7 * at})
            left = module.hamiltonian(x, shifted, u, params)
            right = module.hamiltonian(x, p, u, params)
            _keep(found, "H ignores p along x", relative(np.asarray(left), np.asarray(right)))
            longer = x._replace(**{slot.name: 1.3 * at})
            shorter = tangent._replace(**{slot.name: flat / 1.3})
            left = module.hamiltonian(longer, shorter, u, params)
            right = module.hamiltonian(x, tangent, u, params)
            _keep(found, "H ignores |x|", relative(np.asarray(left), np.asarray(right)))
