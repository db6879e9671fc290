"""Broken rules are noticed by rungs that hold no theorem; the matrix says which."""

import importlib

import pytest

from derive.verify.rule_mutants import MUTANTS, killer, table, tried


def position(rule):
    return next(k for k, m in enumerate(MUTANTS) if m.rule == rule)


@pytest.mark.parametrize(
    ("rule", "rung"),
    [("Isserlis", "derivation"), ("square", "L1"), ("runtime: normals", "L5")],
)
def test_a_broken_rule_is_killed_by_its_rung(rule, rung):
    assert killer(tried(position(rule))) == rung


def test_every_target_is_a_function_of_ours():
    for mutant in MUTANTS:
        place, _, name = mutant.target.partition(":")
        found = importlib.import_module(place)
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
