"""A solver that takes NumPy arrays names the pure function where it is transformed."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from derive.generated import gaussian_tracking, shaped_attention, softmax_closure

ONE = np.eye(2)


def simulated(x):
    params = shaped_attention.Params(x, 1.0)
    return shaped_attention.simulate(ONE, params, t1=0.1, paths=2, seed=0).V


def networked(x):
    params = shaped_attention.Params(0.3, 1.0)
    return shaped_attention.network(x * ONE, params, width=4, depth=1, paths=1, seed=0).V


def solved(x):
    return softmax_closure.solve(np.zeros(2), x * ONE, (ONE, ONE, ONE), t1=0.1).mean


def steered(x):
    d = dict.fromkeys(gaussian_tracking.Params._fields, ONE) | {"alpha": 1.0, "beta": 1.0}
    return gaussian_tracking.solve((x * ONE,), gaussian_tracking.Params(**d), T=1.0).cost


@pytest.mark.parametrize(
    ("call", "pure"),
    [
        (simulated, r"path\("),
        (networked, r"layer\("),
        (solved, r"flow\("),
        (steered, "hamiltonian"),
    ],
)
@pytest.mark.parametrize("transform", [jax.jit, jax.grad])
def test_a_solver_under_a_transformation_names_what_can_be_transformed(call, pure, transform):
    with pytest.raises(TypeError, match=pure):
        transform(call)(0.5)
