"""Signature of a model: what it says, not how it was computed.

Two models have one signature iff their derived equations, their layer and their parameters are
the same; counters, file names and dates do not enter.
"""

from __future__ import annotations

import hashlib

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.notation.layers.model import Model


def signature(model: Model, equations: dict[str, Expression], layer: str) -> str:
    """Sixteen hexadecimal digits over the canonical form of the definition's meaning."""
    parts = [model.method, layer]
    parts += [f"clock {model.clock_text}"] if model.pace != 1 else []
    parts += [f"{p.name}: {p.range.text}" for p in model.params]
    for name, expression in sorted(equations.items()):
        parts.append(name)
        for coefficient, factors in expression.terms:
            slots = [(f.tensor.name, [i.name for i in f.indices]) for f in factors]
            parts.append(f"{sp.srepr(coefficient)} {slots}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
