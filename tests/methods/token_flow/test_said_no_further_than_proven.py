"""What is said of a flow holds for all its starts and parameters, or says for which."""

from __future__ import annotations

import pytest
import sympy as sp
from odd_flows import beta, d, kappa
from odd_flows import unit as unit_of_another_file

from derive.errors import DefinitionError, Refusal
from derive.methods.common.record import require_sound
from derive.methods.token_flow.derivation import derive
from derive.methods.token_flow.result import Absent
from derive.notation import (
    Rational,
    average,
    dims,
    exp,
    eye,
    integral,
    log,
    matrices,
    noise,
    params,
    relu,
    space,
    sphere,
    sqrt,
    sum_over,
    tanh,
    token_flow,
)

H = dims("H: heads")
lam = params("lam: real")
A, v, temperature = matrices(A=(d, d), v=(d,), temperature=(H,))
half = Rational(1, 2)


def unit(z):
    return z / sqrt(z @ z)


def on_sphere(function):
    return token_flow(state="x[d]", on=sphere)(function)


def in_space(function):
    return token_flow(state="x[d]", on=space)(function)


def sound(definition):
    result = derive(definition)
    require_sound(result.steps, definition.name, result.facts)
    return result


def test_no_merging_time_is_said_where_the_exponential_changes_sides():
    @on_sphere
    def threshold(x, y):
        return integral(y, 1 + exp(beta * (x @ y - half)))

    assert sound(threshold).two_clusters.exponent is None


def test_no_merging_time_is_said_where_clusters_part_from_some_starts():
    @on_sphere
    def parts_below(x, y):
        return integral(y, (x @ y - Rational(1, 8)) * exp(beta * (x @ y)))

    @on_sphere
    def stays_at_right_angles(x, y):
        return average((x @ y) * y, exp(beta * (x @ y)))

    for definition in (parts_below, stays_at_right_angles):
        result = sound(definition)
        assert result.two_clusters.exponent is None
        assert any("where rho goes to 1" in f for f in result.facts)


def test_no_merging_time_is_said_where_the_sign_is_a_parameters():
    @on_sphere
    def of_either_sign(x, y):
        return lam * integral(y, exp(beta * (x @ y)))

    assert sound(of_either_sign).two_clusters.exponent is None


def test_an_energy_of_negative_weights_is_that_of_positive_ones():
    @on_sphere
    def negative(x, y):
        return average(y, -exp(beta * (x @ y)))

    result = sound(negative)
    assert result.gradient.positive and any(f.endswith("E never falls") for f in result.facts)


def test_an_energy_that_may_fall_says_when_it_does_not():
    @on_sphere
    def gated(x, y):
        return tanh(integral(x @ y, 1)) * integral(y, exp(beta * (x @ y)))

    assert any("where every g[a] is positive" in f for f in sound(gated).facts)


@pytest.mark.parametrize("power", [0, 1])
def test_no_tail_is_said_where_the_radius_settles(power):
    @in_space
    def damped(x, y):
        return average(unit(y), exp(beta * (unit(x) @ unit(y)))) - (x @ x) ** power * x

    result = sound(damped)
    assert isinstance(result.closing, Absent) and "not seen to be positive" in result.closing.why


def test_a_kink_leaves_the_growth_rate_out_and_the_rest_in():
    @on_sphere
    def relu_scores(x, y):
        return average(y, relu(x @ y))

    result = sound(relu_scores)
    assert isinstance(result.growth, Absent) and "kink" in result.growth.why
    assert not isinstance(result.equal_angles, Absent)


def test_a_distance_as_weight_has_no_series_where_tokens_meet():
    @on_sphere
    def distance(x, y):
        return integral(y - x, sqrt((x - y) @ (x - y)))

    assert isinstance(sound(distance).closing, Absent)


def test_the_mean_of_a_constant_weight_is_one():
    @on_sphere
    def sum_of_two(x, y):
        return average(y, 1 + exp(beta * (x @ y)))

    assert not isinstance(sound(sum_of_two).growth, Absent)


