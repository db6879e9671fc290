"""What the kernels of a control problem are given: leaves, sizes, parameters, and their names."""

from __future__ import annotations

from collections.abc import Sequence

from derive.emit.common.names import local
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import Array


def leaf_names(result: OptimalControl) -> dict[Array, str]:
    """The local variable of every array that a kernel is given."""
    groups = (result.x, result.p, result.u, result.data, result.dx, result.du)
    return {leaf: local(leaf.data) for group in groups for leaf in group}


def header(result: OptimalControl, words: set[str], arguments: Sequence[str]) -> list[str]:
    """Unpack the arguments that the statements use, all at once: names may trade places."""
    groups = {
        "x": result.x,
        "p": result.p,
        "u": result.u,
        "dx": result.dx,
        "du": result.du,
    }
    names = leaf_names(result)
    dims = sorted(local(d.name) for d in result.model.dims if local(d.name) in words)
    sized: dict[str, tuple[str, int]] = {}
    holders = [*result.x, *result.data, *(result.u if "u" in arguments else ())]
    for dim in dims:
        for leaf in holders:
            sizes = [local(d.name) for d in leaf.shape]
            if dim in sizes and dim not in sized:
                sized[dim] = (names[leaf], sizes.index(dim))
    words = words | {name for name, _ in sized.values()}
    used = [a for a in arguments if a in groups and {names[leaf] for leaf in groups[a]} & words]
    out = []
    if used:
        left = [pattern([names[leaf] for leaf in groups[a]]) for a in used]
        if len(used) == 1:
            out.append(f"{left[0].strip('()') if ', ' in left[0] else left[0]} = {used[0]}")
        else:
            out.append(f"{', '.join(left)} = {', '.join(used)}")
    fields = {local(q.name): q.name for q in result.model.params}
    fields |= {names[leaf]: leaf.data for leaf in result.data}
    wanted = [n for n in fields if n in words]
    if wanted:
        out.append(f"{', '.join(wanted)} = {', '.join(f'params.{fields[n]}' for n in wanted)}")
    for dim, (name, axis) in sized.items():
        out.append(f"{dim} = {name}.shape[{axis}]")
    return out


def pattern(names: list[str]) -> str:
    """Names as a tuple to unpack into."""
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"
