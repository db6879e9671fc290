"""Kernels of flows with weights that few write pass their gate."""

from __future__ import annotations

import pytest
from odd_flows import beta, d, kappa, kinked_pull, recoiling

from derive.emit.token_flow.module import render
from derive.errors import DefinitionError
from derive.methods.token_flow.derivation import derive
from derive.notation import average, exp, matrices, relu, sphere, token_flow
from derive.registry import find, load
from derive.verify.common.compare import module_of
from derive.verify.token_flow.gate import gate

A = matrices(A=(d, d))


@token_flow(state="x[d]", on=sphere)
def relu_scores(x, y):
    return average(y, relu(x @ y))


@token_flow(state="x[d]", on=sphere)
def even_weights(x, y):
    return average(y, exp(beta * (x @ y)) + exp(-beta * (x @ y)))


@token_flow(state="x[d]", on=sphere)
def turned(x, y):
    return (A - A.T) @ x + average(y, exp(beta * (x @ y)))


@token_flow(state="x[d]", on=sphere)
def rational_weights(x, y):
    return average(y, 1 / (1 + kappa * (x @ y) ** 2))


OTHERS = [kinked_pull, recoiling]


@pytest.mark.parametrize(
    "definition", [relu_scores, even_weights, turned, rational_weights, *OTHERS]
)
def test_kernels_of_unusual_weights_pass_their_gate(definition):
    result = derive(definition)
    module = module_of(render(result, "here.py", "here.py"), "odd_flow")
    assert not [f for f in gate(result, module) if not f.error <= f.allowed]


@pytest.mark.parametrize("name", ["other", "degrees", "m_a"])
def test_names_of_kernels_arguments_are_taken(name, tmp_path):
    at = tmp_path / "named.py"
    at.write_text(
        '"""A pull."""\n\n'
        "from derive.notation import average, dims, exp, params, sphere, token_flow\n\n"
        f'd, {name} = dims("d: token dimension"), params("{name}: positive")\n\n\n'
        '@token_flow(state="x[d]", on=sphere)\n'
        "def named(x, y):\n"
        f"    return average(y, exp({name} * (x @ y)))\n"
    )
    with pytest.raises(DefinitionError, match="is taken"):
        load(find(str(at)))
