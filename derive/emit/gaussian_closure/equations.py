"""The equations of a closure as a reader sees them, in text and in LaTeX.

Input: a derivation.  Output: `Written` by name; the tensors that the equations use are defined
first.  The rate of the covariance says that it is R S + S R^T where it is.
"""

from __future__ import annotations

from dataclasses import replace

from derive.calculus.index.expressions import Expression
from derive.calculus.written.dialect import TEXT, Dialect
from derive.calculus.written.equation import Written
from derive.calculus.written.meanings import meaning
from derive.calculus.written.short_form import short_form
from derive.methods.gaussian_closure.definitions import defined_in
from derive.methods.gaussian_closure.result import GaussianClosure, cov_rate

LEFT = {  # {}: the position, where the law depends on it; R, N: `_letters`
    "velocity": (r"\Gamma(x){}", "Gamma(x){}"),
    "mean_rate": (r"\dot m{}", "m'{}"),
    "jacobian": (r"R{} = \mathbb{{E}}\,\nabla\Gamma", "R{} = E grad Gamma"),
    "cov_rate": (r"\dot S{}", "S'{}"),
    "noise": (r"N{}", "N{}"),
}


def written(result: GaussianClosure, dialect: Dialect = TEXT) -> dict[str, Written]:
    """All equations by name, those of defined tensors first."""
    stacks, avoid = result.names.stacks, _names(result)
    out = {}
    for tensor in defined_in(result.book, *result.equations.values()):
        left, right = meaning(tensor, result.book, stacks, dialect, avoid)
        out[tensor.name] = Written(left, (right,))
    for name, expression in result.equations.items():
        out[name] = of_equation(result, name, expression, dialect)
    return out


def of_equation(
    result: GaussianClosure, name: str, expression: Expression, dialect: Dialect = TEXT
) -> Written:
    """One equation, of an equation's or of another value."""
    form = short_form(expression, dialect, _names(result), result.names.stacks)
    generic = (rf"\mathrm{{{{{name}}}}}{{}}".replace("_", r"\_"), f"{name}{{}}")
    place = "" if not result.model.positional else "_{s}" if dialect.is_latex else "[s]"
    left = LEFT.get(name, generic)[0 if dialect.is_latex else 1].format(place)
    slope, noise = (f"{letter}{place}" for letter in _letters(result))
    if name == "jacobian":
        left = left.replace(f"R{place}", slope, 1)
    if name == "noise":
        left = noise
    if name == "cov_rate" and _is_product(result, expression):
        S, more = f"S{place}", "" if result.noise is None else f" + {noise}"
        left += f" = {slope} {S} + {S} {dialect.transpose.format(slope)}{more}"
    return Written(left, tuple(form.lines), tuple(form.where))


def _letters(result: GaussianClosure) -> list[str]:
    """What the mean gradient and the noise are called: R and N, unless the definition has them."""
    model = result.model
    taken = {m.data for m in model.matrices} | {p.name for p in model.params}
    return [next(c for c in letters if c not in taken) for letters in ("RJLZ", "NECY")]


def _is_product(result: GaussianClosure, expression: Expression) -> bool:
    """Is it R S + S R^T, and the noise, with the R and the noise that are shown?"""
    if "jacobian" not in result.equations:
        return False
    noise = result.equations.get("noise")
    shown = replace(result, jacobian=result.equations["jacobian"], noise=noise)
    return cov_rate(shown) == expression


def _names(result: GaussianClosure) -> set[str]:
    """What stands for something in any of the equations."""
    model = result.model
    used = {m.data for m in model.matrices} | {p.name for p in model.params}
    used |= {t.name for e in result.equations.values() for t in e.tensors()}
    return used | {t.name for t in result.book.of} | set("iuswxyRNEg")