def test_growth_of_a_direction_keeps_its_sign_where_the_mean_points_away():
    @on_sphere
    def away(x, y):
        return unit(average(y, exp(-beta * (x @ y))))

    assert sound(away).growth.push.has(sp.Abs)


def test_a_common_turn_leaves_the_inner_products_closed():
    @on_sphere
    def turned(x, y):
        return (A - A.T) @ x + average(y, exp(beta * (x @ y)))

    result = sound(turned)
    assert "gram_rate" in result.equations and isinstance(result.contraction, Absent)


def test_a_bias_that_cancels_leaves_equal_angles_in_any_dimension():
    @on_sphere
    def biased_query(x, y):
        return average(y, exp(beta * (x @ y) + v @ x))

    assert not isinstance(sound(biased_query).equal_angles, Absent)


def test_averages_that_share_one_normaliser_of_two_are_read():
    @on_sphere
    def triple(x, y):
        a, b = average(y, exp(beta * (x @ y))), average(y, exp(-kappa * (x @ y)))
        return (a @ b) * a - (x @ a) * b

    sound(triple)


def test_parameters_stand_between_functions():
    @on_sphere
    def rational_weights(x, y):
        return average(y, 1 / (1 + kappa * (x @ y) ** 2))

    @on_sphere
    def power(x, y):
        return integral(y, exp(beta * log(2 + x @ y)))

    sound(rational_weights)
    sound(power)


def test_a_power_that_is_a_parameter_is_refused_with_what_to_write():
    @on_sphere
    def power(x, y):
        return integral(y, (2 + x @ y) ** beta)

    with pytest.raises(Refusal, match="exp"):
        derive(power)


def test_what_was_not_found_is_not_denied():
    @on_sphere
    def temperatures(x, y):
        return sum_over(H, lambda h: average(y, exp(temperature[h] * (x @ y))))

    @on_sphere
    def same_noise(x, y):
        return integral(y, x @ y) + noise(sqrt(v @ v) * eye(d))

    assert any("not seen to be preserved" in f for f in sound(temperatures).facts)
    assert "not seen" in sound(same_noise).growth.why


def test_a_velocity_that_is_infinite_at_contact_is_refused():
    @on_sphere
    def coulomb(x, y):
        return integral(x - y, 1 / sqrt((x - y) @ (x - y)))

    @on_sphere
    def before(x, y, s, tau):
        return average(y, exp(beta * (x @ y)) * (tau < s))

    for definition in (coulomb, before):
        with pytest.raises(Refusal, match="infinite or no number"):
            derive(definition)


def test_a_velocity_along_the_tokens_themselves_moves_none_on_the_sphere():
    @on_sphere
    def radial(x, y):
        return integral(x, exp(x @ y))

    with pytest.raises(Refusal, match="vanishes"):
        derive(radial)


@pytest.mark.parametrize("name", ["g", "mu", "r", "t", "k", "E", "M_1"])
def test_a_parameter_does_not_bear_a_name_of_the_equations(name, monkeypatch):
    monkeypatch.setitem(globals(), "other", params(f"{name}: positive"))
    with pytest.raises(DefinitionError, match=f"{name} is taken"):

        @on_sphere
        def named(x, y):
            return average(y, exp(globals()["other"] * (x @ y)))


def test_the_dimension_of_tokens_is_not_called_as_their_number(monkeypatch):
    monkeypatch.setitem(globals(), "n", dims("n: token dimension"))
    with pytest.raises(DefinitionError, match="n is taken"):

        @token_flow(state="x[n]", on=sphere)
        def named(x, y):
            return average(y, exp(beta * (x @ y)))


def test_a_helper_of_another_file_is_read_as_the_texts_own():
    @on_sphere
    def borrowed(x, y):
        return unit_of_another_file(average(y, exp(beta * (x @ y))))

    sound(borrowed)
