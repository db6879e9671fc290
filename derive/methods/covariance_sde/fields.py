"""Gaussian fields on tokens, and noise maps made of them: merged, symmetrised, added.

Input: fields of independent laws and an expression linear in them.  Output: the same law in fewer
or smaller fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import sympy as sp

from derive.calculus.gaussian.expectation import contract_gram, expectation
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, fresh
from derive.errors import Refusal
from derive.methods.covariance_sde.substitution import substitute, with_tensor


@dataclass(frozen=True)
class Field:
    """A Gaussian field on tokens, the limit law of one core.

    `tensor`: the field F itself; `drawn`: the iid array G behind it; `built`: F as an expression
    in L and G; `cores`: the finite-width objects that it replaces, `core`: those in words.
    """

    tensor: Tensor
    drawn: Tensor
    built: Expression
    cores: tuple[Expression, ...]

    @property
    def core(self) -> str:
        return " and ".join(describe(core) for core in self.cores)


def describe(core: Expression) -> str:
    """A core in words: its factors in order."""
    (_, factors), *_ = core.terms
    return " ".join(f.tensor.name for f in factors)


@dataclass(frozen=True)
class NoiseMap:
    """`compact` is the noise in fields F, `expanded` the same in L and the iid arrays G."""

    fields: tuple[Field, ...]
    compact: Expression
    expanded: Expression
    factor: Tensor
    gram: Tensor

    def covariance(self) -> Expression:
        """Cov(N_ab, N_cd), derived from the map: expectation over G, then L L^T = V."""
        return self._second_moment(self.expanded)

    def covariance_of(self, field: Field) -> Expression:
        """E F_ab F_cd of one of the fields, E F_a F_c of one over single tokens."""
        legs = (Index(n, i.dim) for i, n in zip(field.built.free, "ab", strict=False))
        return self._second_moment(
            field.built.renamed(dict(zip(field.built.free, legs, strict=True)))
        )

    def _second_moment(self, linear: Expression) -> Expression:
        second = {i: Index(n, i.dim) for i, n in zip(linear.free, "cd", strict=False)}
        drawn = tuple(f.drawn for f in self.fields)
        product = expectation(linear * linear.renamed(second), drawn)
        return contract_gram(product, self.factor, self.gram, sp.Integer(1))


def together(maps: list[NoiseMap]) -> NoiseMap:
    """Independent noise maps added; fields that enter alike become one."""
    first = maps[0]
    compact = collect(first.compact.free, [])
    fields: list[Field] = []
    for number, one in enumerate(maps, 1):
        for field_ in one.fields:
            tensor = replace(field_.tensor, name=f"{field_.tensor.name}@{number}")
            drawn = replace(field_.drawn, name=f"{field_.drawn.name}@{number}")
            built = with_tensor(field_.built, field_.drawn, drawn)
            fields.append(Field(tensor, drawn, built, field_.cores))
            one = replace(one, compact=with_tensor(one.compact, field_.tensor, tensor))
        compact = compact + one.compact
    compact, merged = merge(compact, tuple(fields))
    return NoiseMap(merged, compact, written_out(compact, merged), first.factor, first.gram)


def written_out(compact: Expression, fields: Iterable[Field]) -> Expression:
    """Every field of an expression in L and the iid arrays G."""
    for one in fields:
        compact = substitute(compact, one.tensor, one.built)
    return compact


def absorb_sums(
    compact: Expression, fields: tuple[Field, ...], factor: Tensor
) -> tuple[Expression, tuple[Field, ...]]:
    """sum_h F_h of independent equal fields is sqrt(H) times one of them."""
    token, out = factor.dims[0], []
    for one in fields:
        tensor = one.tensor
        places = [k for k, d in enumerate(tensor.dims) if d != token]
        if not places:
            out.append(one)
            continue
        if not _only_summed(compact, tensor, places):
            raise Refusal(
                f"the noise of {one.core} differs between the entries of "
                f"{', '.join(str(tensor.dims[k]) for k in places)}: one field for each is needed, "
                "which kernels do not draw"
            )
        size = sp.sqrt(sp.Mul(*(tensor.dims[k] for k in places)))
        kept = [k for k in range(len(tensor.dims)) if k not in places]
        bare = replace(tensor, dims=tuple(tensor.dims[k] for k in kept))
        held = [k for k in range(len(one.drawn.dims)) if k not in places]
        drawn = replace(one.drawn, dims=tuple(one.drawn.dims[k] for k in held))

        def rule(c, f, t=tensor, b=bare, s=size, keep=kept):  # type: ignore[no-untyped-def]
            hit = [x for x in f if x.tensor == t]
            new = tuple(
                Factor(b, tuple(x.indices[k] for k in keep)) if x.tensor == t else x for x in f
            )
            return [(c * s if hit else c, new)]

        compact = compact.map_terms(rule)
        legs = tuple(Index(f"~{k}", token) for k in range(len(kept)))
        built = []
        for c, f in one.built.terms:
            ends = tuple(one.built.free[k] for k in kept)
            names = dict(zip(ends, legs, strict=True))
            built.append(
                (
                    c,
                    tuple(
                        Factor(drawn, tuple(x.indices[k] for k in held)).rename(names)
                        if x.tensor == one.drawn
                        else x.rename(names)
                        for x in f
                    ),
                )
            )
        out.append(Field(bare, drawn, collect(legs, built), one.cores))
    return compact, tuple(out)


def _only_summed(compact: Expression, tensor: Tensor, places: list[int]) -> bool:
    for _, factors in compact.terms:
        for hit in (f for f in factors if f.tensor == tensor):
            for k in places:
                index = hit.indices[k]
                count = sum(f.indices.count(index) for f in factors)
                if index in compact.free or count != 1:
                    return False
    return True


def normalise(
    compact: Expression, fields: tuple[Field, ...]
) -> tuple[Expression, tuple[Field, ...]]:
    """Sizes go from the fields to the terms in which they stand."""
    out = []
    for one in fields:
        if len(one.built.terms) == 1:
            ((size, factors),) = one.built.terms
            compact = _enlarged(compact, one.tensor, size)
            one = replace(one, built=collect(one.built.free, [(sp.Integer(1), factors)]))
        out.append(one)
    return compact, tuple(out)


def _enlarged(compact: Expression, tensor: Tensor, size: sp.Expr) -> Expression:
    """Terms that hold the tensor times a size."""
    return compact.map_terms(lambda c, f: [(sp.powsimp(c * size) if _holds(f, tensor) else c, f)])


def _holds(factors: Factors, tensor: Tensor) -> bool:
    return any(f.tensor == tensor for f in factors)


def symmetrise(
    compact: Expression, fields: tuple[Field, ...], factor: Tensor
) -> tuple[Expression, tuple[Field, ...]]:
    """Where a field enters only as F + F^T, draw the symmetric field (half the normals)."""
    out = []
    for one in fields:
        tensor = one.tensor
        legs = tuple(Index(f"~{p}", d) for p, d in enumerate(tensor.dims))
        flipped = collect(legs, [(sp.Integer(1), (tensor[legs[::-1]],))])
        plain = one.built.terms == built_of(legs, factor, one.drawn, sp.Integer(1)).terms
        if not plain or tensor.symmetric or len(legs) != 2:
            out.append(one)
        elif substitute(compact, tensor, flipped) == compact:
            whole = Tensor(tensor.name, tensor.dims, "field", symmetric=True)
            drawn = Tensor(one.drawn.name, one.drawn.dims, "gaussian", symmetric=True)
            half = collect(legs, [(1 / sp.sqrt(2), (whole[legs],))])
            compact = substitute(compact, tensor, half)
            out.append(Field(whole, drawn, built_of(legs, factor, drawn, sp.Integer(1)), one.cores))
        else:
            out.append(one)
    return compact, tuple(out)


def built_of(
    legs: tuple[Index, ...],
    factor: Tensor,
    drawn: Tensor,
    size: sp.Expr,
    kinds: tuple[bool, ...] | None = None,
) -> Expression:
    """size L ... L G; `kinds`: which legs carry an L, by default those of tokens.

    A field over single tokens is L G 1 / sqrt(m), so that all normals are drawn as m x m.
    """
    token = factor.dims[0]
    through = kinds or tuple(i.dim == token for i in legs)
    inner = tuple(fresh(i.dim) if k else i for i, k in zip(legs, through, strict=True))
    rows = tuple(factor[i, j] for i, j in zip(legs, inner, strict=True) if i != j)
    lone = len(drawn.dims) - len(legs)
    more = tuple(fresh(token) for _ in range(lone))
    return collect(legs, [(size / sp.sqrt(token) ** lone, (*rows, drawn[(*inner, *more)]))])


def drawn_dims(dims: tuple[sp.Symbol, ...], token: sp.Symbol) -> tuple[sp.Symbol, ...]:
    """Dimensions of the normals of a field: two of tokens at least."""
    return dims if dims.count(token) > 1 else (*dims, token)


def merge(compact: Expression, fields: tuple[Field, ...]) -> tuple[Expression, tuple[Field, ...]]:
    """Independent fields of one law that enter proportionally are one field (variances add)."""
    kept: list[Field] = []
    parts: list[Expression] = []
    for one in fields:
        part = collect(compact.free, [t for t in compact.terms if _holds(t[1], one.tensor)])
        for position, (other, known) in enumerate(zip(kept, parts, strict=True)):
            ratio = _ratio(with_tensor(part, one.tensor, other.tensor), known)
            if ratio is not None and _same_law(one, other):
                parts[position] = _grown(known, ratio)
                kept[position] = replace(other, cores=(*other.cores, *one.cores))
                break
        else:
            kept.append(one)
            parts.append(part)
    merged = collect(compact.free, [t for part in parts for t in part.terms])
    names = {f.tensor: f"F_{p + 1}" for p, f in enumerate(kept)}
    return _renumber(merged, kept, names)


def _same_law(one: Field, other: Field) -> bool:
    return one.tensor.dims == other.tensor.dims and (
        one.built == with_tensor(other.built, other.drawn, one.drawn)
    )


def _grown(part: Expression, ratio: sp.Expr) -> Expression:
    """part * sqrt(1 + ratio^2), every coefficient with one root."""

    def grown(coefficient: sp.Expr) -> sp.Expr:
        square = sp.factor(sp.cancel(sp.expand(coefficient**2 * (1 + ratio**2))))
        return -sp.sqrt(square) if coefficient.could_extract_minus_sign() else sp.sqrt(square)

    return part.map_coefficients(grown)


def _ratio(first: Expression, second: Expression) -> sp.Expr | None:
    """c with first = c * second, if there is one free of tensors."""
    if [f for _, f in first.terms] != [f for _, f in second.terms]:
        return None
    ratios = {sp.cancel(c / d) for (c, _), (d, _) in zip(first.terms, second.terms, strict=True)}
    return ratios.pop() if len(ratios) == 1 else None


def _renumber(
    merged: Expression, kept: list[Field], names: dict[Tensor, str]
) -> tuple[Expression, tuple[Field, ...]]:
    out = []
    for one in kept:
        tensor = Tensor(f"{names[one.tensor]}", one.tensor.dims, "field", one.tensor.symmetric)
        drawn = Tensor(tensor.name.replace("F", "G"), one.drawn.dims, "gaussian", tensor.symmetric)
        marked = Tensor(f"{tensor.name}*", tensor.dims, "field", tensor.symmetric)
        merged = with_tensor(merged, one.tensor, marked)
        out.append(
            (marked, Field(tensor, drawn, with_tensor(one.built, one.drawn, drawn), one.cores))
        )
    for marked, one in out:
        merged = with_tensor(merged, marked, one.tensor)
    return merged, tuple(one for _, one in out)
