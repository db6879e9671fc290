"""Broken rules and terms are noticed by rungs that hold no theorem; the matrix says which."""

import importlib
from dataclasses import replace

import pytest
import sympy as sp

from derive.cli import main
from derive.methods.covariance_sde.derivation import derive
from derive.mutants.definitions import TEXTS
from derive.mutants.rules import MUTANTS
from derive.mutants.terms import of_closure
from derive.mutants.trial import entry_of, killer, table, tried
from derive.registry import find, load
from derive.verify.covariance_sde.mixing_draws import WITHIN, mixing_ratios


def position(rule):
    return next(k for k, m in enumerate(MUTANTS) if m.rule == rule)


@pytest.mark.parametrize(
    ("rule", "rung"),
    [
        ("Isserlis", "derivation"),
        ("square", "L1"),
        # quick: test_normals has what it breaks, and L5 is asked in test_terms_of_a_model
        pytest.param("runtime: normals", "L5", marks=pytest.mark.slow),
    ],
)
def test_a_broken_rule_is_killed_by_its_rung(rule, rung):
    assert killer(tried(position(rule))) == rung


def test_every_target_is_a_function_of_ours():
    for mutant in MUTANTS:
        place, _, name = mutant.target.partition(":")
        found = importlib.import_module(f"derive.{place}")
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found), mutant


def test_the_matrix_names_those_that_live():
    outcomes = [{"derivation": "refused"}] * len(MUTANTS)
    assert f"{len(MUTANTS)} of {len(MUTANTS)} mutants" in table(outcomes)
    outcomes[0] = {"derivation": "", "L1": "", "L3": ""}
    text = table(outcomes)
    assert f"{len(MUTANTS) - 1} of {len(MUTANTS)} mutants" in text
    assert f"- {MUTANTS[0].rule}, {MUTANTS[0].how}: lives, and no reason is known" in text


@pytest.mark.slow
def test_every_rung_is_run_where_it_is_asked_for():
    """A wrong end of the costate: the derivation's own check and the solver's end, nothing else."""
    found = tried(position("transversality"), every=True)
    assert {rung for rung, words in found.items() if words} == {"L1", "L5"}
    assert set(found) == {"derivation", "L1", "L3", "L2", "L5"}
    assert "nothing is run" in table([found], [MUTANTS[position("transversality")]], every=True)


@pytest.mark.parametrize("name", TEXTS)
def test_definitions_that_no_registered_model_stands_for_derive(name):
    model = load(entry_of(name))
    assert model.name == name


def test_a_rate_of_mixing_by_a_twentieth_or_none_is_noticed_by_draws():
    result = derive(load(find("linear_attention")))
    right = mixing_ratios(result)
    assert len(right) == 2 and all(0.75 < r < 1.25 for r in right.values())
    for factor in ("1/20", "0"):
        wrong = replace(result, mixing_rate=result.mixing_rate.scaled(sp.Rational(factor)))
        assert mixing_ratios(wrong)["mixing rate, drawn / derived"] > WITHIN


def test_terms_of_a_model_are_broken_against_every_rung(capsys):
    assert main(["mutate", "linear_attention"]) == 0
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if line.startswith("| d")]
    assert f"{len(rows)} of {len(rows)} mutants are killed" in said and len(rows) > 40
    # what keeps the shape of an equation is seen by the text alone
    assert "| drift | term 0 doubled | x | . |" in rows
    assert main(["mutate", "gaussian_tracking"]) == 2


def test_terms_of_a_closure_are_broken_too():
    from derive.methods.gaussian_closure.derivation import derive as close

    entry = find("softmax_closure")
    rows = list(of_closure(close(load(entry))))
    assert len(rows) > 20 and all(r.killed["L2"] for r in rows)
    assert any(r.killed["L4"] for r in rows)
