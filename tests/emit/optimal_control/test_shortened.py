"""What is shown of an optimality system has the values of what was derived, and is shorter."""

from __future__ import annotations

import numpy as np
import pytest

from derive.derivation import derived
from derive.emit.optimal_control import shortened as short
from derive.emit.optimal_control.module import equations
from derive.errors import CheckFailed
from derive.methods.optimal_control.instances import graph_value, relative
from derive.notation.common.arrays import visible
from derive.registry import registered

MODELS = [e for e in registered() if e.method == "optimal_control"]


def sphere():
    return derived(next(e for e in MODELS if e.name == "sphere_attention_tracking"))


@pytest.mark.parametrize("entry", MODELS, ids=lambda e: e.name)
def test_every_equation_that_is_shown_has_the_value_of_the_one_derived(entry):
    result = derived(entry)
    names = dict(result.algebra.names)
    shown, compared = short.shortened(result), 0
    assert result.algebra.names == names  # kernels are named by them
    for seed in (100, 101):
        at = short._lying(result.model, seed)
        for name, parts in shown.equations.items():
            for old, new in zip(result.equations[name], parts, strict=True):
                right = graph_value(result, old, at)
                if np.all(np.isfinite(right)):
                    assert relative(graph_value(shown, new, at), right) < 1e-10, name
                    compared += 1
                assert len(visible(new)) <= len(visible(old))
    assert compared >= 8


def test_on_spheres_what_the_extension_off_them_brings_is_gone():
    result = sphere()
    before, after = (
        "\n".join(w.text for w in equations(r).values()) for r in (result, short.shortened(result))
    )
    assert not any(word in after for word in ("x_norm", "x_unit", "sqrt"))
    assert len(before) > 2 * len(after) and len(after) < 900


def test_parts_that_are_equal_at_a_few_instances_alone_are_noticed(monkeypatch):
    found, right = [], short._close

    def lax(one, other):
        found.append(1)
        return right(one, other) or (one.shape == other.shape and len(found) % 7 == 0)

    monkeypatch.setattr(short, "_close", lax)
    with pytest.raises(CheckFailed, match="another value"):
        short.shortened(sphere())
