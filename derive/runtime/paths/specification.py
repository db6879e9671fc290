"""What a generated covariance-SDE module tells the runtime of its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from derive.runtime.common.records import Record
from derive.runtime.paths.blocks import Block

EXIT_RADIUS = 1e8  # largest |V| at which a path counts as exploded, unless told otherwise


@dataclass(frozen=True, eq=False)
class AtWidth:
    """Functions of a generated module that take the width among their parameters.

    `params` has the fields of the limit's parameters and `width`.  `lift(V, params, t)` must be
    positive semi-definite, `field_sizes(params, t)` non-negative.  None: as in the limit.
    """

    params: Record
    width: str
    drift: Callable[..., Any]
    step_layer: Callable[..., Any]
    step_blocks: Mapping[str, Block]
    lift: Callable[..., Any]
    diffusion: Callable[..., Any] | None = None
    noise_from: Callable[..., Any] | None = None
    field_sizes: Callable[..., Any] | None = None


@dataclass(frozen=True, eq=False)
class CovarianceModel:
    """A generated module's functions and the laws of what they draw.

    A layer takes the time 1 / `clock` ** `pace`.
    """

    params: Record
    dims: Record
    weights: Record
    width: str
    clock: str
    ranges: Mapping[str, Any]
    ratios: Mapping[str, str]
    weight_shapes: Mapping[str, tuple[str, ...]]
    noise_fields: Mapping[str, str]
    drift: Callable[..., Any]
    diffusion: Callable[..., Any]
    noise_from: Callable[..., Any]
    mixing_rate: Callable[..., Any]
    mixing_effect: Callable[..., Any]
    volatility: Callable[..., Any]
    layer: Callable[..., Any]
    reduced_layer: Callable[..., Any] | None = None
    reduced_blocks: Mapping[str, Block] = field(default_factory=dict)
    step_layer: Callable[..., Any] | None = None
    step_blocks: Mapping[str, Block] = field(default_factory=dict)
    at_width: AtWidth | None = None
    shares: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    unit_rows: bool = False
    pace: float = 1.0

    def unit(self, size: float) -> float:
        """Layers in a unit of time, at a size of the clock's dimension."""
        return size if self.pace == 1 else float(size) ** self.pace
