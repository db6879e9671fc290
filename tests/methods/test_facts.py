"""Every fact in words has a check, and a fact that is wrong does not pass it."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import odd_closures
import odd_layers
import pytest
import sympy as sp
from derivations import derivation

from derive.errors import CheckFailed
from derive.methods.common import printed
from derive.methods.common.record import Check, Fact, Step, all_facts, merged, require_sound
from derive.methods.covariance_sde import explosion_checks, width_facts
from derive.methods.covariance_sde import facts as sde_facts
from derive.methods.covariance_sde.block import laws
from derive.methods.covariance_sde.clock_checks import BlockMoments
from derive.methods.covariance_sde.derivation import derive
from derive.methods.covariance_sde.one_dimension import scalars
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.methods.gaussian_closure import facts as closure_facts
from derive.methods.optimal_control import checks
from derive.methods.optimal_control import facts as control_facts
from derive.registry import entries, load, registered
from derive.verify.common.facts import facts as facts_rung

#: derived in about a second each; the rest is marked slow
QUICK = (
    "linear_attention",
    "relu_attention",
    "softmax_closure",
    "masked_softmax_closure",
    "sinkhorn_closure",
    "gaussian_tracking",
    "large_time_resnet",
    "sphere_attention_tracking",
    "sparse_neural_ode",
)
NAMES = [e.name for e in registered()]
#: why a fact may have no check: what the registered models and those below say
NOT_REACHED = ("reach",)
#: kinds that may say that nothing is found, which is compared with nothing
NOT_FOUND = ("equivariance", "equal angles", "closing", "energy", "growth", "limit object")


UNSEEN = {
    **{n: odd_layers for n in ("with_bias", "gram_response", "plain_branch", "mixed_tokens")},
    **{
        n: odd_closures
        for n in ("noisy", "cross", "differential", "quadratic_in_both", "key_penalised")
    },
}


@functools.cache
def of(name: str) -> Any:
    return unseen(getattr(UNSEEN[name], name)) if name in UNSEEN else derivation(name)


def unseen(model: Any) -> Any:
    from derive.dispatch import method

    return method(model.method).derive(model)


def require_checked(result: Any) -> tuple[Fact, ...]:
    found = all_facts(result.steps, result.facts)
    assert found
    for fact in found:
        assert isinstance(fact, Fact), f"no check: {fact}"
        if fact.check is None:
            absent = fact.kind in NOT_FOUND and (" not " in fact or "no " in fact)
            assert (fact.kind in NOT_REACHED or absent) and fact.unreached, fact
        else:
            assert np.isfinite(fact.check.residual) and fact.check.passed, (fact, fact.check)
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in NAMES]
)
def test_every_fact_of_every_model_is_compared_and_holds(name: str) -> None:
    result = of(name)
    require_checked(result)
    require_sound(result.steps, name, result.facts)
    rung = facts_rung(result)
    assert rung.status == "passed" and rung.figures


@pytest.mark.parametrize("name", list(UNSEEN))
def test_no_false_alarm_on_definitions_of_no_page(name: str) -> None:
    require_checked(of(name))


def test_a_fact_without_a_check_is_refused() -> None:
    with pytest.raises(ValueError, match="a fact needs a check"):
        Fact("the limit is beautiful", "beauty", None)
    with pytest.raises(CheckFailed, match="does not check it"):
        require_sound((), "a model", ("the limit is beautiful",))  # type: ignore[arg-type]
    step = Step("look", "by eye", facts=("it is so",))  # type: ignore[arg-type]
    with pytest.raises(CheckFailed, match="does not check it"):
        require_sound((step,), "a model")
    good = of("linear_attention")
    said = (*good.facts, "the limit is beautiful")
    rung = facts_rung(replace(good, facts=said))
    assert rung.failed and rung.figures["without a check"] == ["the limit is beautiful"]


def test_words_that_no_check_knows_are_refused() -> None:
    result, block = of("linear_attention"), of("linear_attention").blocks[0]
    with pytest.raises(AssertionError, match="no check is known"):
        sde_facts.of_block(("it is stable",), moments(result), block.trace)
    with pytest.raises(AssertionError, match="no check is known"):
        control_facts.facts(("it is stable",), of("large_time_resnet"), {})


def test_a_fact_said_of_two_blocks_keeps_its_worst_check() -> None:
    low, high = (Fact("one", "k", Check("c", r, 1.0)) for r in (0.1, 0.7))
    (both,) = merged((low, high))
    assert both.check is not None and both.check.residual == 0.7


def moments(result: CovarianceSDE) -> BlockMoments:
    (block,) = result.blocks
    (step,) = [s for s in block.steps if s.name == "average"]
    drift, diffusion = step.results.values()
    return BlockMoments(block.law, drift, diffusion)


def block_fact(name: str, words: str) -> Fact:
    result = of(name)
    return sde_facts.of_block((words,), moments(result), result.blocks[0].trace)[0]


def said(name: str, part: str) -> Fact:
    (found,) = [f for f in all_facts(of(name).steps, of(name).facts) if part in f]
    return found


def changed(name: str, part: str, *swaps: tuple[str, str]) -> str:
    words = str(said(name, part))
    for old, new in swaps:
        assert old in words, (words, old)
        words = words.replace(old, new)
    return words


def scalar(name: str, symbol: str, *swaps: tuple[str, str]) -> Fact:
    result = of(name)
    words = changed(name, f": d{symbol}", *swaps)
    (one,) = [s for s in scalars(result.drift, result.diffusion) if s.kind == symbol]
    return Fact(
        words, "scalar", explosion_checks.scalar(words, one, result.drift, result.diffusion)
    )


def closure(name: str, part: str, *swaps: tuple[str, str]) -> Fact:
    result, words = of(name), changed(name, part, *swaps)
    if "exact" in part:
        return closure_facts.exactness((words,), result)[0]
    if "rank" in part:
        return closure_facts.rank(words, result)
    return closure_facts.cubature(words, result)


def control(name: str, words: str, **other: Any) -> Fact:
    result = replace(of(name), **other)
    return control_facts.facts((words,), result, checks.all_checks(result))[0]


def negated(result: Any) -> dict[str, Any]:
    g = result.algebra
    wrong = tuple(g.scale(-1, a) for a in result.equations["control_law"])
    return dict(result.equations) | {"control_law": wrong}


ONE = "one layer moves V by order "
WRONG: dict[str, Callable[[], Fact]] = {
    "Feller flipped": lambda: scalar(
        "with_bias", "v", ("does not explode", "explodes in finite time")
    ),
    "Feller flipped, a condition": lambda: scalar("linear_attention", "v", (" > 0", " < 0")),
    "Feller without its condition": lambda: scalar(
        "linear_attention", "v", (" iff 1 - 2*gamma**2 > 0", "")
    ),
    "Feller at another threshold": lambda: scalar(
        "linear_attention", "v", ("iff 1 - 2*gamma**2", "iff 1 - gamma**2/2")
    ),
    "an ODE that explodes": lambda: scalar(
        "relu_attention", "v", ("explodes in finite time", "does not explode")
    ),
    "a drift with another exponent": lambda: scalar("linear_attention", "v", ("v**3", "v**2")),
    "a noise by one percent": lambda: scalar(
        "linear_attention", "v", ("sqrt(2)*gamma", "1.01*sqrt(2)*gamma")
    ),
    "a correlation's drift": lambda: scalar("plain_branch", "rho", ("rho**2", "rho")),
    "the order of a move": lambda: block_fact(
        "linear_attention", f"{ONE}n^(-1/4), with mean of order 1/n: an SDE on the clock depth / n"
    ),
    "the order of a mean": lambda: block_fact(
        "linear_attention", f"{ONE}n^(-1/2), with mean of order n^(-3/2): an SDE on the clock "
        "depth / n"
    ),
    "an SDE that is an ODE": lambda: block_fact(
        "relu_attention", f"{ONE}n^(-1/4), with mean of order n^(-1/2): an SDE on the clock depth "
        "/ n^(1/2)"
    ),
    "an ODE that is an SDE": lambda: block_fact(
        "linear_attention", f"{ONE}1/n, with mean of order 1/n: an ODE (its noise vanishes) on "
        "the clock depth / n"
    ),
    "another clock": lambda: block_fact(
        "linear_attention", f"{ONE}n^(-1/2), with mean of order 1/n: an SDE on the clock depth / "
        "n^(1/2)"
    ),
    "a parameter that stays": lambda: block_fact(
        "linear_attention", "tau_0 drops out of the limit: what it scales is too small to move V "
        "(subcritical)"
    ),
    "a parameter that does not cancel": lambda: block_fact(
        "linear_attention", "gamma drops out of the limit: mean and covariance of one layer are "
        "the same at all its values"
    ),
    "a weight that is loud": lambda: block_fact(
        "linear_attention", "W_V fluctuates too little to count on the clock depth / n"
    ),
    "a layer that moves": lambda: block_fact(
        "linear_attention", "it moves V too little to count on the clock depth / n (subcritical)"
    ),
    "exactness": lambda: closure("masked_softmax_closure", "not exact", ("not exact", "exact")),
    "inexactness": lambda: closure("softmax_closure", "exact: ", ("exact: ", "not exact: ")),
    "the rank": lambda: closure(
        "softmax_closure", "the rank of S is", ("the rank of S is conserved", "not conserved")
    ),
    "what a cubature sees": lambda: closure(
        "masked_softmax_closure", "the law of Q x", ("of Q x", "of K x")
    ),
    "convexity": lambda: control(
        "large_time_resnet", "control law: H_u = 0 solved for the control",
        equations=negated(of("large_time_resnet")),
    ),
    "a quadratic": lambda: control(
        "large_time_resnet", "no closed control law: H is not quadratic in the control"
    ),
    "a free end": lambda: control("large_time_resnet", "fixed end: p(T) is free"),
    "a terminal cost": lambda: control(
        "large_time_resnet", "free end, no terminal cost: p(T) = 0"
    ),
    "no terminal cost": lambda: control(
        "gaussian_tracking", "free end: p(T) is the gradient of the terminal cost"
    ),
    "a discount": lambda: control("large_time_resnet", "discount 1/7: p' = -H_x + 1/7 p"),
    "a sphere": lambda: control(
        "gaussian_tracking", "S on the sphere: x -> x/|x|, p -> |x| P_x p in H",
        model=replace(
            of("gaussian_tracking").model,
            states=tuple(replace(s, kind="sphere") for s in of("gaussian_tracking").model.states),
        ),
    ),
    "a constant": lambda: control(
        "large_time_resnet", "x constant in time: a state with x' = 0 and a free first value"
    ),
    "a closure that is not exact": lambda: control(
        "gaussian_tracking", "bilinear_softmax_closure: projected closure; the velocity is not "
        "affine"
    ),
    "a mean that moves the covariance": lambda: control(
        "gaussian_tracking", "bilinear_softmax_closure: the mean stays zero, m' = 0 at m = 0",
        closures=(moving(),),
    ),
}  # fmt: skip


def moving() -> Any:
    """A closure whose mean leaves zero, under the name of another."""
    found = unseen(odd_closures.feed_forward)
    return replace(found, model=replace(found.model, name="bilinear_softmax_closure"))


@pytest.mark.parametrize("kind", list(WRONG))
def test_a_wrong_fact_does_not_pass(kind: str) -> None:
    fact = WRONG[kind]()
    assert fact.check is not None
    assert not fact.check.passed, (fact, fact.check)
    # not by a hair: the figure is twice its tolerance at least
    assert not fact.check.residual < 2 * fact.check.tolerance, fact.check
    with pytest.raises(CheckFailed, match="what it says"):
        require_sound((), "a model", (fact,))


def test_a_parity_with_one_sign_missing_does_not_pass() -> None:
    traced = of("linear_attention").blocks[0].trace
    law, _ = laws(traced)
    words = "the increment is unchanged under sqrt(n) -> -sqrt(n) with W_Q -> -W_Q, W_V -> -W_V"
    good = width_facts.parity(words, traced, law).check
    assert good is not None and good.passed
    for wrong in (words.replace(", W_V -> -W_V", ""), words.partition(" with")[0]):
        found = width_facts.parity(wrong, traced, law).check
        assert found is not None and found.residual > 1e-3


def test_what_does_not_enter_at_the_next_order_is_seen() -> None:
    from derive.methods.covariance_sde.layer_moments import LayerMoments

    layer = LayerMoments(of("linear_attention").blocks[0].trace, 4)
    parts = layer.second()
    words = "n_k enters at order 1/n, though not the limit"
    assert width_facts.enters(words, layer.law, parts).check.passed  # type: ignore[union-attr]
    limits = tuple(layer.mean(k)[0] for k in (0,))
    found = width_facts.enters(words, layer.law, limits).check
    assert found is not None and not found.passed


@pytest.mark.parametrize(
    ("power", "says"),
    [(0, "does not explode"), (1, "explodes in finite time with positive probability")],
)
def test_feller_sees_one_power_of_the_noise(power: int, says: str) -> None:
    """dv = v^3 dt + v^(2 - power / 2) dB: at v^2 iff 2 > 1, at v^(5/2) never."""
    import sympy as sp

    x = np.geomspace(1, 1e5, 120)
    slope = explosion_checks.feller_slope(x, x**3, x ** (5 - power))
    assert (slope < -0.5) == ("positive" in says), slope
    from derive.methods.covariance_sde.one_dimension import _explosion

    v = sp.Symbol("v", positive=True)
    assert says in _explosion(v**3, v ** (5 - power), v)


def test_the_rung_at_finite_widths_finds_a_parameter_that_was_lost() -> None:
    """The limit at one value of tau_0 for all: the text at another one does not have it."""
    from derive.verify.covariance_sde.facts_at_width import facts_at_width

    result = of("linear_attention")
    good = facts_at_width(result)
    assert good.status == "passed" and any("n_k drops out" in k for k in good.figures)
    (block,) = result.blocks
    (tau,) = [p for p in result.model.params if p.name == "tau_0"]
    frozen = {
        n: getattr(block, n).map_coefficients(lambda c: c.subs(tau, 1))
        for n in ("drift", "diffusion")
    }
    wrong = facts_at_width(replace(result, blocks=(replace(block, **frozen),)))
    assert wrong.failed, wrong.figures


NAMED = """from derive.notation import *
m, n = dims("m: tokens", "n: width")
{one}, {two} = params("{one}: in (0, 1)", "{two}: positive")
@covariance_sde(state="X[m, n]", width=n)
def named(X):
    Q, K = gaussian(n, n), gaussian(n, n)
    A = eye(m) + (X @ Q) @ (X @ K).T / n / ({two} * n)
    return sqrt(1 - {one}**2) * X + {one} * A @ X @ gaussian(n, n) / sqrt(n)
