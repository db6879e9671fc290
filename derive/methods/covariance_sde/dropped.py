"""What a layer holds and its limit does not, in words.

Input: a block's law, its trace and the limits of its moments.  Output: a sentence for every
dimension and parameter that is gone, with the reason.
"""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.limit.order import Law
from derive.methods.covariance_sde.clock_checks import quiet_parameter
from derive.notation.common.arrays import Array, walk
from derive.notation.common.scalars import Param, Share
from derive.notation.layers.model import Trace


def _scalars(output: Array) -> set[sp.Basic]:
    return {s for a in walk(output) if a.op == "full" for s in a.data.free_symbols}


def dimension_facts(law: Law, traced: Trace, limits: tuple[Expression, ...]) -> tuple[str, ...]:
    used = {d for t in law.gaussian for d in t.dims if not isinstance(d, Share)}
    free = sorted(law.scaling.free & used, key=str)
    facts = tuple(f"{d} drops out of the limit" for d in free)
    kept = {s for e in limits for c, _ in e.terms for s in c.free_symbols}
    responses = {t for e in limits for t in e.tensors() if t.kind == "response"}
    kept |= {s for t in responses for s in _scalars(t.meaning.root)}
    held = _scalars(traced.output)
    lost = sorted((held & set(traced.model.params)) - kept, key=str)
    return facts + tuple(f"{p} drops out of the limit: {_why(p, law, traced)}" for p in lost)


def _why(parameter: Param, law: Law, traced: Trace) -> str:
    """What it scales may be small, or cancel: the layer, run at two values, tells."""
    if quiet_parameter(parameter, traced, law).passed:
        return "what it scales is too small to move V (subcritical)"
    return "mean and covariance of one layer are the same at all its values"
