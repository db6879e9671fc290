"""What the kernels of a covariance SDE are given: parameters, sizes, and how they are unpacked."""

from __future__ import annotations

import re
from collections.abc import Iterable

import sympy as sp

from derive.methods.covariance_sde import CovarianceSDE
from derive.notation.arrays import walk
from derive.notation.patterns import Pattern


def parameters(result: CovarianceSDE) -> list[sp.Symbol]:
    """Declared parameters, then dimensions and ratios on which the limit depends."""
    used = {s for e in result.equations.values() for c, _ in e.terms for s in c.free_symbols}
    known = [*result.model.params, result.law.gram.dims[0]]
    extra = sorted(used - set(known), key=lambda s: s.name)
    given = sorted({p.name for p in patterns(result) if p.given})
    return [*result.model.params, *extra, *(sp.Symbol(name) for name in given)]


def patterns(result: CovarianceSDE) -> list[Pattern]:
    return [a.data for a in walk(result.trace.output) if a.op == "constant"]


def sizes_of(result: CovarianceSDE) -> list[sp.Symbol]:
    token = result.law.gram.dims[0]
    return [d for d in result.model.dims if d != token]


def clock_words(result: CovarianceSDE) -> str:
    """What the depth is divided by, in words."""
    return "width" if result.model.pace == 1 else result.model.clock_text


def layer_shaped(result: CovarianceSDE) -> bool:
    """Whether the step of the SDE is the reduced layer itself."""
    return result.reduction is not None and result.reduction.step is not None


def unpacked(result: CovarianceSDE, words: set[str]) -> list[str]:
    """The parameters by name; those that depend on depth at the time of the call."""
    names = [p.name for p in parameters(result)]
    if not words & set(names):
        return []
    varying = [p.name for p in result.model.params if p.varying and p.name in words]
    return [f"{tuple_text(names)} = params", *(f"{name} = at({name}, t)" for name in varying)]


def sizes_unpacked(result: CovarianceSDE, words: set[str]) -> list[str]:
    """The dimensions by name; one that is a parameter too is read there."""
    params = {p.name for p in parameters(result)}
    dims = ["_" if d.name in params else d.name for d in sizes_of(result)]
    return [f"{tuple_text(dims)} = dims"] if words & set(dims) else []


def words_in(texts: Iterable[str]) -> set[str]:
    return {w for t in texts for w in re.findall(r"[A-Za-z_]\w*", t)}


def tuple_text(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names) if len(names) != 1 else f"({names[0]},)"


def assigned(names: Iterable[str], whole: str) -> list[str]:
    names = list(names)
    return [f"{tuple_text(names)} = {whole}"] if names else []
