"""Gaussian closures written by hand, as a generated module would bind them; A = K^T Q."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from derive.runtime.closures.entry import ClosureModel


class Params(NamedTuple):
    Q: Any
    K: Any
    V: Any


class Relaxation(NamedTuple):
    rate: Any
    noise: Any


SHAPES = {"Q": ("d_k", "d"), "K": ("d_k", "d"), "V": ("d", "d")}


def dot(M: Any, v: Any) -> Any:
    return (M @ v[..., None])[..., 0]


def _softmax_gain(cov: Any, p: Params) -> Any:
    return p.V @ cov @ p.K.mT @ p.Q


softmax = ClosureModel(
    params=Params,
    param_shapes=SHAPES,
    exact=True,
    velocity=lambda x, mean, cov, p: (
        dot(p.V, mean[..., None, :]) + dot(_softmax_gain(cov, p)[..., None, :, :], x)
    ),
    mean_rate=lambda mean, cov, p: dot(p.V, mean) + dot(_softmax_gain(cov, p), mean),
    jacobian=lambda mean, cov, p: _softmax_gain(cov, p),
)


def _l2_gain(cov: Any, p: Params) -> Any:
    one = jnp.eye(cov.shape[-1], dtype=cov.dtype)
    return p.V @ jnp.linalg.inv(one + 2 * cov @ (p.K.mT @ p.K))


l2 = ClosureModel(
    params=Params,
    param_shapes=SHAPES,
    exact=True,
    velocity=lambda x, mean, cov, p: dot(
        _l2_gain(cov, p)[..., None, :, :],
        mean[..., None, :] + 2 * dot((cov @ p.K.mT @ p.Q)[..., None, :, :], x),
    ),
    mean_rate=lambda mean, cov, p: dot(_l2_gain(cov, p), mean + 2 * dot(cov @ p.K.mT @ p.Q, mean)),
    jacobian=lambda mean, cov, p: 2 * _l2_gain(cov, p) @ cov @ p.K.mT @ p.Q,
)


def _linear_gain(mean: Any, cov: Any, p: Params) -> Any:
    return p.V @ (cov + mean[..., :, None] * mean[..., None, :]) @ p.K.mT @ p.Q


linear = ClosureModel(
    params=Params,
    param_shapes=SHAPES,
    exact=True,
    velocity=lambda x, mean, cov, p: dot(_linear_gain(mean, cov, p)[..., None, :, :], x),
    mean_rate=lambda mean, cov, p: dot(_linear_gain(mean, cov, p), mean),
    jacobian=lambda mean, cov, p: _linear_gain(mean, cov, p),
)


# weight exp(<Qx, Ky>) exp(+|y|^2 g / 2): integrable while 1 - g cov > 0
class Growing(NamedTuple):
    V: Any
    g: Any


def _growing_gain(cov: Any, p: Growing) -> Any:
    one = jnp.eye(cov.shape[-1], dtype=cov.dtype)
    return p.V @ jnp.linalg.inv(one - p.g[..., None, None] * cov)


growing = ClosureModel(
    params=Growing,
    param_shapes={"V": ("d", "d"), "g": ()},
    exact=True,
    velocity=lambda x, mean, cov, p: dot(
        _growing_gain(cov, p)[..., None, :, :], mean[..., None, :] + dot(cov[..., None, :, :], x)
    ),
    mean_rate=lambda mean, cov, p: dot(_growing_gain(cov, p), mean + dot(cov, mean)),
    jacobian=lambda mean, cov, p: _growing_gain(cov, p) @ cov,
    margin=lambda mean, cov, p: 1 - p.g * jnp.linalg.eigvalsh(cov)[..., -1],
)

# x' = -rate (x - mean direction), with additive noise: an Ornstein-Uhlenbeck law
diffusing = ClosureModel(
    params=Relaxation,
    param_shapes={"rate": ("d", "d"), "noise": ("d", "d")},
    exact=True,
    velocity=lambda x, mean, cov, p: -dot(p.rate[..., None, :, :], x),
    mean_rate=lambda mean, cov, p: -dot(p.rate, mean),
    jacobian=lambda mean, cov, p: -p.rate + 0 * cov,
    noise=lambda mean, cov, p: p.noise @ p.noise.mT + 0 * cov,
)

relaxing = ClosureModel(
    params=Relaxation,
    param_shapes=diffusing.param_shapes,
    exact=True,
    velocity=diffusing.velocity,
    mean_rate=diffusing.mean_rate,
    jacobian=diffusing.jacobian,
)

_ = jax
