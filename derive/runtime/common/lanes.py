"""Evaluate a function of small arrays for many laws at once, the laws last in memory.

`over_lanes(f)` takes arrays of shape (..., lanes), calls no BLAS for matrix products of size up to
`UNROLL` but writes them as sums of products that vectorise over the lanes, and evaluates a repeated
subexpression once.  For larger sizes, and for everything without a rule here (decompositions,
loops), it is `jax.vmap(f, in_axes=-1, out_axes=-1)`.  Differentiate inside f, not through
`over_lanes(f)`: a linear solve is evaluated here without its derivative rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, jaxpr_as_fun

from derive.runtime.common.elimination import cholesky, lapack_lu, substitute

UNROLL = 8  # largest axis in an elementwise product
SOLVE = 6  # ... and in an elementwise factorisation
STRAIGHT = 4  # ... written without a loop: twice as fast, and for larger n slow to compile

ELEMENTWISE = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "neg",
        "sign",
        "abs",
        "exp",
        "exp2",
        "log",
        "log1p",
        "expm1",
        "sqrt",
        "rsqrt",
        "cbrt",
        "square",
        "integer_pow",
        "pow",
        "sin",
        "cos",
        "tan",
        "tanh",
        "sinh",
        "cosh",
        "asin",
        "acos",
        "atan",
        "atan2",
        "logistic",
        "erf",
        "erfc",
        "erf_inv",
        "lgamma",
        "digamma",
        "max",
        "min",
        "rem",
        "floor",
        "ceil",
        "round",
        "is_finite",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "and",
        "or",
        "not",
        "xor",
        "select_n",
        "clamp",
        "convert_element_type",
        "stop_gradient",
        "copy",
        "add_any",
    ]
)
REDUCTIONS = frozenset({f"reduce_{name}" for name in ("sum", "max", "min", "prod", "and", "or")})
WRITTEN = frozenset({"lu", "triangular_solve", "cholesky"})  # factorisations with a rule here
UNWRITTEN = frozenset({"eigh", "svd", "qr", "lu_pivots_to_permutation"})  # ... and without one


def over_lanes(f: Callable[..., Any]) -> Callable[..., Any]:
    """g(per_lane, shared): f of the same, every leaf of `per_lane` with a last axis over lanes."""

    def g(per_lane: Any, shared: Any) -> Any:
        leaves, tree = jax.tree.flatten(per_lane)
        lanes = leaves[0].shape[-1]
        one = [jax.ShapeDtypeStruct(x.shape[:-1], x.dtype) for x in leaves]
        kept, kept_tree = jax.tree.flatten(shared)

        def flat(xs: list[Any], ys: list[Any]) -> Any:
            return f(jax.tree.unflatten(tree, xs), jax.tree.unflatten(kept_tree, ys))

        closed, shape = jax.make_jaxpr(flat, return_shape=True)(one, kept)
        inputs = [(x, True) for x in leaves] + [(x, False) for x in kept]
        outs = _Evaluation(lanes).run(closed.jaxpr, closed.consts, inputs)
        return jax.tree.unflatten(
            jax.tree.structure(shape), [_spread(x, b, lanes) for x, b in outs]
        )

    return g


Value = tuple[Any, bool]  # array, whether its last axis is over lanes


def _spread(x: Any, batched: bool, lanes: int) -> Any:
    return x if batched else jnp.broadcast_to(jnp.asarray(x)[..., None], (*np.shape(x), lanes))


class _Evaluation:
    """One walk over a jaxpr; equal expressions of equal values are evaluated once."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.seen: dict[Any, list[Value]] = {}

    def run(self, jaxpr: Any, consts: Any, inputs: list[Value]) -> list[Value]:
        known: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        known.update((v, (c, False)) for v, c in zip(jaxpr.constvars, consts, strict=True))

        def read(v: Any) -> Value:
            return (v.val, False) if isinstance(v, Literal) else known[v]

        for eqn in jaxpr.eqns:
            values = [read(v) for v in eqn.invars]
            # values stay alive in `seen`, so their ids are theirs alone
            name = tuple(
                (float(x), "number") if isinstance(x, (int, float)) else id(x) for x, _ in values
            )
            key = (eqn.primitive.name, name, str(eqn.params))
            if key not in self.seen:
                self.seen[key] = self.equation(eqn, values)
                self.seen[key, "inputs"] = values
            known.update(zip(eqn.outvars, self.seen[key], strict=True))
        return [read(v) for v in jaxpr.outvars]

    def equation(self, eqn: Any, values: list[Value]) -> list[Value]:
        name, params = eqn.primitive.name, eqn.params
        if name == "platform_index":
            return [(None, False)]  # bound again by the choice that uses it
        if params.get("branches_platforms") is not None:
            return self._choice(eqn, values)
        for field in ("jaxpr", "call_jaxpr"):
            inner = params.get(field)
            if inner is not None and name not in ("while", "scan", "cond"):
                consts = getattr(inner, "consts", ())
                inner = getattr(inner, "jaxpr", inner)
                if len(inner.invars) == len(values):
                    return self.run(inner, consts, values)
        if not any(b for _, b in values):
            out = eqn.primitive.bind(*(x for x, _ in values), **params)
            return [(x, False) for x in (out if eqn.primitive.multiple_results else [out])]
        rule = getattr(self, f"_{name}", None)
        if rule is not None:
            out = rule(eqn, values)
            if out is not None:
                return out if isinstance(out, list) else [(out, True)]
        elif name in ELEMENTWISE:
            return [(self._elementwise(eqn, values), True)]
        elif name in REDUCTIONS:
            axes = params["axes"]
            return [(eqn.primitive.bind(values[0][0], **{**params, "axes": axes}), True)]
        return self._mapped(eqn, values)

    def _mapped(self, eqn: Any, values: list[Value]) -> list[Value]:
        def call(*xs: Any) -> Any:
            return eqn.primitive.bind(*xs, **eqn.params)

        axes = tuple(-1 if b else None for _, b in values)
        out = jax.vmap(call, in_axes=axes, out_axes=-1)(*(x for x, _ in values))
        return [(x, True) for x in (out if eqn.primitive.multiple_results else [out])]

    def _elementwise(self, eqn: Any, values: list[Value]) -> Any:
        target = (*eqn.outvars[0].aval.shape, self.lanes)
        return eqn.primitive.bind(*(self._fit(x, b, target) for x, b in values), **eqn.params)

    def _fit(self, x: Any, batched: bool, target: tuple[int, ...]) -> Any:
        """x with the target's shape; a number for every entry is broadcast."""
        shape = np.shape(x)
        if batched and shape == target:
            return x
        if batched and len(shape) == len(target):  # axes of length one
            return jax.lax.broadcast_in_dim(x, target, tuple(range(len(shape))))
        if batched:  # a scalar of each lane
            return jax.lax.broadcast_in_dim(x, target, (len(target) - 1,))
        return jax.lax.broadcast_in_dim(jnp.asarray(x), target, tuple(range(len(shape))))

    def _broadcast_in_dim(self, eqn: Any, values: list[Value]) -> Any:
        if len(values) > 1:
            return None
        shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
        return jax.lax.broadcast_in_dim(values[0][0], (*shape, self.lanes), (*dims, len(shape)))

    def _reshape(self, eqn: Any, values: list[Value]) -> Any:
        if eqn.params.get("dimensions") is not None or len(values) > 1:
            return None
        return jnp.reshape(values[0][0], (*eqn.params["new_sizes"], self.lanes))

    def _squeeze(self, eqn: Any, values: list[Value]) -> Any:
        return jnp.reshape(values[0][0], (*eqn.outvars[0].aval.shape, self.lanes))

    _expand_dims = _squeeze

    def _transpose(self, eqn: Any, values: list[Value]) -> Any:
        axes = eqn.params["permutation"]
        return jnp.transpose(values[0][0], (*axes, len(axes)))

    def _slice(self, eqn: Any, values: list[Value]) -> Any:
        p = eqn.params
        strides = p["strides"] or (1,) * len(p["start_indices"])
        return jax.lax.slice(
            values[0][0],
            (*p["start_indices"], 0),
            (*p["limit_indices"], self.lanes),
            (*strides, 1),
        )

    def _concatenate(self, eqn: Any, values: list[Value]) -> Any:
        parts = [_spread(x, b, self.lanes) for x, b in values]
        return jnp.concatenate(parts, axis=eqn.params["dimension"])

    def _dot_general(self, eqn: Any, values: list[Value]) -> Any:
        (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
        (x, xb), (y, yb) = values
        left, right = eqn.invars[0].aval.shape, eqn.invars[1].aval.shape
        out = eqn.outvars[0].aval
        terms = int(np.prod([left[i] for i in left_sum], dtype=int))
        if terms > UNROLL or terms == 0 or max((*left, *right), default=0) > UNROLL:
            return None
        free_x = [i for i in range(len(left)) if i not in (*left_sum, *left_batch)]
        free_y = [i for i in range(len(right)) if i not in (*right_sum, *right_batch)]
        batch = [left[i] for i in left_batch]
        n_x, n_y = [left[i] for i in free_x], [right[i] for i in free_y]
        # contracted first, then batch, free of x, free of y, lanes
        x = jnp.transpose(x, (*left_sum, *left_batch, *free_x, *((len(left),) if xb else ())))
        y = jnp.transpose(y, (*right_sum, *right_batch, *free_y, *((len(right),) if yb else ())))
        x = x.reshape(terms, *batch, *n_x, *(1,) * len(n_y), self.lanes if xb else 1)
        y = y.reshape(terms, *batch, *(1,) * len(n_x), *n_y, self.lanes if yb else 1)
        total = x[0] * y[0]
        for k in range(1, terms):
            total = total + x[k] * y[k]
        # without the barrier the compiler computes a product again in every entry that uses it
        return jax.lax.optimization_barrier(total.astype(out.dtype))

    def _scan(self, eqn: Any, values: list[Value]) -> list[Value] | None:
        p = eqn.params
        body = p["jaxpr"]
        counts = _scan_counts(eqn)
        if counts is None:
            return None
        consts, carried = counts
        shared, start = values[:consts], values[consts : consts + carried]
        along = values[consts + carried :]

        def step(carry: Any, given: Any) -> Any:
            inputs = [*shared, *((x, True) for x in carry)]
            inputs += [(x, b) for x, (_, b) in zip(given, along, strict=True)]
            # values of one turn are of no use outside it: an evaluation of its own
            out = _Evaluation(self.lanes).run(body.jaxpr, body.consts, inputs)
            spread = [_spread(x, b, self.lanes) for x, b in out]
            return tuple(spread[:carried]), tuple(spread[carried:])

        carry, ys = jax.lax.scan(
            step,
            tuple(_spread(x, b, self.lanes) for x, b in start),
            tuple(x for x, _ in along),
            length=p["length"],
            reverse=p["reverse"],
            unroll=p["unroll"],
        )
        return [(x, True) for x in (*carry, *ys)]

    def _choice(self, eqn: Any, values: list[Value]) -> list[Value]:
        """A choice by platform: the usual branch as if it stood alone, the others by vmap."""
        *others, usual = eqn.params["branches"]
        values = values[1:]
        if _written_out(usual.jaxpr):
            return self.run(usual.jaxpr, usual.consts, values)  # no library: for all of them

        def walked(*xs: Any) -> list[Any]:
            known = [(x, b) for x, (_, b) in zip(xs, values, strict=True)]
            out = _Evaluation(self.lanes).run(usual.jaxpr, usual.consts, known)
            return [_spread(x, b, self.lanes) for x, b in out]

        def mapped(branch: Any) -> Callable[..., list[Any]]:
            def call(*xs: Any) -> list[Any]:
                return jaxpr_as_fun(branch)(*xs)

            axes = tuple(-1 if b else None for _, b in values)
            return jax.vmap(call, in_axes=axes, out_axes=-1, axis_size=self.lanes)

        named = {
            name: mapped(branch)
            for names, branch in zip(eqn.params["branches_platforms"], others, strict=False)
            for name in names
        }
        out = jax.lax.platform_dependent(*(x for x, _ in values), default=walked, **named)
        return [(x, True) for x in out]

    def _custom_linear_solve(self, eqn: Any, values: list[Value]) -> list[Value] | None:
        counts, inner = eqn.params["const_lengths"], eqn.params["jaxprs"].solve
        first = counts.matvec + counts.vecmat
        consts = values[first : first + counts.solve]
        right = values[first + counts.solve + counts.transpose_solve :]
        return self.run(inner.jaxpr, inner.consts, consts + right)

    def _small(self, eqn: Any) -> bool:
        return all(len(v.aval.shape) == 2 and max(v.aval.shape) <= SOLVE for v in eqn.invars)

    def _lu(self, eqn: Any, values: list[Value]) -> list[Value] | None:
        if not self._small(eqn) or len(set(eqn.invars[0].aval.shape)) > 1:
            return None
        return [(x, True) for x in lapack_lu(values[0][0], STRAIGHT)]

    def _triangular_solve(self, eqn: Any, values: list[Value]) -> list[Value] | None:
        p = eqn.params
        if not self._small(eqn) or p.get("conjugate_a"):
            return None
        a, b = (_spread(x, batched, self.lanes) for x, batched in values)
        swap = lambda x: jnp.swapaxes(x, 0, 1)  # noqa: E731
        lower = p["lower"]
        if p["transpose_a"]:
            a, lower = swap(a), not lower
        if not p["left_side"]:
            a, b, lower = swap(a), swap(b), not lower
        x = substitute(a, b, lower, p["unit_diagonal"], STRAIGHT)
        return [(x if p["left_side"] else swap(x), True)]

    def _cholesky(self, eqn: Any, values: list[Value]) -> list[Value] | None:
        if not self._small(eqn):
            return None
        return [(cholesky(values[0][0], STRAIGHT), True)]


def _written_out(jaxpr: Any) -> bool:
    """Whether the rules above turn every factorisation in a jaxpr into straight-line code."""
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        shapes = [v.aval.shape for v in eqn.invars]
        small = all(len(s) == 2 and max(s) <= STRAIGHT for s in shapes)
        if name in UNWRITTEN or (name in WRITTEN and not small):
            return False
        parts = jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda p: hasattr(p, "eqns"))
        inner = [getattr(p, "jaxpr", p) for p in parts]
        if not all(_written_out(p) for p in inner if hasattr(p, "eqns")):
            return False
    return True


def _scan_counts(eqn: Any) -> tuple[int, int] | None:
    """Numbers of constants and carried values of a scan; None if the shapes do not show them.

    What is scanned over, or stacked up, has one axis more outside the body than inside; the
    parameters of the primitive, which say it too, differ from one version of jax to the next.
    """
    body = eqn.params["jaxpr"].jaxpr
    inputs = [len(v.aval.shape) for v in eqn.invars]
    inside = [len(v.aval.shape) for v in body.invars]
    outputs = [len(v.aval.shape) for v in eqn.outvars]
    made = [len(v.aval.shape) for v in body.outvars]
    whole = sum(a == b for a, b in zip(inputs, inside, strict=True))
    carried = sum(a == b for a, b in zip(outputs, made, strict=True))
    in_order = inputs[:whole] == inside[:whole] and outputs[:carried] == made[:carried]
    return (whole - carried, carried) if in_order and whole >= carried else None
