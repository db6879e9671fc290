"""Rules of the calculus and of the runtime, each with its typical ways of being wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy as sp

from derive.mutants.breaks import (
    Function,
    bent_twice,
    coefficient,
    costate_of,
    covariance_lost,
    end_of,
    ends_at,
    few,
    joint_twice,
    lost_pairing,
    negated,
    nothing_held,
    of_a_longer_step,
    one_less,
    other_end,
    scaled,
    shrunk_factor,
    times,
    twice_the_state,
    unframed,
    wide_noise,
    without_determinant,
    without_noise,
    wrong_weight,
)
from derive.notation.common.arrays import lift


@dataclass(frozen=True)
class Mutant:
    """`target` is module:function or module:Class.method, the module below derive; `broken` makes
    the wrong one of it.

    `model`: a registered name, or that of a definition in `derive.mutants.definitions`.  `note`:
    why a mutant may live, where it may.
    """

    rule: str
    how: str
    target: str
    broken: Callable[[Function], Function]
    model: str
    note: str = ""


MUTANTS = (
    Mutant("Isserlis", "a pairing of four or more is lost",
           "calculus.gaussian.pairings:pairings",
           lost_pairing, "linear_attention"),
    Mutant("Isserlis", "a symmetric tensor: one covariance",
           "calculus.gaussian.pairings:covariance",
           lambda f: lambda a, b: f(a, b)[:1], "shaped_attention"),
    Mutant("Gram contraction", "X X^T counts twice", "calculus.gaussian.expectation:contract_gram",
           lambda f: lambda e, r, g, w: f(e, r, g, 2 * w), "linear_attention"),
    Mutant("Taylor", "the second derivative counts twice", "calculus.limit.taylor:derivative_at",
           coefficient(sp.Integer(2), 2), "shaped_attention"),
    Mutant("Taylor", "the slope has the other sign", "calculus.limit.taylor:derivative_at",
           coefficient(sp.Integer(-1), 1), "shaped_attention"),
    Mutant("power counting", "one order of the series is cut", "calculus.limit.order:Law.up_to",
           one_less, "shaped_attention"),
    Mutant("Price", "off by one order", "calculus.gaussian.kinks:price",
           lambda f: lambda order: f(order + 1 if order == 1 else 1), "shaped_relu_mlp"),
    Mutant("kinks", "|x| counts twice", "calculus.limit.bends:bent", bent_twice,
           "shaped_relu_mlp"),
    Mutant("kinks", "the weight of a pre-activation is not found",
           "calculus.limit.bends:pre_activation", lambda f: lambda *a: None, "shaped_relu_mlp"),
    Mutant("masks", "what is masked counts", "calculus.limit.masks:weighted",
           lambda f: lambda patterns, others, array: f([lift(1)], others, array),
           "causal_shaped_attention"),
    Mutant("means over units", "the sum stays as it is", "calculus.limit.units:unit_means",
           lambda f: lambda expression, *a: expression, "centred_scores"),
    Mutant("means over units", "X less its mean counts twice",
           "calculus.limit.response:_without_mean", twice_the_state, "centred_scores"),
    Mutant("means over units", "products without the mean count as such with it",
           "methods.covariance_sde.unit_means:_own", lambda f: lambda factors: True,
           "centred_scores"),
    Mutant("means over units", "functions that read it as zero count as free of it",
           "calculus.limit.units:rests_on_means", lambda f: lambda factors: False,
           "centred_scores"),
    Mutant("Ito", "the second-order term of the projection is lost",
           "methods.covariance_sde.project:projected_drift",
           without_noise, "post_norm_shaped_attention"),
    Mutant("heads", "a sum over heads side by side counts twice",
           "calculus.index.joints:contract_joints", joint_twice, "concatenated_shaped_attention"),
    Mutant("random attention", "two heads count as one",
           "methods.covariance_sde.homogenise:averaged",
           lambda f: lambda e, law: f(e, law).scaled(sp.Rational(1, 2)),
           "homogenised_sphere_attention"),
    Mutant("random attention", "scores of normals, not of their frame",
           "calculus.limit.mixtures:_one_head", unframed, "homogenised_sphere_attention"),
    Mutant("runtime: means over normals", "nodes by 1.05",
           "runtime.common.normal_nodes:lattice", times(1.05), "homogenised_sphere_attention"),
    Mutant("step of the SDE", "the Wishart root's shift loses (m + 1)/4",
           "notation.layers.blocks:root_shift",
           lambda f: lambda law, token: f(law, token) + (token + 1) / sp.Integer(4),
           "shaped_attention"),
    Mutant("step control", "mixing_rate by 1/20", "methods.covariance_sde.step_control:mixing",
           scaled(sp.Rational(1, 20)), "shaped_attention"),
    Mutant("square", "a covariance beside means is lost", "calculus.gaussian.tilt:isserlis",
           covariance_lost, "linear_closure"),
    Mutant("tilt", "the determinant is lost", "calculus.gaussian.tilt:complete_square",
           without_determinant, "l2_closure",
           "a normalised weight divides by the same determinant: equal in value"),
    Mutant("tilt", "the determinant is lost, no normaliser",
           "calculus.gaussian.tilt:complete_square", without_determinant, "unnormalised_closure"),
    Mutant("transversality", "p(T) is twice the gradient",
           "methods.optimal_control.derivation:end_costate", ends_at(sp.Integer(2)),
           "ending_tracking"),
    Mutant("transversality", "p(T) has the other sign",
           "methods.optimal_control.derivation:end_costate", ends_at(-sp.Integer(1)),
           "ending_tracking"),
    Mutant("adjoint", "gradients have the other sign", "calculus.arrays.derivative:gradient",
           negated, "gaussian_tracking"),
    Mutant("explosion", "Feller's test off by one power",
           "methods.covariance_sde.one_dimension:_explosion",
           wide_noise, "shaped_attention"),
    Mutant("explosion", "the sign of the condition is lost",
           "methods.covariance_sde.one_dimension:_open_sign",
           lambda f: lambda scalar: -f(scalar), "linear_attention"),
    Mutant("what drops out", "every parameter is said to",
           "methods.covariance_sde.dropped:dimension_facts",
           nothing_held, "shaped_attention"),
    Mutant("rank", "noise is said to conserve it", "methods.gaussian_closure.derivation:_rank",
           lambda f: lambda noise: f(None if noise else True), "softmax_closure"),
    Mutant("transversality", "the end is said to be fixed",
           "methods.optimal_control.derivation:_end", other_end, "neural_ode_tracking"),
    Mutant("durations", "logarithms by 1.05", "methods.token_flow.durations:by_poles",
           times(1.05), "measure_to_measure"),
    Mutant("durations", "partial fractions by 1.05",
           "methods.token_flow.durations:by_exponentials", times(1.05), "measure_to_measure"),
    Mutant("runtime: durations", "logarithms by 1.05", "runtime.flows.manoeuvres:_log_share",
           times(1.05), "measure_to_measure"),
    Mutant("runtime: durations", "the inverse tangent by 1.05", "runtime.flows.manoeuvres:_area",
           times(1.05), "measure_to_measure"),
    Mutant("runtime: blocks", "the Wishart root by 1.05", "runtime.paths.blocks:root_shift",
           times(1.05), "shaped_attention"),
    Mutant("runtime: steps", "the width of a step of 1.05 h", "runtime.paths.stepping:width_dims",
           of_a_longer_step, "shaped_attention"),
    Mutant("runtime: normals", "by 1.05", "runtime.paths.normals:normals",
           times(1.05), "linear_attention"),
    Mutant("runtime: factor", "F' by .98", "runtime.closures.state:_factor_rate",
           shrunk_factor, "softmax_closure"),
    Mutant("runtime: cubature", "three nodes a direction",
           "runtime.closures.cubature_nodes:_hermite", few(3), "masked_softmax_closure"),
    Mutant("runtime: Fourier integral", "an eighth of the frequencies",
           "runtime.closures.quadrature:_frequencies",
           lambda f: lambda *a: f(*a[:-1], a[-1] // 8), "sigmoid_closure"),
    Mutant("runtime: collocation", "a weight by 1.02", "runtime.control.boundary_value:equations",
           wrong_weight, "ending_tracking"),
    Mutant("runtime: costate", "p' by 0.98", "runtime.control.extremal_system:problem",
           costate_of(0.98), "ending_tracking"),
    Mutant("runtime: end", "p(T) by 1.05",
           "runtime.control.extremal_system:problem", end_of(1.05), "ending_tracking"),
)  # fmt: skip
