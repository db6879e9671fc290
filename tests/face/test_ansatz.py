"""A family of covariances: kept with the rates that the kernel has, or refused with what leaves."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from faces import equations

import derive
from derive.errors import Refusal, RequestError

SYMBOLS = {"v": 1.3, "r": 0.4}


def family(m: int, v: float = 1.3, r: float = 0.4) -> np.ndarray:
    return v * ((1 - r) * np.eye(m) + r)


@pytest.mark.parametrize(
    "name",
    [
        "shaped_attention",
        pytest.param("shaped_relu_mlp", marks=pytest.mark.slow),
        pytest.param("shaped_transformer", marks=pytest.mark.slow),
    ],
)
def test_the_rates_are_the_kernels_at_every_size(name: str) -> None:
    """One formula in m against drifts of 2, 3 and 5 tokens: of V_11 and of V_12."""
    rates = equations(name).drift.at(V=derive.equicorrelated)
    kernel = derive.load(name)
    params = {f: 0.3 + 0.1 * k for k, f in enumerate(kernel.Params._fields)}
    for m in (2, 3, 5):
        values = SYMBOLS | params | {"m": m}
        dv, dr = (
            float(e.subs({s: values[s.name] for s in e.free_symbols})) for e in (rates.v, rates.r)
        )
        drift = np.asarray(kernel.drift(family(m), kernel.Params(**params)))
        assert dv == pytest.approx(drift[0, 0], rel=1e-10)
        wanted = SYMBOLS["v"] * dr + SYMBOLS["r"] * dv  # d(v r)
        assert wanted == pytest.approx(drift[0, 1], rel=1e-10)
    assert "for every m" in rates.proof


def test_a_drift_that_leaves_the_family_is_refused_with_its_term() -> None:
    with pytest.raises(Refusal, match=r"leaves V\[a,b\].*causal\["):
        equations("causal_shaped_attention").drift.at(V=derive.equicorrelated)
    v = sp.Symbol("v", positive=True)
    with pytest.raises(Refusal, match=r"\(constant\) is no direction"):
        # a bent activation correlates what was uncorrelated
        equations("shaped_relu_mlp").drift.at(V=derive.Ansatz(identity=v))


def test_noise_is_no_rate_of_the_family() -> None:
    with pytest.raises(Refusal, match="F_1"):
        equations("shaped_attention").noise.at(V=derive.equicorrelated)


def test_what_is_no_rate_is_the_equation_with_the_family_put_in() -> None:
    eq = equations("shaped_attention")
    rate = eq.mixing_rate.at(V=derive.equicorrelated)
    assert "V" not in {t.name for t in rate.value.tensors()}
    entries = eq.mixing_rate.sympy(m=3)
    v, r = sp.Symbol("v", positive=True), sp.Symbol("r", real=True)
    at = {
        s: v if s.name[2] == s.name[3] else v * r for s in entries.free_symbols if s.name[0] == "V"
    }
    found = rate.sympy()
    there = {s: 3 for s in found.free_symbols if s.name == "m"}
    assert sp.simplify(found.subs(there) - entries.subs(at)) == 0


def test_requests_that_make_no_sense_are_told() -> None:
    drift = equations("shaped_attention").drift
    with pytest.raises(RequestError, match="W does not occur.*: V"):
        drift.at(W=derive.equicorrelated)
    with pytest.raises(RequestError, match="takes a family"):
        drift.at(V=2)
    with pytest.raises(RequestError, match="both have a symbol gamma"):
        drift.at(V=derive.Ansatz(identity=sp.Symbol("gamma")))
