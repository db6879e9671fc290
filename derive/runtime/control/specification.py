"""What a generated control module tells the runtime of its problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from derive.runtime.common.records import Record

Shapes = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True, eq=False)
class ControlModel:
    """The derived functions of one problem; x, p, u, params are NamedTuples of one point in time.

    `h_xx(x, p, u, params, dx)` and its like are second derivatives of H applied to a direction;
    `h_px(x, u, params, dx)` = f_x dx, `h_pu(x, u, params, du)` = f_u du.  Symmetric states have
    symmetrised derivatives under the Frobenius pairing.  `bounds`: by name of control,
    ("box", low, high) or ("l1", radius) or ("l2", radius): numbers, names of parameters or
    functions of them; the
    controls with a bound on their norm share it.  `sparse`: "l1", "l2norm" or "elastic_net" for a
    cost with a kink at u = 0; `radius(params)` may give the bound on |u| instead of `bounds`.
    `switching`: groups of controls without curvature, whose law jumps, as (names, kind of bound,
    price of a unit of their norm, low, high).
    `free_time`: the horizon is chosen too.
    `ranges`: by parameter, (low, high, low is open, high is open, words); `kinds`: by data,
    "symmetric" or "positive": what `solve` and `turnpike` hold the numbers to.
    """

    params: Record
    param_shapes: Shapes
    state: Record
    control: Record
    costate: Record
    state_shapes: Shapes
    control_shapes: Shapes
    running_cost: Callable[..., Any]
    hamiltonian: Callable[..., Any]
    state_rate: Callable[..., Any]
    costate_rate: Callable[..., Any]
    stationarity: Callable[..., Any]
    terminal_cost: Callable[..., Any] | None = None
    terminal_rate: Callable[..., Any] | None = None
    static_residual: Callable[..., Any] | None = None
    control_law: Callable[..., Any] | None = None
    h_xx: Any = None
    h_xu: Any = None
    h_ux: Any = None
    h_uu: Any = None
    h_px: Any = None
    h_pu: Any = None
    symmetric: tuple[str, ...] = ()
    sphere: tuple[str, ...] = ()
    bounds: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    discount: Callable[..., Any] | None = None
    fixed_end: bool = False
    sparse: str | None = None
    implicit: bool = False  # the law is found by descent in H, from a control nearby
    curved: bool = False  # H_uu depends on state, costate or control: its sign is to be watched
    constant: tuple[str, ...] = ()  # states that stand for controls constant in time
    radius: Callable[..., Any] | None = None
    switching: tuple[tuple[Any, ...], ...] = ()
    free_time: bool = False
    ranges: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
