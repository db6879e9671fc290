"""Observables of token covariances V (..., m, m): NumPy's arrays and JAX's alike, any leading axes.

What JAX traces goes through, so that all of them may stand inside jit, vmap and grad.  A matrix
with an entry that is not finite gives nan.

>>> from derive import observables
>>> observables.correlations(paths.V)       # (paths, saves, m (m - 1) / 2)
>>> observables.effective_rank(moments.cov)
"""

from __future__ import annotations

from typing import Any

import numpy as np


def correlations(V: Any) -> Any:
    """Correlations of all pairs a > b, in the order (1, 0), (2, 0), (2, 1), ...

    V: (..., m, m).  Returns (..., m (m - 1) / 2); 0 for a pair with a token of variance 0.
    """
    xp, V = _given(V)
    rows, columns = np.tril_indices(V.shape[-1], -1)
    # roots first: the product of two variances may overflow where the correlation does not
    root = xp.sqrt(xp.where(variances(V) > 0, variances(V), 1))
    inside = (variances(V)[..., rows] > 0) & (variances(V)[..., columns] > 0)
    found = V[..., rows, columns] / root[..., rows] / root[..., columns]
    return xp.where(xp.isnan(found) | inside, found, 0)


def variances(V: Any) -> Any:
    """The diagonal: (..., m, m) to (..., m)."""
    xp, V = _given(V)
    return xp.diagonal(V, axis1=-2, axis2=-1)


def eigenvalues(V: Any) -> Any:
    """Eigenvalues of the symmetric part, increasing: (..., m, m) to (..., m)."""
    xp, V = _given(V)
    finite = xp.all(xp.isfinite(V), axis=(-1, -2))[..., None]
    # LAPACK gives up, with an error, on what is not finite
    safe = xp.where(finite[..., None], V / 2 + xp.swapaxes(V, -1, -2) / 2, 0)
    return xp.where(finite, xp.linalg.eigvalsh(safe), xp.nan)


def entropy(V: Any) -> Any:
    """Entropy of the eigenvalues as shares of their sum, - sum_i p_i log p_i, negative ones as 0.

    V: (..., m, m).  Returns (...,), from 0 (rank one) to log m (a multiple of the identity); nan
    where no eigenvalue is positive.
    """
    xp, values = _given(eigenvalues(V))
    values = xp.where(values < 0, 0, values)
    values = values / values[..., -1:]  # the largest is 1: their sum does not overflow
    share = values / xp.sum(values, axis=-1, keepdims=True)
    return -xp.sum(share * xp.log(xp.where(share == 0, 1, share)), axis=-1)


def effective_rank(V: Any) -> Any:
    """exp of the entropy of the eigenvalues (Roy and Vetterli, 2007): (..., m, m) to (...,).

    From 1 (rank one) to m (a multiple of the identity).
    """
    xp, found = _given(entropy(V))
    return xp.exp(found)


def gap(V: Any, a: int = 0, b: int = 1) -> Any:
    """w = V_aa - 2 V_ab + V_bb, the squared distance of two tokens over the width.

    V: (..., m, m).  Returns (...,).
    """
    _, V = _given(V)
    return V[..., a, a] - V[..., a, b] - V[..., b, a] + V[..., b, b]


def cone_distance(V: Any) -> Any:
    """Distance, in Frobenius' norm, from the cone of positive semi-definite matrices.

    V: (..., m, m), its symmetric part is taken.  Returns (...,): the root of the sum of squares of
    the negative eigenvalues, 0 inside.
    """
    xp, values = _given(eigenvalues(V))
    below = xp.where(values < 0, values, 0 * values)
    return xp.linalg.vector_norm(below, axis=-1)


def _given(V: Any) -> tuple[Any, Any]:
    """The library of an array, and the array; NumPy's for what is none yet."""
    own = getattr(V, "__array_namespace__", None)
    array = np.asarray(V) if own is None else V
    if array.dtype.kind in "iub":
        array = array.astype(float)
    return (np if own is None else own()), array
