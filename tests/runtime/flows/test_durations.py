"""Closed forms of durations: every branch by quadrature, arrays of their caller's kind."""

from __future__ import annotations

import jax
import mpmath
import numpy as np
import pytest

from derive.runtime.flows.manoeuvres import filled, time_by_roots, time_of_exponentials, vectors


def pull(u0, u1, k, C, h):
    return time_of_exponentials((1, 0, 1), (-h - k, 2 * C, k - h), u0, u1)


def integral(u0, u1, k, C, h):
    with mpmath.workdps(25):
        rate = lambda u: 1 / (k * mpmath.tanh(u) + C * mpmath.sech(u) - h)  # noqa: E731
        return float(mpmath.quad(rate, mpmath.linspace(u0, u1, 7)))


OPEN = {
    "real roots outside": (-0.5, 1.5, 0.6, 0.7, 0.2),
    "C negative": (1.5, 2.5, 0.9, -0.4, 0.1),
    "between the roots": (-0.5, 0.5, 0.2, 0.7, 0.3),
    "complex roots": (-2.0, 2.0, 0.6, 0.5, -1.3),
    "complex roots, angle beyond a right one": (-3.0, 3.0, 0.6, -0.8, -1.05),
    "all but a double root": (-0.4, 1.2, 0.6, 0.8, -1 - 1e-13),
    "a double root": (-0.4, 1.2, 0.6, 0.8, -1.0),
    "a root at zero": (-1.2, 0.2, -0.5, 0.7, 0.5),
    "a root at infinity": (-0.2, 1.2, 0.5, 0.7, 0.5),
    "all but a root at infinity": (-0.2, 1.2, 0.5, 0.7, 0.5 - 1e-14),
    "near roots at zero, C negative": (0.0, 1.0, 0.5, -0.3, -0.45),
    "to its own centre": (0.5, 1.5, 1.0, 0.0, 0.2),
    "backwards": (1.0, -0.5, 0.6, 0.7, 0.0),
}


@pytest.mark.parametrize("case", OPEN)
def test_a_way_through_an_open_gate_takes_the_integral_of_its_rate(case):
    assert float(pull(*OPEN[case])) == pytest.approx(integral(*OPEN[case]), rel=1e-11)


@pytest.mark.parametrize(
    "case",
    [
        (-1.5, 1.5, 0.6, 0.7, 0.5),  # closed where it starts
        (-1.0, 3.0, -0.6, 0.7, 0.1),  # closed where it ends
        (-3.0, 3.0, -0.1, -0.9, -0.5),  # closed on the way, open at both ends
        (-1.0, 1.0, 0.6, 0.7, 0.95),  # never open
    ],
)
def test_a_gate_that_is_closed_on_the_way_is_passed_never(case):
    assert np.isinf(pull(*case))


def test_where_no_digits_are_left_there_is_no_number():
    assert np.isnan(pull(-1.0, 1.0, 1.0, 0.0, -1.0))


def test_no_way_takes_no_time():
    assert pull(0.3, 0.3, 0.6, 0.7, 0.9) == 0 or pull(0.3, 0.3, 0.6, 0.7, 0.2) == 0
    assert time_by_roots(((1.0, 0.2),), 0.5, 0.5) == 0


def test_a_root_between_the_ends_is_passed_never():
    assert np.isinf(time_by_roots(((1.0, 0.2), (0.5, -1.0)), 0.1, 0.5))
    assert time_by_roots(((1.0, 0.2),), 0.3, 0.5) == pytest.approx(np.log(3))


def test_numpy_gives_numpy_in_double_precision_and_jax_stays_under_jit():
    values = [np.asarray(v) for v in OPEN["real roots outside"]]
    found = pull(*values)
    assert not isinstance(found, jax.Array)
    assert np.asarray(found).dtype == np.float64
    with jax.enable_x64(True):
        assert float(jax.jit(pull)(*values)) == pytest.approx(float(found), rel=1e-13)
    made = filled((2, 3), np.ones(3)[None], np.ones(3))
    assert isinstance(made, np.ndarray)
    assert made.dtype == np.float64


def test_directions_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"omega \(3,\), z \(2,\)"):
        vectors(omega=np.ones(3), z=np.ones(2))
    with pytest.raises(ValueError, match=r"alpha \(2, 3\)"):
        vectors(alpha=np.ones((2, 3)))
    (made,) = vectors(alpha=[1, 0, 0])
    assert made.dtype == float
