"""Random blocks of a reduced chain are m x m matrices that stand for weights read in a frame."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp


@dataclass(frozen=True)
class BlockLaw:
    """Law of an m x m block: "gaussian" entries, or a "wishart_root" T with T T^T Wishart.

    The degrees of freedom of a root are `dim` - `used` * m.
    """

    kind: str
    dim: sp.Symbol | None = None
    used: int = 0


def root_shift(law: BlockLaw, token: sp.Symbol) -> sp.Expr:
    """t^2 of the Gaussian root t I + S/2 whose square has mean nu I: nu - (m + 1)/4."""
    assert law.dim is not None
    return law.dim - law.used * token - (token + 1) / sp.Integer(4)
