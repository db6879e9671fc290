"""The record of a Sinkhorn closure holds the steps of its derivation, each with a sharp check."""

from __future__ import annotations

import odd_closures as odd
import pytest
import sympy as sp

from derive.calculus.written.meanings import expression_text
from derive.methods.gaussian_closure import coupling, coupling_steps
from derive.methods.gaussian_closure.derivation import derive
from derive.theory.sinkhorn_closure import sinkhorn_closure

NAMES = ["latent plan", "means", "block inverse", "marginals", "root", "cross-covariance"]


@pytest.mark.parametrize("model", [sinkhorn_closure, odd.cross_sinkhorn], ids=lambda m: m.name)
def test_the_steps_stand_in_order_and_pass(model) -> None:  # type: ignore[no-untyped-def]
    steps = [s for s in derive(model).steps if s.name.startswith("couple")]
    assert [s.name.removeprefix("couple: ") for s in steps] == [*NAMES, "uniqueness"]
    assert all(s.check is not None and s.check.passed for s in steps)
    assert "lemma, cited" in steps[-1].rule


def test_the_marginals_of_two_laws_have_their_own_factors() -> None:
    latent = next(s for s in derive(odd.cross_sinkhorn).steps if s.name == "couple: latent plan")
    assert expression_text(latent.results["T"]) == "F_key^T Ky^T Q F_S"
    one = next(s for s in derive(sinkhorn_closure).steps if s.name == "couple: latent plan")
    assert expression_text(one.results["T"]) == "F_S^T K^T Q F_S/eps"


def test_block_inverse_marginal_and_square_are_those_of_the_literature() -> None:
    assert expression_text(coupling.block_inverse()) == "D T C T^T D + D"
    assert expression_text(coupling.marginal_equation()[0]) == "D + D T T^T D - I"
    assert coupling.completed_square() == (sp.Rational(1, 2), sp.Rational(1, 4))
    s = sp.Symbol("s", positive=True)
    published = (sp.sqrt(1 + 4 * s**2) - 1) / (2 * s)
    assert sp.simplify(coupling.singular_value_map()(s) - published) == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("broken", "step"),
    [
        (lambda t: 1 / (sp.sqrt(1 + 4 * t) / 2 + sp.Rational(1, 2)) ** 2, "root"),
        (lambda t: 1 / (sp.sqrt(1 + 2 * t) / 2 + sp.Rational(1, 2)), "root"),
        (lambda t: 1 / (sp.sqrt(1 + 4 * t) / 2 + sp.Rational(51, 100)), "marginals"),
    ],
)
def test_a_wrong_root_is_caught(monkeypatch, broken, step) -> None:  # type: ignore[no-untyped-def]
    t = sp.Symbol("t", nonnegative=True)
    for module in (coupling, coupling_steps):
        monkeypatch.setattr(module, "spectral_root", lambda: sp.Lambda(t, broken(t)))
    steps = derive(sinkhorn_closure).steps
    check = next(s.check for s in steps if s.name == f"couple: {step}")
    assert check is not None and not check.passed
