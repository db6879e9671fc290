"""What `solve` refuses, with the argument's name and what to do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flow_models import Beta, Matrices, sa, softmax, sphere

from derive.runtime.flows.entry import solve

X = sphere(np.random.default_rng(18), 2, 4, 3)
LONG = X * np.where(np.arange(4) == 2, 1.001, 1.0)[:, None]
LAST = np.where(np.arange(4) == 3, np.nan, 1.0)[:, None] * X


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x0": LONG}, r"x0\[[01], 2\] has length 1.001, 0.001 off the unit sphere.*project=True"),
        ({"x0": X[0, :1]}, "x0 holds one token"),
        ({"x0": X[0, 0]}, "x0 must have shape"),
        ({"x0": X[0, :, :1] / abs(X[0, :, :1])}, "one entry a token"),
        ({"x0": LAST}, r"x0 has entries that are not finite: x0\[0, 3, 0\] = nan"),
        ({"x0": 0 * X, "project": True}, r"x0\[0, 0\] is zero and has no direction"),
        ({"x0": X + 0j}, "x0 is complex"),
        ({"t1": 0.0}, "t1 = 0.0 must be a positive time"),
        ({"t1": np.inf}, "t1 = inf"),
        ({"saves": [1.0, 0.5]}, "saves must be an increasing list"),
        ({"saves": [0.0, 3.0]}, "saves must lie in"),
        ({"rtol": 0.0}, "rtol = 0 must lie in"),
        ({"rtol": 1e-16}, "rtol = 1e-16 must lie in .*float64"),
        ({"rtol": 1e-7, "dtype": "float32"}, "rtol = 1e-07 must lie in .*float32.*rtol=1e-5"),
        ({"atol": 0.0}, "atol = 0 must be positive"),
        ({"max_steps": 0}, "max_steps must be a positive integer"),
        ({"dtype": "float16"}, "dtype must be"),
        ({"merged": -1.0}, "merged = -1"),
        ({"params": Beta(np.nan)}, "beta has entries that are not finite"),
        ({"params": Beta(np.ones(3))}, r"batch axes do not broadcast.*x0 \(2,\), beta \(3,\)"),
        ({"params": {"gamma": 1.0}}, "unknown: .*gamma"),
        ({"params": 3}, "pass Params"),
    ],
)
def test_bad_requests_are_refused_by_name(change: dict, text: str) -> None:
    given = {"x0": X, "params": Beta(1.0), "t1": 1.0} | change
    x0, params = given.pop("x0"), given.pop("params")
    with pytest.raises(ValueError, match=text):
        solve(sa, x0, params, **given)


def test_matrices_of_the_wrong_size_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="V must have shape .*d is 2 here and 3 in x0"):
        solve(softmax, X, Matrices(np.eye(3), np.eye(2)), t1=1.0)


def test_directions_are_taken_where_asked_for_and_rounding_is_none() -> None:
    out = solve(sa, 3 * X, Beta(1.0), t1=0.5, project=True)
    assert np.abs(out.x[:, 0] - X).max() < 1e-15
    single = X.astype(np.float32)
    rounded = solve(sa, single, Beta(1.0), t1=0.5).x
    assert np.abs(np.linalg.norm(rounded, axis=-1) - 1).max() < 5e-16
    with pytest.raises(ValueError, match="off the unit sphere"):
        solve(sa, single.astype(float), Beta(1.0), t1=0.5)


def test_values_under_a_transformation_are_told_of_the_pure_function() -> None:
    with pytest.raises(TypeError, match=r"flow\(x0, params, t1=, steps=\) can"):
        jax.grad(lambda b: jnp.sum(solve(sa, X, Beta(b), t1=1.0).x))(1.0)
