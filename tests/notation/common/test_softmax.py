"""softmax takes its axis by number, in the derivation and on plain arrays."""

from __future__ import annotations

import numpy as np
import pytest

from derive.errors import DefinitionError
from derive.notation import dims, gaussian, softmax
from derive.notation.common.numeric import vocabulary


def test_the_axis_is_that_of_the_values() -> None:
    X = np.random.default_rng(0).standard_normal((3, 4))
    value = vocabulary(gaussian)["softmax"]
    for axis in (0, 1, -1, -2):
        np.testing.assert_allclose(value(X, axis=axis).sum(axis), 1, rtol=1e-14)
        assert np.array_equal(value(X, axis=axis), softmax(X, axis=axis))
    assert np.array_equal(value(X), value(X, 1))


def test_a_graph_of_columns_is_that_of_rows_turned() -> None:
    m, n = dims("m: rows", "n: columns")
    X = gaussian(m, n)
    for rows in (softmax(X, axis=-1), softmax(X, 1), softmax(X)):
        assert (rows.op, rows.data, rows.args[0].shape) == ("composite", "softmax", (m, n))
    columns = softmax(X, axis=0)
    (turned,) = columns.args
    assert (columns.op, columns.shape) == ("transpose", (m, n))
    assert (turned.op, turned.data, turned.args[0].shape) == ("composite", "softmax", (n, m))


@pytest.mark.parametrize("axis", [2, -3, 0.5, None])
def test_an_axis_that_is_not_there_is_named(axis: object) -> None:
    m, n = dims("m: rows", "n: columns")
    with pytest.raises(DefinitionError, match=f"softmax along axis {axis}"):
        softmax(gaussian(m, n), axis=axis)
