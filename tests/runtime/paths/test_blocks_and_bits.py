"""A path's bits depend neither on how many paths run beside it nor on where its block begins."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from derive.generated import shaped_attention as model

PARAMS = model.Params(0.5, 0.3)


@pytest.mark.slow  # quick: test_adding_paths_changes_no_earlier_path, beside the networks
@pytest.mark.parametrize("function", [model.network, model.reduced_network])
@pytest.mark.parametrize("m", [3, 8])
def test_adding_network_paths_changes_no_earlier_bits(function: Any, m: int) -> None:
    """Sizes on both sides of 4096 numbers, where XLA on CPU would change its sums."""
    request = {"width": 4 * m, "depth": 3, "seed": 1}
    V0 = 0.2 + 0.8 * np.eye(m)
    many = function(V0, PARAMS, paths=600, **request).V
    for paths in (16, 100):
        np.testing.assert_array_equal(function(V0, PARAMS, paths=paths, **request).V, many[:paths])
    later = function(V0, PARAMS, paths=50, first=500, **request).V
    np.testing.assert_array_equal(later, many[500:550])


@pytest.mark.skipif(
    "fusion_emitters=false" in os.environ.get("XLA_FLAGS", ""),
    reason="bits of XLA's defaults; test_default_code runs it by them",
)
@pytest.mark.parametrize("m", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_later_paths_have_the_bits_that_they_have_in_the_whole(m: int) -> None:
    """m = 12 is batched linear algebra, where sums over short vectors cross that bound."""
    V0 = 0.2 + 0.8 * np.eye(m)
    request = {"t1": 0.25, "dt": 1 / 32, "seed": 2}
    whole = model.simulate(V0, PARAMS, paths=600, block_size=1024, **request)
    for first, paths in ((0, 16), (437, 163)):
        some = model.simulate(V0, PARAMS, paths=paths, first=first, **request)
        np.testing.assert_array_equal(some.V, whole.V[first : first + paths])


@pytest.mark.parametrize(
    ("saves", "text"),
    [
        ([0, 1.5], "integers in"),
        ([], "list of layer numbers"),
        ([0, 5], "increasing"),
        (["a"], "real numbers"),
        ([0, float("nan")], "integers in"),
        (1, "at least 2"),
    ],
)
def test_layer_numbers_that_are_none_are_refused(saves: Any, text: str) -> None:
    """A time given for a layer number must not be cut to an integer in silence."""
    with pytest.raises(ValueError, match=text):
        model.reduced_network(
            np.eye(2), PARAMS, width=8, depth=4, paths=1, seed=0, saves=saves
        )  # fmt: skip


def test_bad_first_paths_and_devices_are_refused() -> None:
    request = {"t1": 0.25, "seed": 2, "paths": 10}
    with pytest.raises(ValueError, match="first must be an integer >= 0"):
        model.simulate(np.eye(2), PARAMS, first=-1, **request)
    with pytest.raises(ValueError, match="use another seed"):
        model.simulate(np.eye(2), PARAMS, first=2**32 - 9, **request)
    with pytest.raises(ValueError, match="devices is empty"):
        model.simulate(np.eye(2), PARAMS, devices=[], **request)
