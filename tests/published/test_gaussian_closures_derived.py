"""Derived closures equal the published ones, at generic and at singular laws, m != 0."""

from __future__ import annotations

import importlib

import gaussian_closure_theorems as theorems
import jax
import numpy as np
import pytest

from derive.methods.gaussian_closure import checks, instances

PLAIN = {
    "softmax_closure": theorems.softmax,
    "l2_closure": theorems.l2,
    "linear_closure": theorems.linear,
    "multihead_softmax_closure": theorems.multihead,
    "sinkhorn_closure": theorems.sinkhorn,
    "causal_linear_closure": theorems.causal_linear,
}


def modules(name: str):  # type: ignore[no-untyped-def]
    definition = getattr(importlib.import_module(f"derive.theory.{name}"), name)
    return definition, importlib.import_module(f"derive.generated.{name}")


def arguments(module, one, positional=False):  # type: ignore[no-untyped-def]
    values = {**one.params, **one.arrays}
    return module.Params(*(np.asarray(values[n]) for n in module.Params._fields))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("size, rank", [(5, None), (4, 2), (3, 0)])
def test_rates_are_the_published_ones(name: str, size: int, rank: int | None) -> None:
    definition, module = modules(name)
    one = instances.instance(definition, 70 + size, size=size, scale=0.8, rank=rank or None)
    if rank == 0:
        one.arrays["S"] = 0 * one.arrays["S"]
    given = {n: {**one.params, **one.arrays}[n] for n in module.Params._fields}
    mean, cov = PLAIN[name](one.arrays["m"], one.arrays["S"], **given)
    with jax.enable_x64(True):
        p = arguments(module, one)
        both = jax.jit(lambda m, S: (module.mean_rate(m, S, p), module.cov_rate(m, S, p)))
        got, rate = both(one.arrays["m"], one.arrays["S"])
    assert checks.residual(np.asarray(got), mean) < 1e-12
    assert checks.residual(np.asarray(rate), cov) < 1e-12
    assert module.EXACT


def test_masked_softmax_is_a_gated_mixture_and_says_it_is_not_exact() -> None:
    definition, module = modules("masked_softmax_closure")
    one = instances.instance(definition, 81, size=3, scale=0.8)
    a = one.arrays
    with jax.enable_x64(True):
        got = module.velocity(a["x"], a["m"], a["S"], arguments(module, one))
    wanted = theorems.masked_velocity(a["x"], a["m"], a["S"], a["theta"], a["Q"], a["K"], a["V"])
    assert checks.residual(np.asarray(got), wanted) < 1e-13
    assert not module.EXACT
    assert "exact where the law does not depend on the position" in module.__doc__


def test_masked_softmax_with_one_law_at_all_positions_is_softmax() -> None:
    definition, module = modules("masked_softmax_closure")
    one = instances.instance(definition, 82, size=2, scale=0.5)
    m, S = one.arrays["m"], one.arrays["S"]
    m, S = np.broadcast_to(m[:1], m.shape), np.broadcast_to(S[:1], S.shape)
    a = one.arrays
    mean, cov = theorems.softmax(m[0], S[0], a["Q"], a["K"], a["V"])
    with jax.enable_x64(True):
        p = arguments(module, one)
        got, rate = module.mean_rate(m, S, p), module.cov_rate(m, S, p)
    assert checks.residual(np.asarray(got), np.broadcast_to(mean, m.shape)) < 1e-12
    assert checks.residual(np.asarray(rate), np.broadcast_to(cov, S.shape)) < 1e-12


@pytest.mark.parametrize("scale", [0.3, 0.8, 1.5])
@pytest.mark.parametrize("rank", [None, 2])
def test_centred_sigmoid_is_the_resolvent_integral(scale: float, rank: int | None) -> None:
    definition, module = modules("sigmoid_closure")
    one = instances.instance(definition, 83, size=3, scale=scale, rank=rank)
    a = one.arrays
    with jax.enable_x64(True):
        p = arguments(module, one)._replace(bias=np.asarray(0.0))
        rate = np.asarray(module.cov_rate(np.zeros(3), a["S"], p))
    wanted = theorems.sigmoid_centred(a["S"], a["Q"], a["K"], a["V"])
    assert checks.residual(rate, wanted) < 1e-10
