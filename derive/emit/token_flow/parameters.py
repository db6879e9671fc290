"""Parameters of a token flow's kernels: fields of Params, and how a function unpacks them.

Input: a derivation.  Output: fields with shapes and meanings; lines of code.
"""

from __future__ import annotations

from collections.abc import Sequence

from derive.emit.common.names import local
from derive.methods.token_flow.result import Absent, TokenFlow
from derive.notation.common.arrays import walk
from derive.notation.common.scalars import Dim

Field = dict[str, object]


def param_fields(result: TokenFlow) -> list[Field]:
    """Fields of Params: matrices that are used, then numbers, in the order of the file."""
    used = {m.data for m in result.trace.used}
    out: list[Field] = []
    for m in result.model.matrices:
        if m.data in used:
            names = tuple(str(s) for s in m.shape)
            out.append({"name": m.data, "shape": names, "meaning": f"({', '.join(names)})"})
    nodes = [n for g in (result.trace.velocity, *result.trace.noises) for n in walk(g)]
    symbols = {s for n in nodes if n.op == "full" for s in n.data.free_symbols}
    for p in result.model.params:
        if p in symbols:
            out.append({"name": p.name, "shape": (), "meaning": p.range.text})
    if _needs_dimension(result):
        name = result.model.state_dim.name
        out.append({"name": name, "shape": (), "meaning": "the tokens' dimension"})
    return out


def _needs_dimension(result: TokenFlow) -> bool:
    """Does the tokens' dimension stand in a reduced rate, where no array has it for a size?"""
    d = result.model.state_dim
    if isinstance(result.gram_rate, Absent) or any(d in m.shape for m in result.trace.used):
        return False
    inside = [result.gram_rate]
    for expression in inside:
        met = [result.book.of[t] for t in expression.tensors() if t in result.book.of]
        inside += [b for m in met for b in m.bodies]
    return any(c.has(d) for e in inside for c, _ in e.terms)


def prelude(
    result: TokenFlow, used: set[str], given: Sequence[Dim] = (), tokens: bool = False
) -> list[str]:
    """Unpack the parameters that a function uses; sizes that are no arguments (`given`) of it.

    `tokens`: the function has tokens x, whose dimension is theirs.
    """
    own = {d.name for d in given} | ({result.model.state_dim.name} if tokens else set())
    fields = [f for f in param_fields(result) if f["name"] in used - own]
    out = []
    if fields:
        left = [str(f["name"]) if f["shape"] else local(str(f["name"])) for f in fields]
        right = [f"params.{f['name']}" for f in fields]
        out.append(f"{', '.join(left)} = {', '.join(right)}")
    for dim in result.model.dims:
        unpacked = [f["name"] for f in fields]
        if dim.name in used and dim not in given and dim.name not in unpacked:
            out.append(f"{local(dim.name)} = {_size(result, dim)}")
    return out


def _size(result: TokenFlow, dim: Dim) -> str:
    for matrix in result.trace.used:
        if dim in matrix.shape:
            return f"params.{matrix.data}.shape[{matrix.shape.index(dim) - len(matrix.shape)}]"
    if dim == result.model.state_dim:
        return "x.shape[-1]"
    raise LookupError(f"no array of the kernel has the size {dim.name}")  # refused when traced
