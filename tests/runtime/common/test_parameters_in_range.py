"""Numbers that a definition does not allow are refused at the entry, whatever the method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import derive
from derive.methods.common.parameters import sample
from derive.notation import params

X0 = np.eye(3)


def test_a_flow_holds_its_parameters_to_their_ranges() -> None:
    flow = derive.load("sphere_attention")
    said = "beta = -1 is outside its range: positive"
    with pytest.raises(ValueError, match=said):
        flow.solve(X0, flow.Params(beta=-1.0), t1=1.0)
    with pytest.raises(ValueError, match=said):
        flow.solve(X0, flow.Params(beta=[1.0, -1.0]), t1=1.0)
    with pytest.raises(ValueError, match=said):
        flow.solve_clusters(np.eye(2), [0.5, 0.5], flow.Params(beta=-1.0), t1=1.0)


def test_a_closure_holds_its_parameters_to_their_ranges() -> None:
    closure = derive.load("sinkhorn_closure")
    wrong: dict[str, Any] = {n: np.eye(2) for n in closure.Params._fields} | {"eps": -1.0}
    with pytest.raises(ValueError, match="eps = -1 is outside its range: positive"):
        closure.solve(np.zeros(2), np.eye(2), closure.Params(**wrong), t1=1.0)


def test_a_time_is_told_without_what_it_is_in_other_models() -> None:
    flow = derive.load("sphere_attention")
    with pytest.raises(ValueError, match=r"^t1 = -1.0 must be a positive time$"):
        flow.solve(X0, flow.Params(beta=1.0), t1=-1.0)


def test_checks_draw_real_parameters_of_both_signs_and_of_order_one() -> None:
    parameter = params("c: real")
    rng = np.random.default_rng(0)
    found = np.array([sample(parameter, rng) for _ in range(200)])
    assert 60 < np.sum(found > 0) < 140
    assert np.min(np.abs(found)) >= 0.4 and np.max(np.abs(found)) <= 1.6
