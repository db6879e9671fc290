"""What XLA compiles by its defaults is right too: other tests take its older generator of loops.

A few that hold whole programs of each kind, all operations, and the bits of an ensemble run once
more, in a process with the defaults.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
AGAIN = (
    "emit/covariance_sde/test_kernel.py::test_coefficients_are_the_published_ones[drift-3]",
    "runtime/common/test_lanes.py::test_over_lanes_is_vmap[3]",
    "runtime/paths/test_simulate.py::test_block_size_changes_no_bits[0.02]",
    "runtime/closures/test_solver.py::"
    "test_mean_and_covariance_equal_an_independent_integrator[softmax-explicit]",
    "runtime/control/test_extremals.py::test_collocation_is_of_order_six",
)
#: other programs of the same kinds
LATER = (
    "emit/covariance_sde/test_kernel.py::test_covariance_of_the_noise_is_the_diffusion[3]",
    "runtime/paths/test_blocks_and_bits.py::"
    "test_later_paths_have_the_bits_that_they_have_in_the_whole[3]",
    "runtime/paths/test_simulate.py::test_fixed_steps_have_the_mean_and_second_moments[options0]",
)


@pytest.mark.skipif(not os.environ.get("XLA_FLAGS"), reason="this run has the defaults itself")
@pytest.mark.parametrize("again", [AGAIN, pytest.param(LATER, marks=pytest.mark.slow)])
def test_programs_by_the_defaults_of_xla_are_right_too(again: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *again],
        env=os.environ | {"XLA_FLAGS": ""},
        cwd=TESTS,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"{len(again)} passed" in done.stdout
