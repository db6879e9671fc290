"""Definitions that nobody shipped: what is said of them, and that a wrong finding is seen."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import sympy as sp
from odd_flows import (
    ALL,
    attraction,
    cubic_pull,
    gaussian_weights,
    noisy_pull,
    repelling,
    slow_at_contact,
    strictly_before,
    symmetric_pair,
    two_heads_of_scores,
    two_roots,
    with_potential,
)

from derive.calculus.index.expressions import Expression
from derive.errors import DefinitionError, Refusal
from derive.methods.common.record import require_sound
from derive.methods.token_flow import (
    checks,
    clusters,
    growth_values,
    lone,
    symmetric_starts,
    tails,
)
from derive.methods.token_flow.closing import Closing
from derive.methods.token_flow.clusters import pushes
from derive.methods.token_flow.derivation import derive
from derive.methods.token_flow.energy import Gradient
from derive.methods.token_flow.equal_angles import RADIUS, RHO, EqualAngles
from derive.methods.token_flow.names import COUNT, Names
from derive.methods.token_flow.result import Absent
from derive.methods.token_flow.two_clusters import COSINE, TwoClusters
from derive.notation import average, bistochastic, dims, exp, integral, params, sphere, token_flow

d = dims("d: token dimension")
beta = params("beta: positive")
BETA = next(p for p in cubic_pull.params + gaussian_weights.params if p.name == "beta")


derived = cache(derive)


@pytest.mark.parametrize("definition", ALL, ids=lambda m: m.name)
def test_every_finding_of_an_unseen_definition_meets_its_text(definition):
    result = derived(definition)
    require_sound(result.steps, definition.name, result.facts)
    assert any(f.check is not None for f in result.facts)


def test_reduced_rates_are_those_of_tokens_worked_out_by_hand():
    rates = derived(cubic_pull).equal_angles
    n, r = COUNT, RHO
    by_hand = 2 * (1 - r) * ((n - 1) * r + 1) * (r**3 + 2 * r) / n
    assert sp.simplify(rates.cosine - by_hand) == 0


def test_angles_that_close_slowly_have_the_tail_of_their_leading_power():
    closing = derive(slow_at_contact).closing
    assert (closing.kind, closing.order, closing.exponent) == ("power", 2, 1)


def test_a_repelling_flow_is_said_to_leave_consensus():
    result = derive(repelling)
    assert result.closing.kind == "repelling"
    assert result.two_clusters.exponent is None


def test_a_free_radius_slows_angles_down():
    closing = derived(two_roots).closing
    # r' -> r^(-1/2), so that r ~ t^(2/3), and 1 - rho falls like r^-2
    assert closing.radius == (1, sp.Rational(-1, 2))
    assert closing.exponent == sp.Rational(4, 3)


def test_what_leaves_the_inner_products_is_named():
    rate = derive(two_heads_of_scores).gram_rate
    assert isinstance(rate, Absent) and "K[" in rate.why and "Q[" in rate.why


def test_a_mask_is_the_reason_why_equal_angles_are_left():
    found = derive(strictly_before).equal_angles
    assert isinstance(found, Absent) and "mask" in found.why


def test_two_matrices_that_turn_into_each_other_make_a_gradient():
    result = derive(symmetric_pair)
    assert result.gradient.weight is not None and result.gradient.energy is not None


def test_an_energy_of_each_token_is_found_beside_that_of_pairs():
    energy = derived(with_potential).gradient.energy
    assert energy is not None and len(energy.terms) == 2


def test_noise_that_has_directions_leaves_no_growth_rate_and_no_gram_system():
    result = derived(noisy_pull)
    assert isinstance(result.growth, Absent) and "directions" in result.growth.why
    assert "gram_rate" not in result.equations


# a wrong finding is seen: each check is broken once


@pytest.fixture(scope="module")
def softmax():
    return derived(gaussian_weights)


def test_a_wrong_velocity_is_seen(softmax):
    wrong = softmax.velocity.scaled(sp.Rational(101, 100))
    assert not checks.read(wrong, softmax.names, softmax.book).passed


def test_a_wrong_rate_of_inner_products_is_seen(softmax):
    rate = softmax.gram_rate
    for position, (c, f) in enumerate(rate.terms):
        others = [t for p, t in enumerate(rate.terms) if p != position]
        wrong = Expression(rate.free, tuple([*others, (-c, f)]))
        assert not checks.gram(wrong, softmax.names, softmax.book).passed


def test_wrong_reduced_rates_are_seen(softmax):
    right = softmax.equal_angles
    wrong = EqualAngles(right.cosine.subs(RHO, RHO + sp.Rational(1, 1000)), None)
    assert not checks.equal_angles(wrong, softmax.names).passed
    turned = TwoClusters(softmax.two_clusters.rate * (1 + COSINE / 1000), None)
    assert not checks.two_clusters(turned, softmax.names).passed


def test_a_wrong_tail_is_seen(softmax):
    right = softmax.closing
    wrong = replace(right, exponent=right.exponent * sp.Rational(21, 20))
    assert not tails.tail(wrong, softmax.equal_angles, softmax.names).passed
    wrong = replace(right, rate=right.rate * sp.Rational(21, 20))
    assert not tails.near_consensus(wrong, softmax.equal_angles, softmax.names).passed


def test_a_wrong_tail_with_a_radius_is_seen():
    result = derived(two_roots)
    wrong = Closing(2 / RADIUS**2, 1, "power", sp.Rational(2), (sp.Integer(1), sp.Integer(0)))
    assert not tails.tail(wrong, result.equal_angles, result.names).passed


def test_a_wrong_exponent_of_merging_is_seen(softmax):
    large, exponent = softmax.two_clusters.exponent
    wrong = replace(softmax.two_clusters, exponent=(large, exponent * sp.Rational(11, 10)))
    assert not checks.merging_exponent(wrong, softmax.names).passed


def test_a_wrong_energy_and_a_wrong_metric_are_seen(softmax):
    right = softmax.gradient
    doubled = Gradient(right.weight, right.weighted, right.energy.scaled(sp.Integer(2)))
    assert not checks.energy(doubled, softmax.names, softmax.book).passed
    plain = derived(attraction).gradient.weight
    assert not checks.closed(plain, softmax.names, softmax.book, True).passed


def test_no_gradient_is_not_said_of_one():
    result = derived(attraction)
    said = checks.closed(result.gradient.weight, result.names, result.book, False)
    assert not said.passed


def test_a_wrong_growth_rate_is_seen(softmax):
    wrong = replace(softmax.growth, push=softmax.growth.push * sp.Rational(1001, 1000))
    assert not growth_values.by_the_text(wrong, softmax.names).passed
    noisy = replace(softmax.growth, diffusion=sp.Rational(1, 1000))
    assert not growth_values.by_the_text(noisy, softmax.names).passed


# refusals


def _on_sphere(function):
    return token_flow(state="x[d]", on=sphere)(function)


def test_weights_of_both_signs_are_no_average():
    def signed(x, y):
        return average(y, x @ y)

    with pytest.raises(Refusal, match="both signs"):
        derive(_on_sphere(signed))


def test_weights_that_are_positive_on_the_sphere_alone_are_an_average_there():
    def shifted(x, y):
        return average(y, 2 + x @ y)

    result = derive(_on_sphere(shifted))
    require_sound(result.steps, "shifted", result.facts)

    with pytest.raises(Refusal, match="both signs"):
        derive(token_flow(state="x[d]")(shifted))


def test_a_bistochastic_weight_is_refused_with_its_reason():
    def coupled(x, y):
        return integral(y, bistochastic(exp(beta * (x @ y))))

    with pytest.raises(Refusal, match="iteration"):
        derive(_on_sphere(coupled))


def test_tokens_that_do_not_move_are_refused():
    def still(x, y):
        return integral(y, exp(beta * (x @ y))) - integral(y, exp(beta * (x @ y)))

    with pytest.raises(Refusal, match="vanishes"):
        derive(_on_sphere(still))


def test_a_key_outside_of_an_average_is_refused_with_its_place():
    def naked(x, y):
        return y

    with pytest.raises(DefinitionError, match="outside of average"):
        derive(_on_sphere(naked))


def test_where_tokens_live_is_a_word_of_the_notation():
    with pytest.raises(DefinitionError, match="neither sphere nor space"):
        token_flow(state="x[d]", on="sphere")(lambda x, y: y)


def test_values_of_the_text_are_not_those_of_the_calculus():
    """The two sides of the checks share no tokens by accident: another draw, another value."""
    first, second = (checks.instance(gaussian_weights, seed) for seed in (1, 2))
    assert not np.allclose(first.x, second.x)


def test_what_symmetry_keeps_is_said_where_it_holds(softmax):
    assert any("antipodal" in f for f in softmax.facts)
    ordered = derive(strictly_before).facts
    assert not any("one place" in f or "antipodal" in f for f in ordered)
    assert not any("antipodal" in f for f in derived(with_potential).facts)


def test_wrong_rates_on_the_circle_and_inside_clusters_are_seen(softmax):
    names, book = softmax.names, softmax.book
    wrong = pushes(softmax.velocity, names, book).scaled(sp.Rational(1001, 1000))
    assert not symmetric_starts.circle(wrong, names, book).passed
    slower = softmax.contraction.scaled(sp.Rational(999, 1000))
    assert not clusters.by_the_text(slower, names, book).passed


def test_copies_and_antipodal_pairs_are_compared_where_they_fail():
    """A mask tells copies apart, a potential does not commute with the inversion."""

    def looking_back(x, y, s, tau):
        return average(y, exp(beta * (x @ y)) * (tau <= s))

    assert not symmetric_starts.clusters(derive(_on_sphere(looking_back)).names).passed
    assert not symmetric_starts.antipodal(derived(with_potential).names).passed


def test_noise_leaves_no_findings_that_need_tokens_to_stay(softmax):
    """Tokens at one point, antipodal pairs and clusters are torn apart by noise of every token."""
    said = derived(noisy_pull).facts
    assert any("one point" in f for f in softmax.facts)
    for words in ("one place", "one point", "antipodal", "never falls", "equal angles"):
        assert not any(words in f for f in said), words


def test_a_rotation_must_leave_the_directions_of_the_noise():
    result = derived(noisy_pull)
    assert any("leaves B as it is" in f for f in result.facts)
    assert not checks.equivariant(noisy_pull, ()).passed


def test_an_array_that_a_rotation_turns_is_not_left_out():
    assert checks.equivariant(symmetric_pair, ("A",)).passed
    assert not checks.equivariant(symmetric_pair, ()).passed


def test_a_wrong_motion_of_tokens_at_one_point_is_seen():
    result = derived(with_potential)
    assert lone.by_the_text(result.motion, result.names, result.book).passed
    wrong = result.motion.scaled(sp.Rational(1001, 1000))
    assert not lone.by_the_text(wrong, result.names, result.book).passed
    assert not lone.resting_by_the_text(result.names).passed  # it is not said to rest


def test_every_symbol_of_a_finding_is_told():
    """What is no symbol of the definition or of the report's heading is said behind "where"."""
    for definition in (two_roots, with_potential, symmetric_pair, gaussian_weights):
        for fact in derive(definition).facts:
            used = set(re.findall(r"\b([GfrgJ]_[1-9]\d*)\b", fact))
            assert used <= set(re.findall(r"\b([GfrgJ]_\d+)(?:\[[a-z,]+\])? = ", fact)), fact


def test_tokens_that_a_matrix_turns_are_not_said_to_stay_in_a_subspace():
    said = {m.name: [f for f in derived(m).facts if f.kind == "subspace"] for m in ALL}
    assert said["symmetric_pair"] == [] and said["with_potential"] == []
    assert len(said["gaussian_weights"]) == 1
    turned = next(m for m in ALL if m.name == "symmetric_pair")
    assert not symmetric_starts.in_a_plane(Names(turned)).passed
