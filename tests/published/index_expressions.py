"""Published formulas as index expressions: type the products, say what is free, sum the rest.

    read("1/m**2 * V[a,b] V[n,k] - 2/m**3 * V[a,b] V[n,x] + c * V[a,a]", "a b n k", {"c": gamma**2})

A term is an optional scalar (ended by `*` before the tensors) and factors `name[i,j]`; every index
that is not free is summed over the tokens.  Symbols of the scalars are `m` and those given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import sympy as sp

from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Index, Tensor

_FACTOR = re.compile(r"(\w+)\[([\w,]+)\]")


def read(
    text: str, free: str, gram: Tensor, symbols: Mapping[str, sp.Expr] | None = None
) -> Expression:
    """The expression that `text` spells, with the free indices of `free` in that order."""
    token = gram.dims[0]
    names = {"m": token, **(symbols or {})}
    products = []
    for term in _terms(text):
        coefficient = re.split(r"\w+\[", term, maxsplit=1)[0].strip().rstrip("*").strip()
        sign = 1
        while coefficient[:1] in ("+", "-"):
            sign, coefficient = (-sign if coefficient[0] == "-" else sign), coefficient[1:].strip()
        factors = []
        for name, slots in _FACTOR.findall(term):
            assert name == gram.name, f"{name} is no tensor of this page"
            factors.append(gram[tuple(Index(i, token) for i in slots.split(","))])
        value = sp.sympify(coefficient or "1", locals=names)
        products.append((sign * value, tuple(factors)))
    return collect(tuple(Index(i, token) for i in free.split()), products)


def _terms(text: str) -> list[str]:
    """Split at + and - outside brackets."""
    out, depth, current = [], 0, ""
    for letter in " ".join(text.split()):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and letter in "+-" and "[" in current:
            out.append(current)
            current = ""
        current += letter
    return [*out, current]


def evaluate_at(expression: Expression, V, m: int, numbers: Mapping[sp.Symbol, float]):  # type: ignore[no-untyped-def]
    """Value at a NumPy covariance."""
    from derive.calculus.index.evaluate import evaluate

    dims = {i.dim for _, fs in expression.terms for f in fs for i in f.indices}
    dims |= {i.dim for i in expression.free}
    return evaluate(expression, {"V": V}, {**numbers, **{d: float(m) for d in dims}})
