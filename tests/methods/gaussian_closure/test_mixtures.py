"""A mixture of Gaussian laws moves as its tokens do where one Gaussian law does not.

Two clouds of tokens, far apart, under softmax; both halves have exactly the moments of their
component.
"""

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from built_closures import built

from derive.errors import DefinitionError
from derive.generated import softmax_closure
from derive.methods.gaussian_closure import instances
from derive.notation import dims, gaussian_closure
from derive.verify.gaussian_closure.particles import particles

MEANS = np.array([[1.5, 0.3], [-1.5, 0.3]])
COVS = np.stack([np.diag([0.1, 0.2]), np.diag([0.2, 0.1])])
HALF = np.array([0.5, 0.5])
EACH, T1 = 1000, 0.5


@pytest.fixture(scope="module", autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def tokens() -> np.ndarray:
    rng = np.random.default_rng(0)
    parts = []
    for mean, cov in zip(MEANS, COVS, strict=True):
        z = rng.standard_normal((EACH, 2))
        z = z - z.mean(axis=0)
        z = np.linalg.solve(np.linalg.cholesky(z.T @ z / EACH), z.T).T
        parts.append(mean + z @ np.linalg.cholesky(cov).T)
    return np.concatenate(parts)


def whole(
    weights: np.ndarray, means: np.ndarray, covs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of a mixture."""
    mean = weights @ means
    away = means - mean
    return mean, np.einsum("b,bij->ij", weights, covs + away[:, :, None] * away[:, None, :])


def params(module, **given):  # type: ignore[no-untyped-def]
    eye = np.eye(2)
    values = {"Q": eye, "K": np.sqrt(2) * eye, "V": eye, "theta": HALF} | given
    return module.Params(**{n: values[n] for n in module.Params._fields})


def test_rates_of_components_are_those_of_their_tokens() -> None:
    _, module = built("mixed")
    p, x = params(module), tokens()
    move = np.asarray(module.particle_velocity(x, x, p)).reshape(2, EACH, 2)
    own = x.reshape(2, EACH, 2)
    half = np.einsum("bni,bnj->bij", move, own - MEANS[:, None]) / EACH
    mean = np.asarray(module.mean_rate(MEANS, COVS, p))
    cov = np.asarray(module.cov_rate(MEANS, COVS, p))
    gap = np.abs(mean - move.mean(axis=1)).max() / np.abs(mean).max()
    assert gap < 0.02
    assert np.abs(cov - half - half.swapaxes(-1, -2)).max() / np.abs(cov).max() < 0.1
    # one law of the same moments is off by more than half
    m, S = whole(HALF, MEANS, COVS)
    alone = params(softmax_closure, K=np.eye(2))
    spread = np.einsum("bni,bnj->ij", move, own - m) / (2 * EACH)
    found = np.asarray(softmax_closure.cov_rate(m, S, alone))
    assert np.abs(found - spread - spread.T).max() > 0.5 * np.abs(spread + spread.T).max()


@pytest.mark.slow
def test_a_mixture_ends_where_its_tokens_do_and_one_gaussian_blows_up() -> None:
    _, module = built("mixed")
    solved = module.solve(MEANS, COVS, params(module), t1=T1)
    out = module.particles(tokens(), params(module), t1=T1, steps=20).x[-1]
    mean, cov = whole(HALF, solved.mean[-1], solved.cov[-1])
    right = np.cov(out.T, bias=True)
    assert np.abs(mean - out.mean(axis=0)).max() < 0.02
    assert np.abs(cov - right).max() < 0.02 * right.max()
    one = softmax_closure.solve(
        *whole(HALF, MEANS, COVS), params(softmax_closure, K=np.eye(2)), t1=T1
    )
    assert one.blow_up_time < T1 / 2


def test_one_component_is_the_gaussian_closure() -> None:
    result, module = built("mixed")
    one = instances.instance(result.model, 94)
    a = {n: one.arrays[n] for n in ("Q", "K", "V")} | {"theta": np.ones(1)}
    m, S, x = (one.arrays[n][:1] for n in ("m", "S", "x"))
    p = params(module, **a)
    q = params(softmax_closure, **a | {"K": a["K"] / np.sqrt(len(a["K"]))})
    for name, point in (("velocity", (x,)), ("mean_rate", ()), ("cov_rate", ())):
        got = getattr(module, name)(*point, m, S, p)[0]
        right = getattr(softmax_closure, name)(*(v[0] for v in point), m[0], S[0], q)
        np.testing.assert_allclose(got, right, atol=1e-10)


@pytest.mark.slow  # guard: the test of the moments of these tokens, above
def test_particles_tell_a_wrong_mixture() -> None:
    result, module = built("mixed")
    right = particles(result, module, 24)
    assert right.passed and "each component" in right.claim, right.figures

    def hasty(mean, cov, p, *, t1):  # type: ignore[no-untyped-def]
        return module.solve(mean, cov, p._replace(V=3 * p.V), t1=t1)

    wrong = SimpleNamespace(Params=module.Params, particles=module.particles, solve=hasty)
    assert particles(result, wrong, 24).failed


def test_what_is_said_of_a_mixture() -> None:
    result, _ = built("mixed")
    assert not result.exact
    assert any("mixtures of Gaussian laws with fixed weights" in f for f in result.facts)
    assert any(f.startswith("exact where all components have one law") for f in result.facts)


def test_kinds_of_laws_that_make_no_sense_are_refused() -> None:
    d = dims("d: tokens")  # noqa: F841
    for options in ({"law": "normal"}, {"law": "mixture", "keys": "y[d]"}):
        with pytest.raises(DefinitionError, match="law="):
            gaussian_closure(state="x[d]", **options)(lambda_of(d))


def lambda_of(d):  # type: ignore[no-untyped-def]
    def field(x, y):  # type: ignore[no-untyped-def]
        return d * x

    return field
