"""L4 of closures: symmetry, equivariance, and positive laws of conserved rank."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import jax
import numpy as np

from derive.draws import generator
from derive.methods.common.record import rounded
from derive.methods.gaussian_closure import checks, instances
from derive.methods.gaussian_closure.instances import ClosureInstance
from derive.methods.gaussian_closure.result import CUBATURE, GaussianClosure
from derive.notation.common.arrays import walk
from derive.verify.common.rung import Rung
from derive.verify.gaussian_closure.gate import params_of
from derive.verify.gaussian_closure.second_route import SCALE


def evaluated(module: ModuleType, one: ClosureInstance, names: tuple[str, ...]) -> list[np.ndarray]:
    p = params_of(module, one)
    return [np.asarray(getattr(module, n)(one.arrays["m"], one.arrays["S"], p)) for n in names]


def rotated(result: GaussianClosure, one: ClosureInstance) -> tuple[ClosureInstance, np.ndarray]:
    """Tokens and every matrix axis over the token dimension turned by one orthogonal matrix."""
    model = result.model
    d = one.sizes[model.state_dim.name]
    turn = np.linalg.qr(generator(9).standard_normal((d, d)))[0]
    arrays = dict(one.arrays)
    for m in model.matrices:
        a = arrays[m.data]
        for axis, dim in enumerate(m.shape):
            if dim == model.state_dim:
                a = np.moveaxis(np.moveaxis(a, axis, -1) @ turn.T, -1, axis)
        arrays[m.data] = a
    for n in ("x", "m"):
        arrays[n] = arrays[n] @ turn.T
    arrays["S"] = turn @ arrays["S"] @ turn.T
    if model.cross and model.key_dim == model.state_dim:
        arrays["key_mean"] = arrays["key_mean"] @ turn.T
        arrays["key_cov"] = turn @ arrays["key_cov"] @ turn.T
    return replace(one, arrays=arrays), turn


def invariants(result: GaussianClosure, module: ModuleType) -> Rung:
    """L4: symmetry, orthogonal equivariance, PSD and rank along the flow."""
    figures: dict[str, float] = {}
    one = instances.instance(result.model, 41, size=3, scale=SCALE)
    other, turn = rotated(result, one)
    with jax.enable_x64(True):
        mean, cov = evaluated(module, one, ("mean_rate", "cov_rate"))
        turned_mean, turned_cov = evaluated(module, other, ("mean_rate", "cov_rate"))
        figures["cov_rate symmetric"] = checks.residual(cov.swapaxes(-1, -2), cov)
        if _vectorial(result) and result.route != CUBATURE:
            figures["equivariant mean"] = checks.residual(turned_mean, mean @ turn.T)
            figures["equivariant covariance"] = checks.residual(turned_cov, turn @ cov @ turn.T)
        thin = instances.instance(result.model, 42, size=3, rank=2, scale=SCALE)
        out = module.solve(
            thin.arrays["m"], thin.arrays["S"], params_of(module, thin), t1=0.3, rtol=1e-7
        )
        last = np.asarray(out.cov)[..., -1, :, :] if not result.model.positional else None
    if last is None:
        last = np.moveaxis(np.asarray(out.cov), -4, 0)[-1]
    eigenvalues = np.linalg.eigvalsh(last)
    largest = eigenvalues.max()
    figures["most negative eigenvalue"] = float(max(0.0, -eigenvalues.min() / largest))
    if result.noise is None:
        figures["third eigenvalue of a law of rank 2"] = float(
            np.abs(eigenvalues[..., 0]).max() / largest
        )
    return Rung(
        "L4 invariants",
        "symmetric, equivariant under rotations, positive semi-definite, rank conserved",
        max(figures.values()) < 1e-9,
        {k: rounded(v) for k, v in figures.items()},
    )


def _vectorial(result: GaussianClosure) -> bool:
    """Does rotating tokens and matrices together leave the definition alone?

    An elementwise function of a vector over the token dimension itself does not.
    """
    d = result.model.state_dim
    return not any(n.op == "function" and d in n.shape for n in walk(result.trace.velocity))
