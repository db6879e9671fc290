"""`flow` is a pure function of the law and the parameters: jit, vmap and grad go through it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from derive.generated import softmax_closure

RNG = np.random.default_rng(8)
D = 3
MEAN = RNG.standard_normal(D)
ROOT = RNG.standard_normal((D, D))
COV = ROOT @ ROOT.T / D
WEIGHTS = {n: 0.4 * RNG.standard_normal((D, D)) for n in ("Q", "K", "V")}


@pytest.fixture(scope="module")
def model():
    return softmax_closure


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def params(model, V=None):
    weights = WEIGHTS | ({} if V is None else {"V": V})
    return model.Params(**{n: weights[n] for n in model.Params._fields})


def test_the_flow_is_what_solve_finds(model):
    mean, cov = model.flow(MEAN, COV, params(model), t1=0.5, steps=40)
    solved = model.solve(MEAN, COV, params(model), t1=0.5, rtol=1e-10)
    assert mean.shape == (41, D) and cov.shape == (41, D, D)
    assert np.abs(mean[-1] - solved.mean[-1]).max() < 1e-8
    assert np.abs(cov[-1] - solved.cov[-1]).max() < 1e-8


def test_gradients_by_weights_and_start_are_differences(model):
    def total(V, cov):
        mean, found = model.flow(MEAN, cov, params(model, V), t1=0.4, steps=8)
        return (mean[-1] ** 2).sum() + (found[-1] * jnp.arange(9.0).reshape(3, 3)).sum()

    by_V, by_cov = jax.jit(jax.grad(total, (0, 1)))(WEIGHTS["V"], COV)
    move, h = RNG.standard_normal((D, D)), 1e-5
    turn = move + move.T
    change = (total(WEIGHTS["V"] + h * move, COV) - total(WEIGHTS["V"] - h * move, COV)) / (2 * h)
    turned = (total(WEIGHTS["V"], COV + h * turn) - total(WEIGHTS["V"], COV - h * turn)) / (2 * h)
    assert abs((by_V * move).sum() - change) < 1e-7 * abs(change)
    assert abs((by_cov * turn).sum() - turned) < 1e-7 * abs(turned)


def test_several_laws_by_vmap_are_the_single_ones_and_a_batch_is_refused(model):
    means = jnp.stack([MEAN, -MEAN, 2 * MEAN])
    found, _ = jax.vmap(lambda m: model.flow(m, COV, params(model), t1=0.3, steps=6))(means)
    one, _ = model.flow(2 * MEAN, COV, params(model), t1=0.3, steps=6)
    assert np.abs(found[2] - one).max() < 1e-12
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        model.flow(means, COV, params(model), t1=0.3, steps=6)


def test_single_precision_is_kept_and_a_lowered_one_is_refused(model):
    mean, _ = model.flow(
        MEAN.astype(np.float32), COV.astype(np.float32), params(model), t1=0.1, steps=2
    )
    assert mean.dtype == jnp.float32
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        model.flow(MEAN, COV, params(model), t1=0.1, steps=2)


def test_python_lists_have_the_default_precision(model):
    given = MEAN.tolist(), COV.tolist(), params(model)
    assert model.flow(*given, t1=0.1, steps=2)[1].dtype == jnp.float64
    with jax.enable_x64(False):
        assert model.flow(*given, t1=0.1, steps=2)[1].dtype == jnp.float32
