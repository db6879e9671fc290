"""Laws as weighted points, and the definition's text averaged over them.

Nothing of the calculus takes part here: this is the other side of a closure's checks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from derive.methods.gaussian_closure.instances import ClosureInstance, middles
from derive.notation.closures.model import ClosureModel
from derive.notation.closures.numeric import Cloud, run


def hermite_cloud(
    mean: np.ndarray, cov: np.ndarray, nodes: int, position: float | None = None
) -> Cloud:
    """Tensor Gauss-Hermite points of N(mean, cov)."""
    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    w = w / w.sum()
    d = len(mean)
    grid = np.stack(np.meshgrid(*[z] * d, indexing="ij"), -1).reshape(-1, d)
    weight = np.prod(np.stack(np.meshgrid(*[w] * d, indexing="ij"), -1), -1).reshape(-1)
    keep = weight > 1e-40
    values, vectors = np.linalg.eigh(cov)
    root = vectors * np.sqrt(np.maximum(values, 0))
    points = mean + grid[keep] @ root.T
    label = None if position is None else np.full(int(keep.sum()), position)
    return Cloud(points, weight[keep], label)


def dense_cloud(mean: np.ndarray, cov: np.ndarray, nodes: int, position: float | None) -> Cloud:
    """A trapezoidal grid of N(mean, cov): coarse for smooth functions, but kinks do it no harm."""
    z = np.linspace(-6.5, 6.5, nodes)
    w = np.exp(-(z**2) / 2)
    d = len(mean)
    grid = np.stack(np.meshgrid(*[z] * d, indexing="ij"), -1).reshape(-1, d)
    weight = np.prod(np.stack(np.meshgrid(*[w / w.sum()] * d, indexing="ij"), -1), -1).reshape(-1)
    values, vectors = np.linalg.eigh(cov)
    keep = weight > 1e-12
    points = mean + grid[keep] @ (vectors * np.sqrt(np.maximum(values, 0))).T
    label = None if position is None else np.full(int(keep.sum()), position)
    return Cloud(points, weight[keep] / weight[keep].sum(), label)


def joined(clouds: list[Cloud], shares: np.ndarray) -> Cloud:
    """A mixture of clouds."""
    position = [c.position for c in clouds if c.position is not None]
    return Cloud(
        np.concatenate([c.at for c in clouds]),
        np.concatenate([share * c.weight for c, share in zip(clouds, shares, strict=True)]),
        np.concatenate(position) if position else None,
    )


MOST_OF_PAIRS = 12  # nodes along each axis where pairs of keys are averaged over


def paired(first: Cloud, other: Cloud) -> Cloud:
    """Independent pairs."""
    n, k = len(first.at), len(other.at)
    weight = np.outer(first.weight, other.weight).ravel()
    return Cloud(np.repeat(first.at, k, axis=0), weight, None, np.tile(other.at, (n, 1)))


def key_cloud(
    model: ClosureModel, arrays: Mapping[str, np.ndarray], nodes: int, dense: bool = False
) -> Cloud:
    """The law of the keys as points; `dense`: for weights with kinks."""
    cloud = dense_cloud if dense else hermite_cloud
    if model.second:
        law = ("key_mean", "key_cov") if model.cross else ("m", "S")
        return paired(*(
            cloud(arrays[mean], arrays[cov], min(nodes, MOST_OF_PAIRS), None)
            for mean, cov in (("m", "S"), law)
        ))  # fmt: skip
    if model.cross:
        return cloud(arrays["key_mean"], arrays["key_cov"], nodes, None)
    if model.positional:
        laws = zip(arrays["m"], arrays["S"], middles(arrays["theta"]), strict=True)
        parts = [cloud(m, S, nodes, float(b)) for m, S, b in laws]
        return joined(parts, arrays["theta"])
    return cloud(arrays["m"], arrays["S"], nodes, None)


def text_velocity(
    model: ClosureModel, one: ClosureInstance, queries: Cloud, keys: Cloud
) -> np.ndarray:
    return run(model, queries, keys, arrays=one.arrays, params=one.params)


def query_cloud(model: ClosureModel, one: ClosureInstance, x: np.ndarray) -> Cloud:
    if model.positional:
        return Cloud(x, np.ones(len(x)) / len(x), middles(one.arrays["theta"]))
    return Cloud(x[None], np.ones(1))


def text_rates(
    model: ClosureModel,
    one: ClosureInstance,
    nodes: int,
    outer: int | None = None,
    *,
    dense: bool = False,
    smooth_keys: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """E Gamma and C + C^T, C = E Gamma (x - m)^T, by quadrature of the text (no noise).

    `dense`: on grids that kinks do no harm, the keys on so many Gauss-Hermite nodes if given."""
    keys = key_cloud(model, one.arrays, smooth_keys or nodes, dense and smooth_keys is None)
    cloud_of = dense_cloud if dense else hermite_cloud
    blocks = range(len(one.arrays["m"])) if model.positional else [None]
    means, covs = [], []
    for b in blocks:
        m = one.arrays["m"] if b is None else one.arrays["m"][b]
        S = one.arrays["S"] if b is None else one.arrays["S"][b]
        most = min(outer or nodes, MOST_OF_PAIRS) if model.second else outer or nodes
        at = None if b is None else float(middles(one.arrays["theta"])[b])
        cloud = cloud_of(m, S, most, at)
        gamma = text_velocity(model, one, cloud, keys)
        means.append(cloud.weight @ gamma)
        C = np.einsum("n,ni,nj->ij", cloud.weight, gamma, cloud.at - m)
        covs.append(C + C.T)
    if not model.positional:
        return means[0], covs[0]
    return np.stack(means), np.stack(covs)
