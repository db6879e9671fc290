"""Flows of tokens written by hand, as a generated module would bind them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from derive.runtime.flows.entry import FlowModel

EXACT = jax.lax.Precision.HIGHEST


class Beta(NamedTuple):
    beta: Any


class Matrices(NamedTuple):
    A: Any
    V: Any


class Nothing(NamedTuple):
    pass


def gram(x: Any) -> Any:
    return jnp.matmul(x, x.T, precision=EXACT)


def tangent(x: Any, v: Any) -> Any:
    return v - jnp.sum(x * v, axis=1, keepdims=True) * x


def _weights(x: Any, p: Beta) -> Any:
    return jnp.exp(p.beta * (gram(x) - 1))


def _normalised(weights: Any, x: Any) -> Any:
    total = jnp.matmul(weights, jnp.concatenate([x, jnp.ones_like(x[:, :1])], 1), precision=EXACT)
    return total[:, :-1] / total[:, -1:]


def _sa(x: Any, p: Beta) -> Any:
    return tangent(x, _normalised(_weights(x, p), x))


def _usa(x: Any, p: Beta) -> Any:
    weights = jnp.exp(p.beta * gram(x))
    return tangent(x, jnp.matmul(weights, x, precision=EXACT) / len(x))


def _energy(x: Any, p: Beta) -> Any:
    return jnp.mean(jnp.exp(p.beta * gram(x))) / (2 * p.beta)


def _sa_gram(R: Any, masses: Any, p: Beta) -> Any:
    weights = masses * jnp.exp(p.beta * (R - 1))
    weights = weights / weights.sum(axis=1, keepdims=True)
    # sum_c w_ac (R_cb - R_ac R_ab), differences taken term by term
    half = jnp.einsum("ac,acb->ab", weights, R[None] - R[:, :, None] * R[:, None, :])
    return half + half.T


def _usa_gram(R: Any, masses: Any, p: Beta) -> Any:
    weights = masses * jnp.exp(p.beta * R)
    half = jnp.einsum("ac,acb->ab", weights, R[None] - R[:, :, None] * R[:, None, :])
    return half + half.T


def _gram_energy(R: Any, masses: Any, p: Beta) -> Any:
    return masses @ jnp.exp(p.beta * R) @ masses / (2 * p.beta)


SCALAR: dict[str, tuple[str, ...]] = {"beta": ()}
sa = FlowModel(Beta, SCALAR, True, _sa, _energy, _sa_gram, False, _gram_energy)
usa = FlowModel(Beta, SCALAR, True, _usa, _energy, _usa_gram, False, _gram_energy)


def _causal(x: Any, p: Beta) -> Any:
    n = len(x)
    weights = jnp.where(jnp.tri(n, dtype=bool), _weights(x, p), 0)
    return tangent(x, _normalised(weights, x))


causal = FlowModel(Beta, SCALAR, True, _causal, ordered=True)


def _softmax(x: Any, p: Matrices) -> Any:
    scores = jnp.einsum("ik,kl,jl->ij", x, p.A, x, precision=EXACT)
    weights = jnp.exp(scores - scores.max(axis=1, keepdims=True))
    return jnp.matmul(_normalised(weights, x), p.V.T, precision=EXACT)


MATRICES = {"A": ("d", "d"), "V": ("d", "d")}
softmax = FlowModel(
    Matrices, MATRICES, False, _softmax, frame=lambda x, p: p.V, score=lambda x, p: p.A
)

# x_i' = (1/n) sum_j <x_i, x_j> x_j: a flow of X^T X alone, S' = 2 S^2 / n, which blows up
cubic = FlowModel(Nothing, {}, False, lambda x, p: jnp.matmul(gram(x), x, precision=EXACT) / len(x))
# x_i' = -x_i + mean: closed form
relaxing = FlowModel(Beta, SCALAR, False, lambda x, p: p.beta * (x.mean(axis=0) - x))


def sphere(rng: Any, *shape: int) -> Any:
    x = rng.normal(size=shape)
    return x / (x**2).sum(axis=-1, keepdims=True) ** 0.5
