"""The SDE of a finite width: the limit's module with drift, noise and step corrected.

Input: a module's specification with `at_width`, the limit's parameters and a width.  Output: a
specification and parameters that every simulator takes like those of the limit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from derive.runtime.common.inputs import positive_integer
from derive.runtime.common.precision import precision
from derive.runtime.paths.specification import AtWidth, CovarianceModel

LARGEST = 2**40  # the search for a width that would do ends there


def corrected(
    spec: CovarianceModel, V: np.ndarray, params: Any, width: int, t1: float
) -> tuple[CovarianceModel, Any]:
    """Specification and parameters at a width; ValueError where there is no such SDE."""
    found = spec.at_width
    if found is None:
        raise ValueError(
            f"width = {width!r}: this module has no correction for a finite {spec.width}, because "
            "its first one vanishes or is that of no SDE; `derive show MODEL --finite-width` says "
            f"which. Leave width out for the SDE of the limit"
        )
    width = positive_integer("width", width)
    if not _stays(found, V, params, width, t1):
        raise ValueError(
            f"width = {width}: at that width the corrected SDE does not keep V positive "
            f"semi-definite for these parameters; {_remedy(found, V, params, width, t1)}"
        )
    return specification(spec), _at(found, params, width)


@functools.cache
def specification(spec: CovarianceModel) -> CovarianceModel:
    """The specification of the corrected SDE; one object a module, so that it compiles once."""
    found = spec.at_width
    assert found is not None
    own: Any = found.params

    def plain(function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the limit's parameters, given those at a width."""

        def limit(argument: Any) -> Any:
            if not isinstance(argument, own):
                return argument
            return spec.params(*(getattr(argument, n) for n in spec.params._fields))

        return lambda *arguments: function(*map(limit, arguments))

    return replace(
        spec,
        params=found.params,
        drift=found.drift,
        diffusion=found.diffusion or plain(spec.diffusion),
        noise_from=found.noise_from or plain(spec.noise_from),
        mixing_rate=plain(spec.mixing_rate),
        mixing_effect=plain(spec.mixing_effect),
        volatility=plain(spec.volatility),
        step_layer=found.step_layer,
        step_blocks=found.step_blocks,
        at_width=None,
    )


def _at(found: AtWidth, params: Any, width: float) -> Any:
    return found.params(**{**params._asdict(), found.width: float(width)})


def _stays(found: AtWidth, V: np.ndarray, params: Any, width: float, t1: float) -> bool:
    """Whether noise and step exist at V and at random covariances of every rank."""
    with precision("float64") as kind:
        given = found.params(*(jnp.asarray(p, kind) for p in _at(found, params, width)))
        for t in np.linspace(0.0, t1, 5):
            sizes = found.field_sizes(given, float(t)) if found.field_sizes else ()
            if any(float(s) < 0 for s in sizes):
                return False
            for W in _covariances(V):
                values = np.linalg.eigvalsh(np.asarray(found.lift(jnp.asarray(W), given, float(t))))
                if np.any(values[:, 0] < -1e-9 * np.max(np.abs(W))):
                    return False
    return True


def _covariances(V: np.ndarray) -> Iterator[np.ndarray]:
    """Batches (k, m, m): V itself, then random ones of every rank."""
    yield V[None]
    m = len(V)
    rng = np.random.default_rng(0)
    root = rng.standard_normal((64, m, m))
    root *= np.arange(m) <= (np.arange(64) % m)[:, None, None]
    root *= np.exp(rng.normal(0, 1, (64, m, 1)))
    yield root @ root.swapaxes(-1, -2)


def _remedy(found: AtWidth, V: np.ndarray, params: Any, width: int, t1: float) -> str:
    """The least width from which on it does, by doubling and bisection."""
    low, high = width, 2 * width
    while not _stays(found, V, params, high, t1):
        low, high = high, 2 * high
        if high > LARGEST:
            return "no width mends that; leave width out for the SDE of the limit"
    while high - low > 1:
        middle = (low + high) // 2
        if _stays(found, V, params, middle, t1):
            high = middle
        else:
            low = middle
    return f"it does from width = {high} on; leave width out for the SDE of the limit"
