"""The gate of a Gaussian closure: every emitted function against its equation, or the text.

Closed equations are evaluated in NumPy, rates by a quadrature at run time are compared with a
quadrature of the text over keys and queries, the particles' velocity with the text on tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax
import numpy as np
import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.draws import generator
from derive.methods.gaussian_closure import checks, clouds, instances, singular
from derive.methods.gaussian_closure.conditions import has_frequency, is_gram
from derive.methods.gaussian_closure.instances import ClosureInstance
from derive.methods.gaussian_closure.key_nodes import has_nodes
from derive.methods.gaussian_closure.result import (
    CLOSED,
    CUBATURE,
    GaussianClosure,
    coupled,
    cov_rate,
)
from derive.notation.closures.numeric import Cloud
from derive.verify.common.compare import ROUNDING, Finding, Target, findings, strict_jax

BOUND_TO_RUNTIME = {"solve", "flow", "particles", "rate_error", "velocity_error"}
TOKENS = 6


def gate(result: GaussianClosure, module: ModuleType) -> list[Finding]:
    """Every emitted function, in one dimension and in three (two where keys are integrated)."""
    sizes = (1, 3) if result.route == CLOSED else (1, 2)
    # integers of powers and of parameters meet floats where rates are integrated: values count here
    with strict_jax() if result.route == CLOSED else jax.enable_x64(True):
        batches = (list(targets(result, module, d)) for d in sizes)
        return findings(module, batches, BOUND_TO_RUNTIME)


def targets(result: GaussianClosure, module: ModuleType, d: int) -> Iterator[Target]:
    scale = 0.25 if result.route == CLOSED else 0.12
    one = instances.instance(result.model, 70 + d, size=d, scale=scale)
    p = params_of(module, one)
    x, m, S = (one.arrays[n] for n in ("x", "m", "S"))
    for name, expression in equations(result).items():
        first = (x,) if name == "velocity" else ()
        value = instances.at(one, expression, result.book)
        # sums over nodes that are turned against each other
        allowed = 1e-6 if has_nodes(expression, result.book) else ROUNDING
        yield Target(name, (*first, m, S, p), value, 1e-3, allowed)
    if hasattr(module, "margin"):
        yield Target("margin", (m, S, p), margin(result, one), 1e-3)
    if result.route != CLOSED:
        yield from _integrated(result, module, one, p)
    if hasattr(module, "particle_velocity"):
        yield _particles(result, module, d)


def equations(result: GaussianClosure) -> dict[str, Expression]:
    """What is emitted as it was derived."""
    found = {"velocity": result.velocity}
    if result.route == CLOSED:
        found |= {
            "mean_rate": result.mean_rate,
            "jacobian": result.jacobian,
            "cov_rate": cov_rate(result),
        }
    return found if result.noise is None else {**found, "noise": result.noise}


def margin(result: GaussianClosure, one: ClosureInstance) -> np.ndarray:
    """Smallest eigenvalue of I + F M F, F F = cov, over the conditions that structure does not
    meet: the Gaussian integrals exist while it is positive."""
    values = []
    for matrix, law in result.book.conditions:
        settled = is_gram(matrix) or has_frequency(matrix)
        if settled or any(c.has(sp.I) for c, _ in matrix.terms):
            continue
        M, cov = instances.at(one, matrix, result.book), one.arrays[law.name]
        sizes, vectors = np.linalg.eigh(cov)
        root = (vectors * np.sqrt(np.maximum(sizes, 0))[..., None, :]) @ vectors.swapaxes(-1, -2)
        inner = root @ M @ root + np.eye(M.shape[-1])
        least = np.linalg.eigvalsh((inner + inner.swapaxes(-1, -2)) / 2)[..., 0]
        # of positions each has a law of its own, and leads last; heads before them
        values.append(
            least.reshape(-1, len(cov)).min(0) if result.model.positional else least.min()
        )
    return np.asarray(np.minimum.reduce(values))


def params_of(module: ModuleType, one: ClosureInstance) -> Any:
    return module.Params(
        **{n: np.asarray({**one.params, **one.arrays}[n]) for n in module.Params._fields}
    )


def _integrated(
    result: GaussianClosure, module: ModuleType, one: ClosureInstance, p: Any
) -> Iterator[Target]:
    """Rates that are integrated at run time: against a quadrature of the text."""
    allowed = 1e-7 if result.route != CUBATURE else checks.by_nodes(result, 1e-5)
    if singular.has_kinks(result.model):
        allowed = 1e-2  # of Gauss-Hermite points across a kink
    nodes = 40 if not result.model.positional else 20
    mean, cov = clouds.text_rates(result.model, one, nodes)
    if result.noise is not None:
        cov = cov + instances.at(one, result.noise, result.book)
    law = (one.arrays["m"], one.arrays["S"], p)
    yield Target("mean_rate", law, mean, 1e-3, allowed)
    yield Target("cov_rate", law, cov, 1e-3, allowed)
    if one.arrays["S"].shape[-1] == 1 and result.noise is None:  # S' = 2 R S there
        yield Target("jacobian", law, cov / (2 * one.arrays["S"]), 1e-3, allowed)


def _particles(result: GaussianClosure, module: ModuleType, d: int) -> Target:
    one = instances.instance(result.model, 80 + d, size=d, block=False)
    tokens = generator(81, d).standard_normal((TOKENS, d))
    positions = np.arange(TOKENS, dtype=float) if result.model.positional else None
    cloud = Cloud(tokens, np.full(TOKENS, 1 / TOKENS), positions)
    right = clouds.text_velocity(result.model, one, cloud, cloud)
    # Sinkhorn's iterations end where they end: in the text's and in the kernel's own order
    allowed = 1e-6 if coupled(result) else 1e-11
    return Target(
        "particle_velocity", (tokens, tokens, params_of(module, one)), right, 1e-3, allowed
    )
