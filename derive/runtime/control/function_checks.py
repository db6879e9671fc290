"""Whether a problem's functions are finite, and H convex in the control, where a search starts."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.compiling import brief
from derive.runtime.control.coordinates import SMALL, Flat


@lru_cache(maxsize=32)
def _values(flat: Flat) -> Any:
    """Every function of the problem at points (batch, ...), by name, and H_uu there."""

    def find(z: Any, q: Any, v: Any, params: Any) -> tuple[dict[str, Any], Any]:
        v = flat.law(z, q, v, params)
        values = {
            "running_cost": flat.running(z, v, params),
            "state_rate": flat.rate(z, v, params),
            "costate_rate": flat.costate_rate(z, q, v, params),
            "stationarity": flat.stationarity(z, q, v, params),
            "terminal_cost": flat.terminal(z, params),
            "terminal_rate": flat.terminal_rate(z, params),
        }
        return values, jax.jacfwd(flat.stationarity, 2)(z, q, v, params)

    return brief(jax.vmap(find, (0, None, None, None)), flat.n <= SMALL)


def check_functions(
    flat: Flat, z: Any, q: Any, v: Any, params: Any, where: Callable[[int], str]
) -> None:
    """At states z (batch, n): raise where a function is not finite, or H_uu not positive."""
    values, curvature = jax.tree.map(np.asarray, _values(flat)(z, q, v, params))
    for name, value in values.items():
        if not np.all(np.isfinite(value)):
            k, *rest = np.argwhere(~np.isfinite(value))[0]
            control = flat.law(jnp.asarray(z[k]), jnp.asarray(q), jnp.asarray(v), params)
            raise ValueError(
                f"{name} is {value[(k, *rest)]} {where(int(k))}, at state "
                f"{show(flat.point(z[k]))} and control {show(flat.control(control))}; "
                "check the definition there (log, sqrt or division at the edge of its range?)"
                + (
                    ""
                    if np.all(np.isfinite(np.asarray(control)))
                    else ", and whether H_uu = 0 there (a cost like u^4 is flat at u = 0: add "
                    "beta / 2 |u|^2)"
                )
            )
    if flat.m and flat.spec.sparse not in ("l1", "l2norm"):
        least = np.linalg.eigvalsh((curvature + np.swapaxes(curvature, -1, -2)) / 2)[:, 0]
        k = int(np.argmin(least))
        if not least[k] > 1e-12 * max(1.0, float(np.abs(curvature).max())):
            raise not_convex(float(least[k]), where(k), bool(flat.spec.bounds))


def check_one_of(flat: Flat, z: Any, q: Any, v: Any, params: Any) -> None:
    """Raise if the functions fail at each of these points, with what the first of them said."""
    refusal: ValueError | None = None
    for k in range(len(z)):
        try:
            check_functions(
                flat, z[k : k + 1], q[k], v[k], params, lambda k: "at the start of a static search"
            )
        except ValueError as error:
            refusal = refusal or error
        else:
            return
    if refusal is not None:
        raise refusal


def not_convex(least: float, where: str, bounded: bool = False) -> ValueError:
    if bounded:
        return ValueError(
            f"H_uu is not positive definite {where}: its smallest eigenvalue is {least:.4g}; "
            "within bounds alone the control jumps between them or is singular, and there is no "
            "Hamiltonian matrix; solve(...) finds its switching times, and for a turnpike give "
            "every control a positive cost, such as beta / 2 |u|^2"
        )
    return ValueError(
        f"H_uu is not positive definite {where}: its smallest eigenvalue is {least:.4g}, so no "
        "control minimises H; give every control a cost with positive weight"
    )


def show(tree: Any) -> str:
    texts = (
        f"{name} = {np.array2string(np.asarray(value), precision=4, threshold=12)}"
        for name, value in tree._asdict().items()
    )
    return ", ".join(texts).replace("\n", "")
