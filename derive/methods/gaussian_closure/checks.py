"""Numeric checks of a closure's steps: the definition's text run on arrays against the expression.

Input: a derivation.  Output: `Check`s.  The text is averaged by Gauss-Hermite quadrature; nothing
of the calculus takes part in that side.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.methods.common.record import Check, rounded
from derive.methods.gaussian_closure.clouds import (
    hermite_cloud,
    key_cloud,
    query_cloud,
    text_rates,
    text_velocity,
)
from derive.methods.gaussian_closure.conditions import U
from derive.methods.gaussian_closure.instances import ClosureInstance, at, instance
from derive.methods.gaussian_closure.key_nodes import has_nodes
from derive.methods.gaussian_closure.result import GaussianClosure, Wave, coupled, cov_rate
from derive.methods.gaussian_closure.singular import has_kinks
from derive.notation.closures.model import ClosureModel


def residual(found: np.ndarray, wanted: np.ndarray) -> float:
    """Relative distance; infinite where a value is not a number, so that no maximum hides it."""
    scale = max(1e-3, float(np.max(np.abs(wanted))))
    size = float(np.max(np.abs(found - wanted)) / scale)
    return size if np.isfinite(size) else float("inf")


def by_nodes(result: GaussianClosure, allowed: float) -> float:
    """What a cubature over the keys leaves, where there is one."""
    return 1e-4 if has_nodes(result.velocity, result.book) else allowed


def at_point_laws(result: GaussianClosure) -> Check | None:
    """With S = 0 the keys sit at their means: the text there against the expression."""
    if coupled(result):
        return None
    model = result.model
    one = instance(model, 1)
    zero = {n: np.zeros_like(one.arrays[n]) for n in ("S", "key_cov") if n in one.arrays}
    arrays = one.arrays | zero
    found = at(one, result.velocity, result.book, **zero)
    wanted = text_velocity(
        model, one, query_cloud(model, one, one.arrays["x"]), key_cloud(model, arrays, 1)
    )
    return Check(
        "point laws: text and expression", residual(found, np.reshape(wanted, found.shape)), 1e-12
    )


def keys_by_quadrature(result: GaussianClosure) -> Check:
    """Quadrature of the text over the keys against the velocity."""
    model = result.model
    one = instance(model, 2)
    found = at(one, result.velocity, result.book)
    if coupled(result):
        cloud = key_cloud(model, one.arrays, 24)
        queries = hermite_cloud(one.arrays["m"], one.arrays["S"], 24)
        wanted = text_velocity(model, one, queries, cloud)[::37]
        found = np.stack([at(one, result.velocity, result.book, x=x) for x in queries.at[::37]])
    else:
        kinked = has_kinks(model)
        queries = query_cloud(model, one, one.arrays["x"])
        for nodes in (900,) if kinked else (40, 80, 160):  # a narrow weight needs many
            wanted = text_velocity(model, one, queries, key_cloud(model, one.arrays, nodes, kinked))
            if residual(found, np.reshape(wanted, found.shape)) < 1e-10:
                break
    return Check(
        "Gauss-Hermite average of the text over the keys",
        residual(found, np.reshape(wanted, found.shape)),
        1e-2 if has_kinks(model) else by_nodes(result, 1e-8),
    )


def second_difference(result: GaussianClosure) -> Check:
    """The text's second difference in x: zero iff the verdict is exact."""
    model = result.model
    one = instance(model, 3)
    keys = key_cloud(model, one.arrays, 48)
    if coupled(result):
        keys = hermite_cloud(one.arrays["m"], one.arrays["S"], 20)
        out = text_velocity(model, one, keys, keys)
        # the least-squares affine fit leaves nothing
        design = np.concatenate([keys.at, np.ones((len(keys.at), 1))], axis=1)
        root = np.sqrt(keys.weight)[:, None]
        fit = np.linalg.lstsq(design * root, out * root, rcond=None)[0]
        size = residual(design @ fit * root, out * root)
    else:
        x = one.arrays["x"]
        # a generic direction: some definitions are constant along (1, ..., 1)
        step = (0.5 if result.exact else 4.0) * np.cos(np.arange(x.size)).reshape(x.shape)
        values = [
            text_velocity(model, one, query_cloud(model, one, x + k * step), keys)
            for k in (-1, 0, 1)
        ]
        size = residual(values[0] - 2 * values[1] + values[2], np.zeros(1)) * 1e-3
    if result.exact:
        return Check("second difference of the text vanishes", size, 1e-9)
    return Check(
        "second difference of the text does not vanish (1e-6 / size)", 1e-6 / max(size, 1e-300), 1.0
    )


