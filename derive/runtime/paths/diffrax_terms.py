"""A covariance SDE as terms for diffrax, the one file of the runtime that needs more than JAX.

Imports diffrax where it is used, so that a module without it imports as ever.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from derive.runtime.common.factor import psd_factor
from derive.runtime.paths.blocks import gaussian_blocks, total
from derive.runtime.paths.pure import arrays, fields
from derive.runtime.paths.specification import CovarianceModel


def terms(spec: CovarianceModel, params: Any, control: Any) -> Any:
    """Drift and noise of dV = b dt + N dW in the sense of Ito, as terms for diffrax.

    `control`: independent Brownian motions as many as `normals(spec, m)`.  Raises ImportError with
    what to install.
    """
    try:
        import diffrax
        import lineax
    except ImportError:
        raise ImportError('terms are for diffrax: pip install "derive[diffrax]"') from None

    def drift(t: Any, V: jax.Array, args: Any) -> jax.Array:
        return jnp.asarray(spec.drift(V, arrays(spec, params, V.dtype), t))

    def noise(t: Any, V: jax.Array, args: Any) -> Any:
        kind = arrays(spec, params, V.dtype)
        L, _ = psd_factor(V)
        laws = fields(spec)

        def applied(z: jax.Array) -> jax.Array:
            drawn = gaussian_blocks(laws, z, V.shape[-1], {}, tiles=False)
            return jnp.asarray(spec.noise_from(L, V, drawn, kind, t))

        size = (total(laws, V.shape[-1]),)
        return lineax.FunctionLinearOperator(applied, jax.ShapeDtypeStruct(size, V.dtype))

    return diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(noise, control))
