"""Sub-blocks of a layer: where one block ends and the next begins.

Input: the trace of a layer.  Output: the layer as a sequence of traces, each from a state to a
state with weights of its own.

A node of the state's shape through which everything passes cuts the layer in two, if no weight is
used on both sides.  Blocks that each move V by a small step act one after the other, so their
drifts add and their diffusions add.
"""

from __future__ import annotations

from dataclasses import replace

from derive.notation.common.arrays import Array, node, walk
from derive.notation.layers.model import Trace


def cuts(traced: Trace) -> list[Array]:
    """Nodes that separate a first part of the layer, with weights, from a second, in order."""
    state, output = traced.state, traced.output
    found = []
    for array in walk(output):
        if array.shape != state.shape or array in (state, output):
            continue
        above = _above(output, array)
        below = set(walk(array))
        weights = {a for a in below if a.op == "gaussian"}
        later = {a for a in above if a.op == "gaussian"}
        if weights and later and state not in above and not weights & above:
            found.append(array)
    return found


def _above(output: Array, cut: Array) -> set[Array]:
    """Nodes between the output and the cut, the cut left out."""
    seen: set[Array] = set()
    work = [output]
    while work:
        array = work.pop()
        if array is cut or array in seen:
            continue
        seen.add(array)
        work.extend(array.args)
    return seen


def part(traced: Trace, start: Array, end: Array) -> Trace:
    """The block from one node to another, as a trace of its own."""
    fresh = node("state", (), traced.state.shape, traced.state.data)
    fresh = replace(fresh, place=start.place)
    done: dict[Array, Array] = {start: fresh}

    def rebuilt(array: Array) -> Array:
        if array not in done:
            args = tuple(rebuilt(a) for a in array.args)
            same = all(a is b for a, b in zip(args, array.args, strict=True))
            done[array] = array if same else replace(array, args=args)
        return done[array]

    output = rebuilt(end)
    inside = set(walk(output))
    names = {done.get(a, a): n for a, n in traced.names.items() if done.get(a, a) in inside}
    weights = tuple((n, a) for n, a in traced.weights if a in inside)
    return Trace(traced.model, fresh, output, weights, names)
