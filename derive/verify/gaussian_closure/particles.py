"""L5 of closures: systems of tokens against the closure."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import jax
import numpy as np
import sympy as sp

from derive.draws import generator
from derive.methods.gaussian_closure import instances
from derive.methods.gaussian_closure.instances import ClosureInstance
from derive.methods.gaussian_closure.result import GaussianClosure
from derive.verify.common.rung import Rung, digit
from derive.verify.gaussian_closure.gate import params_of
from derive.verify.gaussian_closure.second_route import SCALE

COUNTS, T1 = (128, 256), 0.5  # of tokens in a system; the time at which they are compared


def particles(result: GaussianClosure, module: ModuleType, replicas: int) -> Rung:
    """L5: many particle systems against the closure after a short time, bias removed in 1/N."""
    mixture = result.model.mixture
    one = instances.instance(result.model, 51, scale=SCALE, block=mixture)
    if result.model.positional and not mixture:
        return _positional_particles(result, module, one, replicas)
    d = one.arrays["m"].shape[-1]
    # of every component: means (B, d), covariances (B, d, d); one Gaussian law is one of them
    mean, cov = one.arrays["m"].reshape(-1, d), one.arrays["S"].reshape(-1, d, d)
    parts = len(mean)
    if mixture:
        one = replace(one, arrays={**one.arrays, "theta": np.full(parts, 1 / parts)})
    p, half = params_of(module, one), COUNTS[0] // parts
    z = generator(51).standard_normal((replicas, parts, 2 * half, d))
    x = mean[:, None] + z @ np.linalg.cholesky(cov).swapaxes(-1, -2)
    got = [_moments_of_systems(module, x, mean, p, count) for count in (half, 2 * half)]
    residuals = _without_start(2 * got[1] - got[0], x, mean, cov).reshape(replicas, -1)
    solved = module.solve(one.arrays["m"], one.arrays["S"], p, t1=T1)
    shift = np.asarray(solved.mean)[-1].reshape(-1, d) - mean
    spread = np.asarray(solved.cov)[-1].reshape(-1, d, d) + shift[:, :, None] * shift[:, None, :]
    wanted = np.concatenate([mean + shift, spread.reshape(parts, -1)], axis=1).ravel()
    deviation = residuals.mean(axis=0) - wanted
    error = residuals.std(axis=0, ddof=1) / np.sqrt(replicas)
    scores = np.abs(deviation) / np.maximum(error, 1e-12)
    limit = _threshold(parts * (d + d * (d + 1) // 2))
    slack = 0.0 if result.exact else 0.02 * float(np.max(np.abs(wanted)))
    # the error is estimated from few replicas, and a bias of order 1/N^2 is left
    allowed = limit * error * 1.3 + slack + 1e-9
    ok = bool(np.all(np.abs(deviation) <= allowed))
    return Rung(
        "L5 particles",
        f"{replicas} systems of {parts * half} and {2 * parts * half} tokens to t = {T1}, "
        + ("moments of each component " if mixture else "")
        + "extrapolated in 1/N, "
        + ("against the closure" if result.exact else "near the projected closure (2 % allowed)"),
        ok,
        {
            "largest score": round(float(scores.max()), 1),
            "largest deviation": digit(np.abs(deviation).max()),
            "family-wise error": 1e-3,
        },
        f"errors of the moments above {digit(allowed.max())}",
    )


def _moments_of_systems(
    module: ModuleType, x: np.ndarray, start: np.ndarray, p: Any, count: int
) -> np.ndarray:
    """Of tokens (replicas, B, n, d) in systems of `count` a component, at T1: their means and
    second moments about `start` (B, d), (replicas, B, d + d^2)."""
    replicas, parts, tokens, d = x.shape
    cut = x.reshape(replicas, parts, tokens // count, count, d).swapaxes(1, 2)
    systems = cut.reshape(-1, parts * count, d)
    out = np.asarray(module.particles(systems, p, t1=T1, steps=10).x)[:, -1]
    out = out.reshape(replicas, -1, parts, count, d)
    mean = out.mean(axis=(1, 3))
    # second moments about the initial mean are linear in the law: averaged without bias
    away = out - start[:, None]
    second = np.einsum("rsbni,rsbnj->rbij", away, away) / (count * out.shape[1])
    return np.concatenate([mean, second.reshape(replicas, parts, -1)], axis=-1)


def _without_start(
    found: np.ndarray, x: np.ndarray, mean: np.ndarray, cov: np.ndarray
) -> np.ndarray:
    """Less what each component's own moments move, which is one to one: control variates."""
    away = x - mean[:, None]
    second = np.einsum("rbni,rbnj->rbij", away, away) / x.shape[2] - cov
    start = np.concatenate([away.mean(axis=2), second.reshape(*second.shape[:2], -1)], axis=-1)
    design = np.concatenate([start, np.ones((*start.shape[:2], 1))], axis=-1)
    left = [
        found[:, b] - start[:, b] @ np.linalg.lstsq(design[:, b], found[:, b], rcond=None)[0][:-1]
        for b in range(len(mean))
    ]
    return np.stack(left, axis=1)


def _threshold(tests: int) -> float:
    """Of a normal score, for a family-wise error of 1/1000."""
    return float(sp.N(sp.sqrt(2) * sp.erfinv(1 - sp.Rational(1, 1000) / tests)))


def _positional_particles(
    result: GaussianClosure, module: ModuleType, one: ClosureInstance, replicas: int
) -> Rung:
    """Tokens in order of position, one law at each of B equal blocks."""
    model = result.model
    blocks, count = one.sizes["B"], 240
    full = instances.instance(model, 51, scale=SCALE)
    arrays = {**full.arrays, "theta": np.full(blocks, 1 / blocks)}
    p = params_of(module, replace(full, arrays=arrays))
    rng = generator(52)
    m, S = arrays["m"], arrays["S"]
    roots = np.linalg.cholesky(S)
    each = count // blocks
    keys = [
        m[b] + rng.standard_normal((replicas, each, m.shape[-1])) @ roots[b].T
        for b in range(blocks)
    ]
    x = np.concatenate(keys, axis=1)
    with jax.enable_x64(True):
        # each query sits at the end of its block, so that it sees the whole block
        law = np.asarray(module.velocity(x[:, each - 1 :: each], m, S, p))
        run = jax.jit(jax.vmap(lambda q: module.particle_velocity(q, q, p)))
        got = np.asarray(run(x))[:, each - 1 :: each]
    deviation = (got - law).mean(axis=0)
    error = (got - law).std(axis=0, ddof=1) / np.sqrt(replicas)
    limit = _threshold(deviation.size)
    # a query is its own key and the quotient is biased, both of order 1 / tokens seen
    bias = 8.0 / each * np.abs(law).mean()
    allowed = 1.3 * limit * error + bias
    return Rung(
        "L5 particles",
        f"velocities of {replicas} systems of {count} tokens at the ends of {blocks} blocks "
        "against the derived velocity",
        bool(np.all(np.abs(deviation) <= allowed)),
        {"largest deviation": digit(np.abs(deviation).max()), "family-wise error": 1e-3},
        f"errors of the velocity above {digit(allowed.max())}",
    )
