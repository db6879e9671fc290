"""The SDE of a finite width: the limit and its first correction, where an SDE can hold it.

Input: a derived covariance SDE and its expansion in the width.  Output: `Corrected`: the limit's
quantities with drift, diffusion, noise and step in V, the parameters and the width, so that

    dV = (b + n^(-1/2) b_1) dt + noise of covariance Sigma + n^(-1/2) Sigma_1

has the generator L_0 + n^(-1/2) L_1, hence weak error O(1/n).

Not supported: a third cumulant in L_1 (no SDE has one), and a Sigma_1 that is no combination of
the covariances of the noise's independent fields (then Sigma + n^(-1/2) Sigma_1 is not shown to be
positive semi-definite).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import sympy as sp

from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factors
from derive.errors import Refusal
from derive.methods.covariance_sde.congruence import congruence
from derive.methods.covariance_sde.fields import NoiseMap
from derive.methods.covariance_sde.finite_width import FiniteWidth, finite_width
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.methods.covariance_sde.substitution import substitute


@dataclass(frozen=True)
class Corrected:
    """The derivation of the limit, `sde`, with the corrected drift, diffusion, noise and step.

    `found`: the expansion.  `width`: the symbol that stands for the width of the network (the
    step keeps the clock's own symbol for the inverse of its length).  `rates`: every field of the
    limit's noise is scaled by sqrt(1 + rate / sqrt(width)).  `conditions`: what the width must
    satisfy for the diffusion to be positive semi-definite.
    """

    sde: CovarianceSDE
    found: FiniteWidth
    width: sp.Symbol
    rates: dict[str, sp.Expr]
    conditions: tuple[str, ...]

    @property
    def drift(self) -> Expression:
        return self.sde.drift

    @property
    def diffusion(self) -> Expression:
        return self.sde.diffusion

    @property
    def corrections(self) -> dict[str, Expression]:
        """What the limit's drift and diffusion gain, times the root of the width."""
        parts = {
            "drift_correction": self.found.drift,
            "diffusion_correction": self.found.diffusion,
        }
        return {name: e for name, e in parts.items() if not e.is_zero}

    @property
    def fact(self) -> str:
        what = " and ".join(name.removesuffix("_correction") for name in self.corrections)
        clock = self.found.width
        return (
            f"finite width: {what} + correction / sqrt({clock}) takes the weak error from "
            f"O({clock}^(-1/2)) to O(1/{clock}): simulate(..., width={clock})"
        )

    @property
    def sizes(self) -> tuple[sp.Expr, ...]:
        """Squared sizes of the fields that are not one; all must be non-negative."""
        small = 1 / sp.sqrt(self.width)
        return tuple(1 + r * small for r in self.rates.values() if r != 0)


def corrected(result: CovarianceSDE, found: FiniteWidth | None = None) -> Corrected:
    """The SDE with its n^(-1/2) correction.

    Raises `Refusal` where L_1 = 0 (nothing to correct at this order), where L_1 has a third
    cumulant (no SDE has one), and where the corrected diffusion is not shown to be positive.
    """
    found = finite_width(result, second=False) if found is None else found
    place = result.model.place
    if found.vanishes:
        raise Refusal(
            f"L_1 = 0: the SDE has weak error O(1/{found.width}) as it stands, and at order "
            f"1/{found.width} drift and diffusion are not enough; there is no corrected SDE",
            place,
        )
    if not found.third_cumulant.is_zero:
        raise Refusal(
            f"L_1 has a third cumulant ({len(found.third_cumulant.terms)} terms), so it is an "
            "operator of third order, and no SDE has it as its generator",
            place,
        )
    rates = field_rates(found.diffusion, result.noise)
    if rates is None:
        raise Refusal(
            "the first correction to the diffusion is no combination of the covariances of the "
            f"independent noise fields ({', '.join(f.core for f in result.noise.fields)}), so the "
            "corrected diffusion is not shown to be positive semi-definite",
            place,
        )
    width = _symbol(result)
    small = 1 / sp.sqrt(width)
    drift = result.drift + found.drift.scaled(small)
    noise = _scaled(result.noise, rates, small)
    sde = replace(
        result,
        drift=drift,
        diffusion=result.diffusion + found.diffusion.scaled(small),
        noise=noise,
        step=congruence(drift, noise, result.law),
        reduction=None,
    )
    left = sde.step.mean() - drift
    if not left.is_zero:
        raise Refusal(f"the mean of the step misses the drift by {len(left.terms)} terms", place)
    shown = tuple(f"1 + ({r})/sqrt({width}) >= 0" for r in rates.values() if r != 0)
    return Corrected(sde, found, width, rates, shown)


@lru_cache(maxsize=1)  # asked for by the emitter, and by the gate again
def corrected_or_none(result: CovarianceSDE) -> Corrected | None:
    """The corrected SDE where there is one."""
    try:
        return corrected(result)
    except Refusal:
        return None


def field_rates(correction: Expression, noise: NoiseMap) -> dict[str, sp.Expr] | None:
    """r with correction = sum_f r_f Cov_f over the independent fields f of a noise map, or None."""
    names = [f.tensor.name for f in noise.fields]
    unknown = sp.symbols(f"r0:{len(names)}")
    left = -correction
    for r, one in zip(unknown, noise.fields, strict=True):
        kept = [t for t in noise.compact.terms if any(f.tensor == one.tensor for f in t[1])]
        alone = collect(noise.compact.free, kept)
        expanded = substitute(alone, one.tensor, one.built)
        part = NoiseMap((one,), alone, expanded, noise.factor, noise.gram)
        left = left + part.covariance().scaled(r)
    equations = [c for c, _ in left.terms]
    solved = sp.linsolve(equations, *unknown) if equations else sp.FiniteSet(unknown)
    for solution in solved:
        # a field that the equations leave free keeps its size
        values = [sp.simplify(s.xreplace(dict.fromkeys(unknown, 0))) for s in solution]
        return dict(zip(names, values, strict=True))
    return None


def _scaled(noise: NoiseMap, rates: dict[str, sp.Expr], small: sp.Expr) -> NoiseMap:
    """The noise map with every field scaled by the root of its squared size."""
    sizes = {n: sp.sqrt(1 + r * small) for n, r in rates.items() if r != 0}
    if not sizes:
        return noise
    owner = {f.tensor.name: f.tensor.name for f in noise.fields}
    owner |= {f.drawn.name: f.tensor.name for f in noise.fields}

    def scaled(coefficient: sp.Expr, factors: Factors) -> list[tuple[sp.Expr, Factors]]:
        held = [owner[f.tensor.name] for f in factors if f.tensor.name in owner]
        return [(coefficient * sp.Mul(*(sizes.get(name, 1) for name in held)), factors)]

    return replace(
        noise,
        compact=noise.compact.map_terms(scaled),
        expanded=noise.expanded.map_terms(scaled),
    )


def _symbol(result: CovarianceSDE) -> sp.Symbol:
    """A name for the width that the definition does not use."""
    known: list[sp.Symbol] = [*result.model.dims, *result.model.params]
    taken = {s.name for s in known}
    name = next(n for n in ("width", "network_width", "the_width") if n not in taken)
    return sp.Symbol(name, positive=True)
