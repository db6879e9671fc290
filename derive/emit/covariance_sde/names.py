"""What the kernels of a covariance SDE are given: parameters, sizes, and how they are unpacked."""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp

from derive.emit.common.names import WORDS, fresh, local, words_in
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common.arrays import walk
from derive.notation.common.patterns import Pattern


def parameters(result: CovarianceSDE) -> list[sp.Symbol]:
    """Declared parameters, then dimensions and ratios on which the limit depends."""
    used = {s for e in result.equations.values() for c, _ in e.terms for s in c.free_symbols}
    known = [*result.model.params, result.law.gram.dims[0]]
    extra = sorted(used - set(known), key=lambda s: s.name)
    given = sorted({(p.name, p.rows) for p in patterns(result) if p.given})
    arrays = (sp.Symbol(name) if rows else sp.Symbol(name, real=True) for name, rows in given)
    return [*result.model.params, *extra, *arrays]


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


def state_name(result: CovarianceSDE) -> str:
    """The argument that holds the state of a layer."""
    return local(result.model.state_name)


def taken(result: CovarianceSDE, *more: str) -> set[str]:
    """Names that no temporary of a kernel may take: words, the definition's names, and `more`."""
    given = [d.name for d in result.model.dims] + [p.name for p in parameters(result)]
    return {"t", *map(local, given), state_name(result), *WORDS, *more}


def drawn_apart(result: CovarianceSDE, names: Iterable[str]) -> list[str]:
    """Locals for weights or blocks, in order, apart from all other names."""
    used, out = taken(result), []
    for name in names:
        out.append(fresh(local(name), used))
        used.add(out[-1])
    return out


def unpacked(result: CovarianceSDE, words: set[str]) -> list[str]:
    """The parameters by name; those that depend on depth at the time of the call."""
    names = [local(p.name) for p in parameters(result)]
    if not words & set(names):
        return []
    varying = [local(p.name) for p in result.model.params if p.varying]
    moving = [f"{name} = at({name}, t)" for name in varying if name in words]
    return [f"{tuple_text(names)} = params", *moving]


def sizes_unpacked(result: CovarianceSDE, words: set[str]) -> list[str]:
    """The dimensions by name; one that is a parameter too is read there."""
    params = {p.name for p in parameters(result)}
    dims = ["_" if d.name in params else local(d.name) for d in sizes_of(result)]
    return [f"{tuple_text(dims)} = dims"] if words & set(dims) else []


def tuple_text(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names) if len(names) != 1 else f"({names[0]},)"


def assigned(names: Iterable[str], whole: str) -> list[str]:
    names = list(names)
    return [f"{tuple_text(names)} = {whole}"] if names else []


__all__ = [
    "assigned",
    "clock_words",
    "drawn_apart",
    "layer_shaped",
    "parameters",
    "patterns",
    "sizes_of",
    "sizes_unpacked",
    "state_name",
    "taken",
    "tuple_text",
    "unpacked",
    "words_in",
]
