"""Checks of what a user passes to a Gaussian closure: what is wrong, where, and what to do."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from derive.runtime.closures.specification import ClosureModel
from derive.runtime.common.numbers import covariances, finite
from derive.runtime.common.parameters import parameters, together


class Laws(NamedTuple):
    """Checked input: float64 arrays, `lead` the common batch axes; `dims` sizes by name."""

    mean: np.ndarray  # (*lead, d) or (*lead, B, d)
    cov: np.ndarray
    params: dict[str, np.ndarray]
    batched: frozenset[str]  # parameters that differ from law to law, broadcast to `lead`
    lead: tuple[int, ...]
    dims: dict[str, int]


def laws(spec: ClosureModel, mean0: Any, cov0: Any, params: Any) -> Laws:
    mean, cov = finite("mean0", mean0), finite("cov0", cov0)
    own = 2 if spec.positional else 1
    wanted = "(..., B, d) and (..., B, d, d)" if spec.positional else "(..., d) and (..., d, d)"
    if mean.ndim < own or cov.ndim < own + 1:
        raise ValueError(
            f"mean0 and cov0 must have shapes {wanted}, got {mean.shape} and {cov.shape}"
        )
    sizes = mean.shape[-own:]
    if cov.shape[-own - 1 :] != (*sizes, sizes[-1]):
        raise ValueError(
            f"mean0 and cov0 must have shapes {wanted}; mean0 has {mean.shape}, "
            f"cov0 has {cov.shape}: the last axes do not match"
        )
    if spec.centred and mean.any():
        raise ValueError(
            'the definition says law="centred": mean0 must be zero, and its largest entry is '
            f"{np.abs(mean).max():.3g}; derive it without that word for laws of any mean"
        )
    cov = covariances("cov0", cov)
    dims = {"d": sizes[-1], **({"B": sizes[0]} if spec.positional else {})}
    values, axes = parameters(spec.params, spec.param_shapes, params, dims, "mean0", spec.ranges)
    leads = {"mean0": mean.shape[:-own], "cov0": cov.shape[: -own - 1], **axes}
    lead, batched = together(leads, values, axes)
    return Laws(
        np.broadcast_to(mean, (*lead, *sizes)),
        np.broadcast_to(cov, (*lead, *sizes, sizes[-1])),
        values,
        batched,
        lead,
        dims,
    )


def factor(cov: np.ndarray) -> np.ndarray:
    """F with F F^T = cov, by eigenvectors; eigenvalues that are rounding give zero columns."""
    values, vectors = np.linalg.eigh(cov)
    floor = 8 * cov.shape[-1] * np.finfo(cov.dtype).eps * np.maximum(values[..., -1:], 0)
    return vectors * np.sqrt(np.where(values > floor, values, 0))[..., None, :]
