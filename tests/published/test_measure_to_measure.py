"""What a split does is what its paper states (arXiv 2411.04551)."""

from __future__ import annotations

import sympy as sp

from derive.methods.token_flow.derivation import derive
from derive.methods.token_flow.manoeuvres import C_SPLIT, MEAN, Z
from derive.theory.measure_to_measure import measure_to_measure


def test_without_a_threshold_cosines_keep_their_signs():
    """<x, alpha>' = <m, alpha> (1 - <x, alpha>^2) for V = alpha alpha^T."""
    rate = derive(measure_to_measure).equations["split_rate"].subs(C_SPLIT, 0)
    assert sp.expand(rate - MEAN * (1 - Z**2)) == 0
