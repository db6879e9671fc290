"""A linearly implicit, L-stable step for stiff closures: RODAS (Hairer, Wanner, IV.7), order 4(3).

Six stages with one Jacobian and one LU factorisation a step; the Jacobian of the whole state by
forward-mode differentiation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from derive.runtime.closures.specification import ClosureModel
from derive.runtime.closures.state import own_rate, packed
from derive.runtime.common import small_matrices
from derive.runtime.common.adaptive import Attempt

GAMMA = 0.25
A = (
    (),
    (1.544,),
    (0.9466785280815826, 0.2557011698983284),
    (3.314825187068521, 2.896124015972201, 0.9986419139977817),
    (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950),
)
C = (
    (),
    (-5.6688,),
    (-2.430093356833875, -0.2063599157091915),
    (-0.1073529058151375, -9.594562251023355, -20.47028614809616),
    (7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160),
    (
        8.083246795921522,
        -7.981132988064893,
        -31.52159432874371,
        16.31930543123136,
        -6.058818238834054,
    ),
)


def make_attempt(spec: ClosureModel) -> Callable[..., Any]:
    """A trial step with the signature of the explicit one."""
    f, both = own_rate(spec), packed(spec)

    def attempt(base: Any, slope: Any, h: Any, params: Any, allowed: Any) -> Any:
        lanes = base[0].shape[-1]
        ends = list(itertools.accumulate(y.size // lanes for y in base))[:-1]

        def pack(state: Any) -> Any:  # (n, lanes)
            return jnp.concatenate([y.reshape(-1, lanes) for y in state])

        def unpack(x: Any) -> Any:
            parts = jnp.split(x, ends)
            return tuple(p.reshape(y.shape) for p, y in zip(parts, base, strict=True))

        first, jacobian = both(base, params)
        y = pack(base)
        one = jnp.eye(len(y), dtype=y.dtype)
        step = jnp.where(h > 0, h, 1)
        # LAPACK's layout, lanes first, for the factorisation alone
        left = one[None] / (GAMMA * step[:, None, None]) - jnp.moveaxis(jacobian, -1, 0)
        lu = small_matrices.factored(left)
        ks: list[Any] = []
        now = y
        for i in range(6):
            if i < 5:
                now = y + sum((a * k for a, k in zip(A[i], ks, strict=True)), jnp.zeros_like(y))
            else:  # the fifth argument and its solution
                now = now + ks[-1]
            right = pack(f(unpack(now), params)) if i else first
            if i:
                right = right + sum(c * k for c, k in zip(C[i], ks, strict=True)) / step[None]
            ks.append(small_matrices.solve_factored(lu, right.T[..., None])[..., 0].T)
        return Attempt(unpack(now + ks[-1]), unpack(ks[-1]), (), jnp.zeros_like(h))

    return attempt
