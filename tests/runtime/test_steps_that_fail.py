"""What a closure's runs cannot do is said: steps too few, overflow, tokens that are no numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from derive.generated import l2_closure, softmax_closure

TOKENS = np.random.default_rng(0).normal(size=(8, 2))


def params(module, value: float):  # type: ignore[no-untyped-def]
    return module.Params(Q=np.eye(2), K=np.eye(2), V=value * np.eye(2))


@pytest.mark.parametrize("value", [-100.0, -30.0, -8.0])
def test_too_few_steps_are_said_with_a_number_that_does(value: float) -> None:
    p = params(softmax_closure, value)
    with pytest.warns(RuntimeWarning, match=r"try steps=|steps=\d+ would do") as said:
        softmax_closure.particles(TOKENS, p, t1=1.0, steps=3)
    steps = 3
    for _ in range(6):  # where tokens are lost the number named is a guess, then it is an estimate
        named = str(said[-1].message).split("steps=")[1]
        steps = int("".join(c for c in named.split()[0] if c.isdigit()))
        with warnings.catch_warnings(record=True) as said:  # type: ignore[assignment]
            warnings.simplefilter("always")
            few = softmax_closure.particles(TOKENS, p, t1=1.0, steps=steps)
        if not said:
            break
    assert not said
    many = softmax_closure.particles(TOKENS, p, t1=1.0, steps=8 * steps)
    assert np.abs(few.x - many.x).max() < 2e-3 * np.abs(TOKENS).max()


def test_enough_steps_are_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        softmax_closure.particles(TOKENS, params(softmax_closure, -1.0), t1=1.0, steps=10)


@pytest.mark.parametrize("size", [1e3, 1e5, 1e6])
def test_an_overflow_is_no_blow_up(size: float) -> None:
    big = size * np.eye(2)
    with pytest.warns(RuntimeWarning, match="an overflow of the floating-point numbers"):
        out = l2_closure.solve(
            np.zeros(2), np.eye(2), l2_closure.Params(Q=big, K=big, V=big), t1=1.0
        )
    assert np.isinf(out.blow_up_time) and np.isnan(out.cov[-1]).all()


def test_a_blow_up_of_a_strong_weight_still_is_one() -> None:
    big = 1e3 * np.eye(2)
    out = softmax_closure.solve(
        np.zeros(2), np.eye(2), softmax_closure.Params(Q=big, K=big, V=big), t1=1.0
    )
    assert abs(out.blow_up_time / 5e-10 - 1) < 1e-6  # s' = 2 a s^2, a = 1e9


@pytest.mark.parametrize(
    ("x0", "message"),
    [
        (TOKENS + 1j, "x0 is complex"),
        (np.ma.masked_greater(TOKENS, 1.0), r"x0\[\d, \d\] is masked"),
        (np.where(TOKENS > 1, np.nan, TOKENS), r"not finite: x0\[\d, \d\] = nan"),
        ([["a", "b"]], "x0 takes real numbers, got text"),
    ],
)
def test_tokens_that_are_no_real_numbers_are_named(x0: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        softmax_closure.particles(x0, params(softmax_closure, 1.0), t1=0.1, steps=2)


def test_counts_may_be_numpy_integers() -> None:
    out = softmax_closure.particles(
        TOKENS, params(softmax_closure, 1.0), t1=0.1, steps=np.int64(4), saves=np.int32(3)
    )
    assert out.x.shape == (3, 8, 2)
