"""What a derivation of a Gaussian closure gives: velocity, rates, verdict and the record."""

from __future__ import annotations

from dataclasses import dataclass, field

from derive.calculus.index.defined import Book, placed, plus, spread
from derive.calculus.index.expressions import Expression, single
from derive.calculus.index.factors import Index
from derive.methods.common.record import Fact, Step
from derive.methods.gaussian_closure.names import Names
from derive.methods.gaussian_closure.scalar_rules import FourierRule
from derive.notation.closures.model import ClosureModel, ClosureTrace

Form = tuple[str, int, int]  # a parameter, its axes, the axis joined to x


CLOSED, FOURIER, CUBATURE = "closed form", "Fourier integral", "cubature"


@dataclass(frozen=True)
class Wave:
    """The share of one scalar function f in the projected rates.

    f(s) = sum_{j<k} f^(j)(0) s^j / j! + (1/2 pi) int phi(u) (iu)^-k [e^{ius} - sum (ius)^j/j!] du.
    `mean`, `jacobian`: rates with e^{ius} for f; `powers`: with s^j for f; `size`: E s^2.
    """

    rule: FourierRule
    mean: Expression
    jacobian: Expression
    powers: tuple[tuple[Expression, Expression], ...]
    size: Expression


@dataclass(frozen=True, eq=False)
class GaussianClosure:
    """A derivation's result.  Free indices: velocity, mean_rate (i); jacobian (i, j)."""

    model: ClosureModel
    trace: ClosureTrace
    names: Names
    book: Book
    velocity: Expression
    mean_rate: Expression
    jacobian: Expression
    exact: bool
    route: str
    waves: tuple[Wave, ...]
    noise: Expression | None
    shared_law_exact: bool
    cubature: Expression | None = None  # the part of the velocity that is averaged by cubature
    through: tuple[Form, ...] | None = None  # all that it sees of x; None: x itself
    # quadratics near whose zeros that part is singular; None: it is smooth
    singular: tuple[Expression, ...] | None = None
    steps: tuple[Step, ...] = ()
    facts: tuple[Fact, ...] = ()
    equations: dict[str, Expression] = field(default_factory=dict)

    @property
    def block(self) -> tuple[Index, ...]:
        return (self.names.s,) if self.model.positional else ()


def cov_rate(result: GaussianClosure) -> Expression:
    """R S + S R^T + noise, collected."""
    names = result.names
    i, j = Index("i", names.model.state_dim), Index("j", names.model.state_dim)
    link = Index("_link", names.model.state_dim)
    own = (names.s, link, j) if names.model.positional else (link, j)
    left = placed(result.jacobian, {j: link}) * single(names.cov[own], own)
    left = spread(left.summed(link), (*result.block, i, j))
    swapped = left.renamed({i: j, j: i})
    parts = [left, spread(swapped, left.free)]
    if result.noise is not None:
        parts.append(result.noise)
    return plus(*parts)


def coupled(result: GaussianClosure) -> bool:
    """Does a bistochastic weight join keys and queries?"""
    return any(t.kind == "spectral" for t in result.book.of)
