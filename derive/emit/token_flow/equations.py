"""The equations of a token flow as a reader sees them, in text and in LaTeX.

Input: a derivation.  Output: `Written` by name, tensors that equations use first.  Scalar rates are
written by SymPy.
"""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.defined import plus, spread
from derive.calculus.index.expressions import Expression
from derive.calculus.written.dialect import TEXT, Dialect
from derive.calculus.written.equation import Written
from derive.calculus.written.meanings import meaning
from derive.calculus.written.short_form import short_form
from derive.methods.gaussian_closure.definitions import defined_in
from derive.methods.token_flow.gram import OTHER, half_rate, swapped
from derive.methods.token_flow.result import TokenFlow

LEFT = {
    "velocity": (r"\dot x_a", "x[a]'"),
    "noise": ("N", "N"),
    "gram_rate": (r"\dot R", "R'"),
    "frame": ("M", "M"),
    "score": ("S", "S"),
    "contraction": ("c_a", "c[a]"),
    "equal_angle_rate": (r"\dot\rho", "rho'"),
    "radius_rate": (r"\dot r", "r'"),
    "two_cluster_rate": (r"\dot g", "g'"),
    "energy": ("E", "E"),
    "uniform_velocity": (r"\bar v_a", "v[a]"),
    "split_rate": (r"\dot z", "z'"),
    "split_time": (r"t_{\mathrm{split}}", "t_split"),
    "pull_rate": (r"\dot s", "s'"),
    "pull_height_rate": (r"\dot g", "g'"),
    "pull_kept": ("C", "C"),
    "pull_time": (r"t_{\mathrm{pull}}", "t_pull"),
}


def written(result: TokenFlow, dialect: Dialect = TEXT) -> dict[str, Written]:
    """All equations by name, those of defined tensors first."""
    stacks, avoid = result.names.stacks, names_of(result)
    expressions = [e for e in result.equations.values() if isinstance(e, Expression)]
    out = {}
    for tensor in defined_in(result.book, *expressions):
        left, right = meaning(tensor, result.book, stacks, dialect, avoid)
        out[tensor.name] = Written(left, (right,))
    for name, value in result.equations.items():
        out[name] = of_equation(result, name, value, dialect)
    return out


def of_equation(
    result: TokenFlow, name: str, value: Expression | sp.Expr, dialect: Dialect = TEXT
) -> Written:
    """One equation."""
    left = LEFT[name][0 if dialect.is_latex else 1]
    if name == "gram_rate" and isinstance(value, Expression):
        half = _half(result, value)
        if half is not None:
            form = short_form(half, dialect, names_of(result), result.names.stacks)
            partner = r"\left(a \leftrightarrow b\right)" if dialect.is_latex else "(a <-> b)"
            inside = " ".join(form.lines)
            whole = f"[ {inside} ] + {partner}" if len(half.terms) > 1 else f"{inside} + {partner}"
            return Written(left, (whole,), tuple(form.where))
    if isinstance(value, Expression):
        form = short_form(value, dialect, names_of(result), result.names.stacks)
        return Written(left, tuple(form.lines), tuple(form.where))
    return Written(left, (sp.latex(value) if dialect.is_latex else sp.sstr(value),))


def _half(result: TokenFlow, rate: Expression) -> Expression | None:
    """What the rate is with its partner by exchange of a and b, if it is that."""
    names = result.names
    half = half_rate(result.velocity, names, result.book)
    a, b = names.s, OTHER
    both = spread(plus(half, swapped(half, a, b)), (a, b))
    return half if both == rate else None


def names_of(result: TokenFlow) -> set[str]:
    """What stands for something in any of the equations."""
    model = result.model
    used = {m.data for m in model.matrices} | {p.name for p in model.params}
    used |= {t.name for t in result.book.of}
    return used | {
        "x",
        "R",
        "mass",
        "rho",
        "r",
        "n",
        "g",
        "mu",
        "E",
        "N",
        "M",
        "S",
        "z",
        "t",
        "a",
        "b",
        "i",
        "s",
        "c",
    }