def witness(model: ClosureModel, slope: Expression, book: Book) -> float:
    """How much the gradient of the velocity changes between two points, at random instances."""
    largest = 0.0
    for seed in (5, 6, 7):
        one = instance(model, seed)
        x = one.arrays["x"]
        here = at(one, slope, book)
        for away in (0.5 - x, 9 * x + 1, -9 * x):  # far enough to cross kinks
            gap = here - at(one, slope, book, x=away)
            largest = max(largest, float(np.max(np.abs(np.nan_to_num(gap)))))
        if largest > 1e-3:
            break
    return largest


def moments_by_quadrature(result: GaussianClosure) -> Check:
    """Quadrature over x of the text's velocity against the rates of mean and covariance."""
    one = instance(result.model, 4)
    nodes = 20 if result.model.positional else 40
    mean, cov = text_rates(
        result.model, one, nodes, 8 if result.exact and not coupled(result) else nodes
    )
    if result.noise is not None:
        cov = cov + at(one, result.noise, result.book)
    found = at(one, result.mean_rate, result.book), at(one, cov_rate(result), result.book)
    return Check(
        "Gauss-Hermite moments of the text's velocity",
        max(residual(found[0], mean), residual(found[1], cov)),
        1e-2 if has_kinks(result.model) else by_nodes(result, 1e-7),
    )


def waves_by_quadrature(result: GaussianClosure) -> tuple[Check, str]:
    """The Fourier integrals by NumPy against quadrature of the text, and their error estimate.

    Midpoints in t, u = sinh(t) / (1 + sqrt(E s^2)): every third node is the rule with a third of
    the nodes.  The error is exp(-c / step), so it is about the cube of the distance of the two.
    """
    one = instance(result.model, 4, scale=0.12)
    d = one.sizes[result.model.state_dim.name]
    total = np.concatenate([at(one, result.mean_rate, result.book)[:, None], np.zeros((d, d))], 1)
    total[:, 1:] = at(one, result.jacobian, result.book)
    coarse = total.copy()
    counts = [3 * (wave.rule.nodes // 5) for wave in result.waves]  # the instance is a mild one
    for wave, count in zip(result.waves, counts, strict=True):
        fine, rough = _fourier_sum(result, wave, one, count)
        total, coarse = total + fine, coarse + rough
    mean, cov = text_rates(result.model, one, 40)
    half = total[:, 1:] @ one.arrays["S"]
    gap = max(residual(total[:, 0], mean), residual(half + half.T, cov))
    estimate = residual(coarse, total)
    return (
        Check("Gauss-Hermite moments of the text against the Fourier integral", gap, 1e-9),
        f"quadrature at a random instance: {max(counts)} frequencies, estimated relative error "
        f"{rounded(estimate**3):.0e} (a third of them differ by {rounded(estimate):.0e})",
    )


def _fourier_sum(
    result: GaussianClosure, wave: Wave, one: ClosureInstance, nodes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean rate and jacobian, (d, 1 + d), of one scalar function: all nodes, and a third."""
    rule = wave.rule
    count = 2 * int(np.ceil(rule.support * 2.5 * rule.reach / (2 * np.pi))) + 1
    s = np.linspace(-rule.support, rule.support, count)
    values = np.asarray(sp.lambdify(*rule.derivative.args, ["scipy", "numpy"])(s), float)
    values = (values + np.zeros(count)) * (s[1] - s[0])
    size = float(np.max(at(one, wave.size, result.book)))
    scale = 1 / (1 + np.sqrt(size))
    h = np.arcsinh(rule.reach / scale) / nodes

    def pair(mean: Expression, jacobian: Expression, numbers: dict[Any, Any]) -> np.ndarray:
        where = replace(one, numbers={**one.numbers, **numbers})
        first = at(where, mean, result.book)
        return np.concatenate([first[:, None], at(where, jacobian, result.book)], axis=1)

    powers = [pair(*p, {}) for p in wave.powers]
    fine: np.ndarray = sum(
        (float(c) * p for c, p in zip(rule.taylor, powers, strict=True)), np.zeros(())
    )
    rough = fine
    for n in range(nodes):
        u = scale * np.sinh(h * (n + 0.5))
        transform = np.exp(-1j * u * s) @ values / (1j * u) ** rule.order
        rest = pair(wave.mean, wave.jacobian, {U: u}).astype(complex)
        for j, p in enumerate(powers):
            rest = rest - (1j * u) ** j / float(sp.factorial(j)) * p
        part = np.real(transform * rest) * scale * np.cosh(h * (n + 0.5)) * h / np.pi
        fine = fine + part
        rough = rough + (3 * part if n % 3 == 1 else 0)
    return fine, rough
