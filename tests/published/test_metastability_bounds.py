"""Derived bounds of caps are at least as sharp as the published ones.

Source: Geshkovski, Koubbi, Polyanskiy, Rigollet, Dynamic metastability in the self-attention model
(arXiv 2410.06833): tokens within caps {<x, w> >= 1 - e} stay within {<x, w> >= 1 - 2 e} up to T2,
and |x_i - x_j|^2 <= 2 exp(-lambda beta) from T1 on,

    T1 <= 2 n exp(8 e beta) + e n lambda beta^2 / (beta - 1),  T2 >= (e / n) exp((1 - alpha) beta),

alpha the largest cosine across caps of twice the width.
"""

from __future__ import annotations

import numpy as np
import pytest

import derive


@pytest.mark.parametrize("beta", [20.0, 40.0])
def test_caps_close_sooner_and_stay_longer_than_stated(beta):
    rng = np.random.default_rng(0)
    n, lam = 4, 0.3
    centres = np.array([[1.0, 0, 0], [np.cos(2.4), np.sin(2.4), 0]])
    x = np.repeat(centres, 2, axis=0) + 0.02 * rng.standard_normal((n, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    kernel = derive.load("sphere_attention")
    bound = kernel.metastability(x, kernel.Params(beta=beta), spread=float(np.exp(-lam * beta)))
    e = bound.width
    assert bound.closes <= 2 * n * np.exp(8 * e * beta) + e * n * lam * beta**2 / (beta - 1)
    assert bound.stays >= e / n * np.exp((1 - bound.across) * beta)