"""


@functools.cache
def drift_of_one_token(one: str, two: str) -> str:
    """At one value of token and parameters, read off a fact of which every check passes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{one}.py"
        file.write_text(NAMED.format(one=one, two=two), encoding="utf-8")
        (entry,) = entries(file)
        result = derive(load(entry))
    assert all(f.check is None or f.check.passed for f in result.facts)
    (found,) = [f for f in result.facts if "one token" in f]
    own = found.partition("one token, ")[2].partition(" =")[0]
    assert own not in (one, two)
    rate = found.partition(": d")[2].partition(" = ")[2].rpartition(" dt + ")[0]
    read = printed.parsed(rate, [sp.Symbol(own), sp.Symbol(one), sp.Symbol(two)])
    return str(read.subs({sp.Symbol(own): 2, sp.Symbol(one): 3, sp.Symbol(two): 5}))


@pytest.mark.parametrize(
    ("one", "two"),
    [("v", "w"), ("rho", "v"), ("w", "v_"), ("S", "E"), ("Symbol", "Float"), ("dt", "dB")],
)
def test_facts_read_the_same_whatever_parameters_are_called(one: str, two: str) -> None:
    """Words that SymPy would run, and names of the scalars themselves."""
    assert drift_of_one_token(one, two) == drift_of_one_token("gamma", "tau")
