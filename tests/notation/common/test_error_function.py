"""The error function of the text's second reading, which checks take complex steps of."""

from __future__ import annotations

from pathlib import Path

import mpmath
import numpy as np
import pytest

import derive
from derive.notation.common.words.elementwise import erf


@pytest.mark.parametrize("x", [0.3, 2.0, 3.5, 6.0, -7.0])
def test_a_complex_step_is_the_derivative_at_large_arguments_too(x: float) -> None:
    """A power series in double precision lost all digits beyond 5."""
    step = complex(erf(np.array([x + 1e-30j]))[0])
    assert step.real == pytest.approx(float(mpmath.erf(x)), rel=1e-14)
    assert step.imag / 1e-30 == pytest.approx(2 / np.sqrt(np.pi) * np.exp(-x * x), rel=1e-13)


PROBLEM = '''"""Samples that a layer moves."""
from derive.notation import dims, erf, gelu, optimal_control, params, problem, squared_norm

N, d = dims("N: samples", "d: width")
be = params("be: positive")


@optimal_control(state="x[N, d]", control="W[d, d]", data="G[d, d]")
def moved(x, W, G):
    """Features of a product of matrices, whose entries are not small."""
    rate = {word}(x @ G.T) @ W.T + x @ G
    return problem(dynamics=rate, running=be / 2 * squared_norm(W) + squared_norm(x))
'''


@pytest.mark.parametrize("word", ["erf", "gelu"])
def test_a_right_costate_of_error_functions_raises_no_alarm(word: str, tmp_path: Path) -> None:
    (tmp_path / "moved.py").write_text(PROBLEM.format(word=word))
    steps = derive.derive(str(tmp_path / "moved.py")).steps
    assert all(step.check is None or step.check.passed for step in steps)
