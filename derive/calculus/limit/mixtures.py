"""Keeps functions of random scores of order one whole: softmax(beta X B X^T), B drawn anew.

They have no power series in the small parameter.  Where a weight acts on tokens of a fixed width
its law does not change in the frame of the tokens, X = L Q with L L^T = V and Q Q^T = 1: scores
that are linear in Gaussian weights are those of L and of m x m normals.  So a mixture is known in
law given V, and a mean of it is an integral over normals, a function of V like every response.

Not supported: scores that are not linear in one weight, a mixture whose weights stand elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import sympy as sp

from derive.calculus.gaussian.expectation import contract_gram, expectation
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, indices_of
from derive.calculus.limit.order import Law
from derive.calculus.limit.response import Response, leaf, number_of
from derive.errors import Refusal
from derive.notation.common import arrays
from derive.notation.common.arrays import Array, node, walk
from derive.notation.common.scalars import extent

ONE = sp.Integer(1)


@dataclass(frozen=True)
class Mixture:
    """A function of random scores: `array` in the definition, `root` for one head on `gram`.

    `state` and `weights`: the leaves of `array` by name.
    """

    array: Array
    state: Array
    weights: tuple[tuple[Tensor, Array], ...]
    root: Array


def random_scores(array: Array, law: Law) -> list[Array]:
    """The scores, if the array is a function over pairs of tokens of such; else none."""
    token, width = law.state.dims
    if law.scaling.grows(width) or array.op not in ("function", "composite", "multiply"):
        return []
    nodes = walk(array)
    if array.shape[-2:] != (token, token) or not {"state", "gaussian"} <= {a.op for a in nodes}:
        return []
    if any(a.op == "full" and a.data.has(law.scaling.width) for a in nodes):
        return []
    return list(dict.fromkeys(_linear_parts(array))) if _bent(array) else []


def _bent(array: Array) -> bool:
    return any(a.op == "function" for a in walk(array))


def _linear_parts(array: Array) -> Iterator[Array]:
    """The largest parts that hold a weight and no function."""
    if not any(a.op == "gaussian" for a in walk(array)):
        return
    if not _bent(array):
        yield array
        return
    for arg in array.args:
        yield from _linear_parts(arg)


def mixture(
    array: Array, parts: dict[Array, Expression], weights: dict[Array, Tensor], law: Law
) -> Tensor:
    """The tensor of a mixture; `parts`: its scores and their expressions.

    Raises Refusal for scores that are not those of L and of normals in law.
    """
    key = ("mixture", array)
    if key not in law.responses:
        _require_known(list(parts.values()), law, array)
        drawn = tuple((weights[a], a) for a in walk(array) if a.op == "gaussian")
        (state,) = {a for a in walk(array) if a.op == "state"}
        count = sum(k[0] == "mixture" for k in law.responses if isinstance(k, tuple))
        meaning = Mixture(array, state, drawn, _one_head(array, law))
        law.responses[key] = Tensor(f"P_{count + 1}", array.shape, "mixture", meaning=meaning)
    return law.responses[key]


def _require_known(scores: list[Expression], law: Law, array: Array) -> None:
    """The covariances of all scores must be those of L and of normals, 0 terms left."""
    token, width = law.state.dims
    factor = Tensor("L", (token, token), "factor")
    normal = {t: replace(t, dims=tuple(_turned(d, law) for d in t.dims)) for t in law.gaussian}

    def framed(c: sp.Expr, factors: Factors) -> Iterable[tuple[sp.Expr, Factors]]:
        swap = {**normal, law.state: factor}
        yield (
            c,
            tuple(
                Factor(
                    swap.get(f.tensor, f.tensor),
                    tuple(Index(i.name, _turned(i.dim, law)) for i in f.indices),
                )
                for f in factors
            ),
        )

    for number, one in enumerate(scores):
        linear = all(sum(f.tensor in law.gaussian for f in fs) <= 1 for _, fs in one.terms)
        if not linear or any(i.dim == width for i in one.free):
            raise Refusal(
                "the scores are random, of order one and not linear in one Gaussian weight, "
                f"between tokens ({law.state.name} @ B @ {law.state.name}.T): their law given "
                "the covariance is not derived",
                array.place,
            )
        for other in scores[: number + 1]:
            primed = other.renamed({i: Index(f"{i.name}'", i.dim) for i in other.free})
            seen = one.map_terms(framed), primed.map_terms(framed)
            pairs = [(one, seen[0]), (one * primed, seen[0] * seen[1])]
            means = [(law.mean(e), expectation(f, tuple(normal.values()))) for e, f in pairs]
            if any(contract_gram(f, factor, law.gram, ONE) != e for e, f in means):
                raise Refusal(
                    f"the scores depend on {law.state.name} beyond the covariance", array.place
                )


def _turned(dim: sp.Expr, law: Law) -> sp.Expr:
    token, width = law.state.dims
    return token if dim == width else dim


def _one_head(array: Array, law: Law) -> Array:
    """The graph for one head on V: L for the state, m x m normals for every weight."""
    token, _ = law.state.dims
    gram = _over_nodes(leaf(law))
    factor = node("psd_root", (gram,), gram.shape)
    done: dict[Array, Array] = {}
    heads, drawn = array.ndim - 2, [a for a in walk(array) if a.op == "gaussian"]

    def rebuilt(a: Array) -> Array:
        if a not in done:
            done[a] = _rebuilt(a, [rebuilt(x) for x in a.args])
        return done[a]

    def _rebuilt(a: Array, args: list[Array]) -> Array:
        if a.op == "state":
            return factor
        if a.op == "gaussian":
            return node("normals", (gram,), gram.shape, (drawn.index(a), len(drawn)))
        if a.op in ("matmul", "add", "multiply", "transpose"):
            return getattr(arrays, a.op)(*args)
        if a.op == "function":
            return arrays.function(a.data[1], args[0], a.data[0])
        if a.op == "composite":
            return node("composite", tuple(args), args[-1].shape, a.data)
        if a.op == "sum" and (a.args[0].ndim <= 2 or a.data[0] >= heads):
            axis, keepdims = a.data
            return arrays.total(args[0], axis - (a.args[0].ndim - args[0].ndim), keepdims)
        if a.op in ("full", "eye", "constant") and a.ndim <= 2:
            return _over_nodes(a) if a.ndim else a
        raise Refusal(f"{a.op} between heads of random scores is not derived", array.place)

    return rebuilt(array)


def _over_nodes(array: Array) -> Array:
    """An array that is the same at all nodes of a mean."""
    return node("over_nodes", (array,), array.shape)


# means


def averaged(expression: Expression, law: Law) -> Expression:
    """E over the weights, of mixtures too: two of one head that meet through V are a function C.

    C[a,b] = E sum_kl P[a,k] V[k,l] P[b,l].
    """
    return law.mean(expression).map_terms(partial(_averaged, law))


def _averaged(law: Law, c: sp.Expr, factors: Factors) -> Iterable[tuple[sp.Expr, Factors]]:
    held = [f for f in factors if f.tensor.kind == "mixture"]
    if not held:
        return [(c, factors)]
    if len(held) == 2 and held[0].tensor == held[1].tensor:
        (*heads, a, k), (*others, b, p) = (f.indices for f in held)
        rest = [f for f in factors if f not in held]
        between = [f for f in rest if f.tensor == law.gram and set(f.indices) == {k, p}]
        rest = [f for f in rest if f not in between]
        if heads == others and len(between) == 1 and not {k, p} & (indices_of(rest) | {a, b}):
            for head in heads:
                if head not in indices_of(rest):
                    c = c * extent(head.dim)
            return [(c, (*rest, second_moment(held[0].tensor, law)[a, b]))]
    raise Refusal(
        "the average of random attentions that meet otherwise than in pairs, through the "
        "covariance of the tokens, is not derived",
        held[0].tensor.meaning.array.place,
    )


def second_moment(tensor: Tensor, law: Law) -> Tensor:
    """C = E P V P^T, a function of V."""
    root, gram = tensor.meaning.root, leaf(law)
    inner = arrays.matmul(arrays.matmul(root, _over_nodes(gram)), arrays.transpose(root))
    graph = node("normal_mean", (inner,), gram.shape)
    return _response(("second moment", tensor), graph, law, _parts(tensor), symmetric=True)


def root_of(tensor: Tensor, law: Law) -> Tensor:
    """M with M M^T = C."""
    inner = second_moment(tensor, law).meaning.root
    return _response(("root", tensor), node("psd_root", (inner,), inner.shape), law, _parts(tensor))


def drawn(tensor: Tensor, law: Law, names: Iterable[str]) -> Tensor:
    """The mixture of one head as drawn: a function of L and of given m x m normals."""
    root, held = tensor.meaning.root, []
    done: dict[Array, Array] = {}
    given = iter(names)
    for array in walk(root):
        if array.op in ("normals", "psd_root"):
            name = next(given) if array.op == "normals" else "L"
            done[array] = node("leaf", (), array.shape, name)
            held.append((name, done[array]))
        elif array.op == "over_nodes":
            done[array] = array.args[0]
        else:
            done[array] = replace(array, args=tuple(done.get(a, a) for a in array.args))
    return _response(("drawn", tensor), done[root], law, (), others=tuple(held))


def _parts(tensor: Tensor) -> tuple[tuple[Array, str], ...]:
    """Names of the parts of a mean: the mixture, and L."""
    root = tensor.meaning.root
    return ((root, tensor.name), *((a, "L") for a in walk(root) if a.op == "psd_root"))


def _response(
    key: object,
    root: Array,
    law: Law,
    names: tuple[tuple[Array, str], ...],
    *,
    symmetric: bool = False,
    others: tuple[tuple[str, Array], ...] = (),
) -> Tensor:
    if key not in law.responses:
        meaning = Response(root, leaf(law), law.gram, others, names)
        name = f"S_{number_of(law)}"
        law.responses[key] = Tensor(name, law.gram.dims, "response", symmetric, meaning)
    return law.responses[key]
