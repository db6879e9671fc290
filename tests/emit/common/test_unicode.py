"""In a terminal equations are written with the signs of mathematics, and mean the same."""

from __future__ import annotations

import io

import pytest

from derive.emit.common.unicode import with_signs
from derive.process import has_signs


@pytest.mark.parametrize(
    ("plain", "signs"),
    [
        ("gamma**2/(m*tau_0**2) * [ |H V H|^2 V/m + u d^T ]", "γ²/(m τ₀²) [ ‖H V H‖² V/m + u dᵀ ]"),
        ("V[a,c] M[b,d] + (c <-> d)", "V[a,c] M[b,d] + (c ↔ d)"),
        ("sqrt(2 - gamma**2) * F_2", "√(2 - γ²) * F₂"),
        ("V @ S * (part * part)", "V @ S * (part * part)"),  # entrywise products stay
        ("beta_bar and W_K stay", "beta_bar and W_K stay"),
        ("x**10 - 3.14*y", "x¹⁰ - 3.14 y"),
    ],
)
def test_signs_stand_for_words(plain, signs):
    assert with_signs(plain) == signs


def test_a_file_or_a_pipe_gets_plain_text():
    assert not has_signs(io.StringIO())
