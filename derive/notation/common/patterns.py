"""A base pattern of attention is a constant square matrix whose rows sum to one.

`causal(m)` is known for every size.  `pattern("p: window of three", m)` declares one that is given
with the parameters, as an array (m, m); derivations use only that its rows sum to one.
`constant("C: cosines", m)` declares a matrix of any given numbers.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from derive.errors import DefinitionError
from derive.notation.common.arrays import node
from derive.notation.common.names import identifier
from derive.notation.common.scalars import Dim


@dataclass(frozen=True)
class Pattern:
    """A row-stochastic matrix by name; `given`: with the parameters, else built from the size.

    `rows`: they sum to one; else it is a matrix of any numbers.
    """

    name: str
    meaning: str
    given: bool
    rows: bool = True

    def sample(self, size: int) -> np.ndarray:
        """The matrix, or for a given one a generic instance, the same at every call."""
        if not self.given:
            return causal_matrix(size)
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), size])
        if not self.rows:
            return rng.uniform(-1.0, 1.0, (size, size))
        weight = rng.uniform(0.2, 1.0, (size, size))
        return weight / weight.sum(axis=1, keepdims=True)


def causal_matrix(size: int) -> np.ndarray:
    """Row a spreads its weight evenly over tokens 0, ..., a."""
    return np.tril(np.ones((size, size))) / np.arange(1, size + 1)[:, None]


def causal(dim: sp.Symbol) -> Any:
    """Every token attends evenly to itself and the tokens before it (dim, dim)."""
    return _constant(Pattern("causal", "even over the past", given=False), dim)


def pattern(declaration: str, dim: sp.Symbol) -> Any:
    """A base pattern given with the parameters: ``p = pattern("p: a window of three", m)``.

    Its rows must sum to one; zeros mask.  At run time: ``Params(..., p=array)``.
    """
    return _constant(declared(declaration), dim)


def constant(declaration: str, dim: sp.Symbol) -> Any:
    """A matrix (dim, dim) of numbers given with the parameters: ``C = constant("C: cosines", m)``.

    At run time: ``Params(..., C=array)``.
    """
    return _constant(declared(declaration, rows=False), dim)


def declared(declaration: str, rows: bool = True) -> Pattern:
    """The pattern that a declaration ``"p: meaning"`` names."""
    name, _, meaning = declaration.partition(":")
    name = name.strip()
    if not name.isidentifier() or name == "causal":
        raise DefinitionError(
            f'pattern: {declaration!r} is no declaration; write "p: meaning", for instance '
            '"p: a window of three"'
        )
    return Pattern(identifier(name, "pattern"), meaning.strip(), True, rows)


def _constant(data: Pattern, dim: sp.Symbol) -> Any:
    if not isinstance(dim, Dim):
        raise DefinitionError(f"{data.name} takes a declared dimension, got {dim!r}")
    return node("constant", (), (dim, dim), data)
