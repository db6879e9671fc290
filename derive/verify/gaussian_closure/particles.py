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
    one = instances.instance(result.model, 51, scale=SCALE, block=False)
    if result.model.positional:
        return _positional_particles(result, module, one, replicas)
    mean, cov = one.arrays["m"], one.arrays["S"]
    p, d = params_of(module, one), len(mean)
    z = generator(51).standard_normal((replicas, COUNTS[-1], d))
    x = mean + z @ np.linalg.cholesky(cov).T
    got = [_moments_of_systems(module, x, mean, p, count) for count in COUNTS]
    residuals = _without_start(2 * got[1] - got[0], x, mean, cov)
    solved = module.solve(mean, cov, p, t1=T1)
    last, spread = np.asarray(solved.mean)[-1], np.asarray(solved.cov)[-1]
    shift = last - mean
    wanted = np.concatenate([last, (spread + np.outer(shift, shift)).ravel()])
    deviation = residuals.mean(axis=0) - wanted
    error = residuals.std(axis=0, ddof=1) / np.sqrt(replicas)
    scores = np.abs(deviation) / np.maximum(error, 1e-12)
    limit = _threshold(d + d * (d + 1) // 2)
    slack = 0.0 if result.exact else 0.02 * float(np.max(np.abs(wanted)))
    # the error is estimated from few replicas, and a bias of order 1/N^2 is left
    allowed = limit * error * 1.3 + slack + 1e-9
    ok = bool(np.all(np.abs(deviation) <= allowed))
    return Rung(
        "L5 particles",
        f"{replicas} systems of {COUNTS[0]} and {COUNTS[1]} tokens to t = {T1}, extrapolated in "
        + "1/N, "
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
    """Mean and second moments about `start` at T1, (replicas, d + d^2), in systems of `count`."""
    replicas, tokens, d = x.shape
    systems = x.reshape(replicas * (tokens // count), count, d)
    out = np.asarray(module.particles(systems, p, t1=T1, steps=10).x)[:, -1]
    mean = out.mean(axis=1).reshape(replicas, -1, d).mean(axis=1)
    # second moments about the initial mean are linear in the law: averaged without bias
    second = np.einsum("rni,rnj->rij", out - start, out - start) / count
    second = second.reshape(replicas, -1, d, d).mean(axis=1)
    return np.concatenate([mean, second.reshape(replicas, -1)], axis=1)


def _without_start(
    found: np.ndarray, x: np.ndarray, mean: np.ndarray, cov: np.ndarray
) -> np.ndarray:
    """Less what the tokens' own moments move, which is one to one: control variates."""
    replicas, tokens, d = x.shape
    second = np.einsum("rni,rnj->rij", x - mean, x - mean).reshape(replicas, -1) / tokens
    start = np.concatenate([(x - mean).mean(axis=1), second], axis=1)
    start = start - np.concatenate([np.zeros(d), cov.ravel()])
    design = np.concatenate([start, np.ones((replicas, 1))], axis=1)
    keep = np.linalg.lstsq(design, found, rcond=None)[0]
    return found - start @ keep[:-1]


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
