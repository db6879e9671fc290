"""L5 of token flows in space: what `limit_object` tells, beside tokens that `solve` moves.

Input: a derivation and its module.  Output: a rung.  Spectra of the text's M and S, by another
route than the runtime's, say what there is to tell; late tokens say whether it is so.
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import jax
import numpy as np

from derive.methods.common.record import rounded
from derive.methods.token_flow.checks import residual
from derive.methods.token_flow.instances import at_tokens
from derive.methods.token_flow.long_times import Led, Starts
from derive.methods.token_flow.result import TokenFlow
from derive.verify.common.rung import Rung
from derive.verify.token_flow.gate import params_of

LATE, SIZE = 8.0, 60.0  # eigenvalue times time; the largest score at the start
REACHED = 0.02  # of the largest score, of the coordinates at the start


def limit_objects(result: TokenFlow, module: ModuleType) -> Rung:
    """Hyperplanes, polytopes, leaders: told at the start, found late."""
    starts = Starts(result.model)
    wanted = {
        "hyperplanes": (3, 1, 1),
        "one hyperplane": (3, 1, -1),
        "polytope": (2, 2, 1),
        "one point": (2, 2, -1),
        "leaders": (1, 1, 1),
    }
    figures: dict[str, float] = {}
    wrong = []
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for name, (d, k, sign) in wanted.items():
            found = starts.first_led(d, lambda f, k=k, s=sign: _has(f, k, s))  # type: ignore[misc]
            if found is None:
                continue
            figures[name], told = _late(found, module, sign)
            if told != (1 if sign < 0 else 3 if k == 1 else None):
                wrong.append(name)
    return Rung(
        "L5 limit objects",
        "what limit_object tells of tokens at the start is where tokens of `solve` are late",
        max(figures.values(), default=0.0) < REACHED and not wrong,
        {k: rounded(v) for k, v in figures.items()} | ({"told wrongly": wrong} if wrong else {}),
        f"tokens or weights further than {REACHED:g} from what is told",
        unreached="" if figures else "no parameters were seen of which a limit is told",
    )


def _has(found: Led, k: int, sign: int) -> bool:
    F = found.form
    if len(F) != k or np.linalg.norm(F - F.T) > 1e-9 * np.linalg.norm(F):
        return False
    return bool(np.linalg.eigvalsh(sign * F)[0] > 0.05 * np.linalg.norm(found.S))


def _late(found: Led, module: ModuleType, sign: int) -> tuple[float, Any]:
    """How far late tokens are from what was told at the start; and how many places were told."""
    c = found.coordinates
    if c.shape[1] == 1:
        c = np.linspace(-1.0, 0.8, len(c))[:, None]
    c = c * np.sqrt(SIZE / np.max(np.abs(c @ found.form @ c.T)))
    x = c @ found.along.T + 0.1 * (found.one.x - found.coordinates @ found.along.T)
    p = params_of(module, at_tokens(found.one, x))
    told = module.limit_object(x, p)
    if told.across is None:
        return float("inf"), told.most
    gap = residual(told.coordinates @ told.form @ told.coordinates.T, c @ found.form @ c.T)
    time = LATE / found.eigenvalue
    end = module.solve(x, p, t1=time, rtol=1e-9).x[-1]
    later = module.limit_object(end, p)
    if sign < 0:
        spread = np.max(np.ptp(later.coordinates, axis=0)) * np.exp(-LATE)
        return max(gap, float(spread / np.max(np.abs(told.coordinates)))), told.most
    gap = max(gap, float(np.max(later.unrest)))
    if told.leaders is not None:
        share = np.asarray(module.attention_matrix(end, p))
        known = np.flatnonzero(told.leaders >= 0)
        gap = max(gap, 1 - float(np.min(share[known, told.leaders[known]], initial=1.0)))
        gap = max(gap, float(len(known) < len(c) - 1))
    return gap, told.most


__all__ = ["limit_objects"]
