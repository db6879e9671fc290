"""L0 sees a symbol that nothing declares and a number that is not exact, in every method that has
arrays of scalars."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sympy as sp

from derive.dispatch import method
from derive.notation.common.arrays import Array
from derive.registry import find, load
from derive.verify.common.wellformed import faults
from derive.verify.covariance_sde.definition import definition as of_sde
from derive.verify.gaussian_closure.definition import definition as of_closure

RUNGS = {"shaped_attention": of_sde, "sigmoid_closure": of_closure}


@pytest.fixture(scope="module", params=RUNGS)
def derived(request: Any) -> tuple[Any, Any]:
    model = load(find(request.param))
    return method(model.method).derive(model), RUNGS[request.param]


def test_a_definition_as_it_stands_is_well_formed(derived: tuple[Any, Any]) -> None:
    result, rung = derived
    assert rung(result).status == "passed" and rung(result).figures["nodes"] > 5


def test_a_dimension_that_is_not_declared_fails(derived: tuple[Any, Any]) -> None:
    result, rung = derived
    lost = replace(result, model=replace(result.model, dims=result.model.dims[1:]))
    found = rung(lost)
    assert found.failed and found.figures["undeclared"] == [str(result.model.dims[0])]


def test_a_number_that_is_not_exact_is_named() -> None:
    assert faults([Array("full", (), (sp.Integer(2),), sp.Float(0.5))], ()) == {
        "inexact": ["0.500000000000000"]
    }
