"""`path` is pure: jit, vmap and grad go through it, and diffrax can take its equation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from derive.generated import shaped_attention

V0 = np.array([[1.0, 0.2, 0.1], [0.2, 1.0, 0.3], [0.1, 0.3, 1.0]])
ARGS = {"t1": 0.3, "steps": 12}


@pytest.fixture(scope="module")
def model():
    return shaped_attention


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def final(model, key, V, gamma, **more):
    return model.path(key, V, model.Params(gamma, 1.0), **{**ARGS, **more})[-1]


@pytest.mark.parametrize("scheme", ["network", pytest.param("euler", marks=pytest.mark.slow)])
def test_gradients_by_parameter_and_start_are_differences(model, scheme):
    keys = jax.random.split(jax.random.key(3), 4)

    @jax.jit
    def mean(gamma, V):
        ends = jax.vmap(lambda key: final(model, key, V, gamma, scheme=scheme))(keys)
        return (ends * jnp.arange(9.0).reshape(3, 3)).sum()

    by_gamma, by_start = jax.jit(jax.grad(mean, (0, 1)))(0.4, V0)
    h = 1e-5
    move = np.array([[0.3, -0.2, 0.5], [-0.2, 0.1, 0.4], [0.5, 0.4, -0.7]])
    change = (mean(0.4 + h, V0) - mean(0.4 - h, V0)) / (2 * h)
    turned = (mean(0.4, V0 + h * move) - mean(0.4, V0 - h * move)) / (2 * h)
    assert abs(by_gamma - change) < 1e-7 * abs(change)
    assert abs((by_start * move).sum() - turned) < 1e-7 * abs(turned)


def test_mapped_starts_and_parameters_are_the_single_paths(model):
    keys = jax.random.split(jax.random.key(5), 3)
    starts = jnp.stack([V0, 2 * V0, V0 + 0.1 * np.eye(3)])
    gammas = jnp.array([0.2, 0.5, 0.7])
    together = jax.jit(jax.vmap(lambda k, V, g: final(model, k, V, g)))(keys, starts, gammas)
    alone = jax.jit(lambda k, V, g: final(model, k, V, g))
    for row, key, V, gamma in zip(together, keys, starts, gammas, strict=True):
        assert np.abs(row - alone(key, V, gamma)).max() < 1e-12
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_a_singular_start_keeps_equal_tokens_equal_and_has_gradients(model):
    V = np.ones((3, 3))
    V[:2, 2] = V[2, :2] = 0.4
    slope = jax.grad(lambda g: final(model, jax.random.key(1), V, g)[0, 1])(0.4)
    end = final(model, jax.random.key(1), V, 0.4)
    assert np.isfinite(slope) and abs(slope) > 1e-3
    assert abs(end[0, 0] - end[1, 1]) < 1e-12 and abs(end[0, 0] - end[0, 1]) < 1e-12


def test_the_precision_is_that_of_the_start_or_the_reason_is_told(model):
    params = model.Params(0.4, 1.0)
    assert model.path(jax.random.key(0), V0, params, **ARGS).dtype == jnp.float64
    single = model.path(jax.random.key(0), V0.astype(np.float32), params, **ARGS)
    assert single.dtype == jnp.float32
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        model.path(jax.random.key(0), V0, params, **ARGS)


def test_a_python_list_has_the_default_precision(model):
    params = model.Params(0.4, 1.0)
    with jax.enable_x64(False):
        single = model.path(jax.random.key(0), V0.tolist(), params, **ARGS)
        assert single.dtype == jnp.float32 and np.isfinite(single).all()
        array = jnp.asarray(V0)
        assert model.path(jax.random.key(0), array, params, **ARGS).dtype == jnp.float32
    double = model.path(jax.random.key(0), V0.tolist(), params, **ARGS)
    assert double.dtype == jnp.float64


def test_an_euler_step_out_of_the_cone_is_nan_from_there_on(model):
    """Large steps leave it, and some paths of many; the layer-shaped step never does."""
    params, keys = model.Params(0.6, 2.0), jax.random.split(jax.random.key(8), 64)

    def runs(scheme):
        def one(key, V):
            return model.path(key, V, params, t1=1.0, steps=8, scheme=scheme)

        ends = jax.jit(jax.vmap(one, (0, None)))
        return lambda V=V0: np.asarray(ends(keys, V))

    euler = runs("euler")
    found = euler()
    gone = np.isnan(found).any((2, 3))
    assert 0 < gone[:, -1].sum() < 64 and not gone[:, 0].any()
    assert np.array_equal(gone, np.maximum.accumulate(gone, 1))  # and nothing comes back
    assert np.isnan(found[gone]).all()
    assert np.linalg.eigvalsh(found[~gone]).min() > -1e-12
    assert np.isnan(euler(np.diag([1.0, 1.0, -0.1]))).all()
    assert np.isfinite(runs("network")()).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"V0": np.ones((2, 3, 3))}, "jax.vmap"),
        ({"steps": 2.0}, "whole number"),
        ({"t1": 30.0}, "too few"),
        ({"params": (0.4,)}, "Params"),
        ({"scheme": "milstein"}, "euler"),
    ],
)
def test_what_cannot_be_traced_is_refused_with_the_remedy(model, change, words):
    given = {"V0": V0, "params": model.Params(0.4, 1.0), **ARGS} | change
    start, params = given.pop("V0"), given.pop("params")
    with pytest.raises(ValueError, match=words):
        model.path(jax.random.key(0), start, params, **given)


def test_diffrax_takes_the_same_steps(model):
    diffrax = pytest.importorskip("diffrax")
    count, steps, t1 = model.normals(3), 16, 0.25
    tree = diffrax.VirtualBrownianTree(0, t1, 1e-4, shape=(count,), key=jax.random.key(2))
    params = model.Params(0.4, 1.0)
    found = diffrax.diffeqsolve(
        model.terms(params, tree), diffrax.Euler(), 0, t1, t1 / steps, jnp.asarray(V0)
    ).ys[-1]
    V = jnp.asarray(V0)
    m, h = 3, t1 / steps

    @jax.jit
    def step(number, V):
        z = tree.evaluate(number * h, (number + 1) * h)
        fields = [z[: m * m].reshape(m, m)]
        lower = jnp.zeros((m, m)).at[np.tril_indices(m)].set(z[m * m :])
        fields.append(lower + jnp.tril(lower, -1).T + (np.sqrt(2) - 1) * jnp.diag(jnp.diag(lower)))
        noise = model.noise_from(jnp.linalg.cholesky(V), V, fields, params)
        return V + h * model.drift(V, params) + noise

    for number in range(steps):
        V = step(number, V)
    assert np.abs(found - V).max() < 1e-12


def test_moments_agree_with_the_paths_of_simulate(model):
    """Four z-scores of the mean and the second moment: false alarm below 1e-4 each."""
    params, count = model.Params(0.4, 1.0), 4000
    keys = jax.random.split(jax.random.key(11), count)
    ends = jax.jit(jax.vmap(lambda k: final(model, k, V0, 0.4, t1=0.5, steps=24)))(keys)
    paths = model.simulate(V0, params, t1=0.5, paths=count, seed=12, saves=[0.5], dt=0.5 / 24)
    for one, two in ((ends, paths.V[:, -1]), (ends**2, paths.V[:, -1] ** 2)):
        for entry in ((0, 0), (0, 1)):
            a, b = (np.asarray(x)[:, entry[0], entry[1]] for x in (one, two))
            z = (a.mean() - b.mean()) / np.sqrt((a.var() + b.var()) / count)
            assert abs(z) < 3.9
