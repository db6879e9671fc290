"""L5 of token flows with noise: `path` replayed by the text, and its law for a token on its own.

Input: a derivation and its module.  Output: a rung.  The replay takes the same normals and nothing
else of the generated module; the law of a token that only its noise moves is known.
"""

from __future__ import annotations

from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from derive.methods.common.record import rounded
from derive.methods.token_flow import instances
from derive.methods.token_flow.instances import FlowInstance
from derive.methods.token_flow.result import TokenFlow
from derive.verify.common.rung import Rung
from derive.verify.token_flow.gate import params_of

TIME, STEPS, PATHS = 0.3, 6, 4096
ALARM = 4.5  # standard errors: a false alarm in 150,000


def noisy(result: TokenFlow, module: ModuleType) -> Rung:
    """L5: the same steps by the text in NumPy; the mean over one step by the law of its noise."""
    one = instances.instance(result.model, 92, 5, 3, equal=True)
    p = params_of(module, one)
    with jax.enable_x64(True):
        key = jax.random.key(93)
        found = np.asarray(module.path(key, one.x, p, t1=TIME, steps=STEPS))
        normals = [
            np.asarray(jax.random.normal(jax.random.fold_in(key, k), (2, *one.x.shape)))
            for k in range(STEPS)
        ]
        figures = {"replay": float(np.max(np.abs(found[-1] - _replayed(one, normals))))}
        figures["movement (standard errors)"] = _movement(result, module, one)
    return Rung(
        "L5 path",
        f"`path` is replayed by the text's velocity and noise from the same normals; over {PATHS} "
        "short paths the mean square movement is that of the noise",
        figures["replay"] < 1e-12 and figures["movement (standard errors)"] < ALARM,
        {k: rounded(v) for k, v in figures.items()},
        f"a replay off by 1e-12, a movement off by {ALARM} standard errors",
    )


def _replayed(one: FlowInstance, normals: list[np.ndarray]) -> np.ndarray:
    """Tokens at the end: half the noise, the velocity, half the noise, by the text."""
    h, x = TIME / STEPS, one.x
    values, vectors = np.linalg.eigh(instances.text_noise(one))
    root = vectors * np.sqrt(np.maximum(values, 0) * h / 2) @ vectors.T

    def rate(at: np.ndarray) -> np.ndarray:
        return instances.tangent(one, instances.on_home(one.model, at))

    def shaken(at: np.ndarray, move: np.ndarray) -> np.ndarray:
        if not one.model.sphere:
            return at + move
        move = move - at @ root @ root / 2
        move = move - (at * move).sum(1, keepdims=True) * at
        size = np.linalg.norm(move, axis=1, keepdims=True)
        return np.asarray(np.cos(size) * at + np.sin(size) / size * move)

    for pair in normals:
        x = shaken(x, pair[0] @ root)
        k = [rate(x)]
        for share in (0.5, 0.5, 1.0):
            k.append(rate(x + share * h * k[-1]))
        x = instances.on_home(one.model, x + h / 6 * (k[0] + 2 * k[1] + 2 * k[2] + k[3]))
        x = shaken(x, pair[1] @ root)
    return x


def _movement(result: TokenFlow, module: ModuleType, one: FlowInstance) -> float:
    """Mean of |x(h) - x(0)|^2 of all tokens over a short time, against the trace of the noise that
    is tangent; in standard errors of the mean."""
    p, h = params_of(module, one), 1e-6
    keys = jax.random.split(jax.random.key(94), PATHS)
    way = jax.vmap(lambda k: module.path(k, one.x, p, t1=h, steps=1)[-1])
    moved = np.asarray(jnp.sum((jax.jit(way)(keys) - one.x) ** 2, axis=-1)) / h
    noise = instances.text_noise(one)
    wanted = np.full(len(one.x), np.trace(noise))
    if result.model.sphere:
        wanted = wanted - np.einsum("ai,ij,aj->a", one.x, noise, one.x)
    error = np.std(moved, axis=0) / np.sqrt(PATHS)
    return float(np.max(np.abs(moved.mean(axis=0) - wanted) / error))
