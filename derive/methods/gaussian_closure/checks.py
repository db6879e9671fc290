"""Numeric checks of a closure's steps: the definition's text run on arrays against the expression.

Input: a derivation.  Output: `Check`s.  The text is averaged by Gauss-Hermite quadrature; nothing
of the calculus takes part in that side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.defined_values import value
from derive.calculus.index.expressions import Expression
from derive.draws import generator
from derive.methods.common.record import Check
from derive.methods.covariance_sde.checks import sample
from derive.notation.closures.model import ClosureModel
from derive.notation.closures.numeric import Cloud, run

if TYPE_CHECKING:
    from derive.methods.gaussian_closure.derivation import GaussianClosure, Wave

SIZES = {"B": 3}
SCALE = 0.25


@dataclass(frozen=True)
class Instance:
    """Numbers for one check: arrays by name, sizes by dimension, parameters."""

    arrays: dict[str, np.ndarray]
    sizes: dict[str, int]
    params: dict[str, float]
    numbers: dict[sp.Symbol, float]


def instance(
    model: ClosureModel,
    seed: int,
    *,
    scale: float = SCALE,
    size: int = 2,
    rank: int | None = None,
    block: bool = True,
) -> Instance:
    """A generic law and generic matrices; heads, keys and values of sizes that differ."""
    rng = generator(57, seed)
    sizes = dict(SIZES)
    for position, dim in enumerate(model.dims):
        sizes[dim.name] = size if dim in (model.state_dim, model.key_dim) else 2 + position % 2
    d, e = sizes[model.state_dim.name], sizes[model.key_dim.name]
    arrays = {
        m.data: scale ** (1 if len(m.shape) > 1 else 0)
        * rng.standard_normal([sizes[s.name] for s in m.shape])
        for m in model.matrices
    }
    blocks = (SIZES["B"],) if model.positional and block else ()

    def law(n: int) -> tuple[np.ndarray, np.ndarray]:
        root = rng.standard_normal((*blocks, n, rank or n))
        cov = root @ root.swapaxes(-1, -2) / (2 * n) + (0.2 * np.eye(n) if rank is None else 0)
        return 0.7 * rng.standard_normal((*blocks, n)), cov

    arrays["m"], arrays["S"] = law(d)
    if model.cross:
        blocks = ()
        arrays["key_mean"], arrays["key_cov"] = law(e)
    with_law(arrays)
    if model.positional:
        arrays["theta"] = rng.dirichlet(3 * np.ones(SIZES["B"]))
        add_masks(arrays, SIZES["B"])
        arrays["x"] = rng.standard_normal((*((SIZES["B"],) if block else ()), d))
    else:
        arrays["x"] = rng.standard_normal(d)
    params = {p.name: float(sample(p, rng)) for p in model.params}
    numbers = {p: params[p.name] for p in model.params}
    return Instance(arrays, sizes, params, numbers)


def with_law(arrays: dict[str, np.ndarray]) -> None:
    """Factors of the covariances (any square root serves)."""
    for cov, factor in (("S", "F_S"), ("key_cov", "F_key")):
        if cov in arrays:
            values, vectors = np.linalg.eigh(arrays[cov])
            arrays[factor] = vectors * np.sqrt(np.maximum(values, 0))[..., None, :]


def add_masks(arrays: dict[str, np.ndarray], blocks: int) -> None:
    s, tau = np.arange(blocks)[:, None], np.arange(blocks)[None, :]
    arrays["mask_upto"] = (tau <= s).astype(float)
    arrays["mask_before"] = (tau < s).astype(float)
    arrays["mask_from"] = (tau >= s).astype(float)
    arrays["mask_after"] = (tau > s).astype(float)


def at(one: Instance, expression: Expression, book: Book, **changed: np.ndarray) -> np.ndarray:
    arrays = {**one.arrays, **changed}
    if "S" in changed or "key_cov" in changed:
        with_law(arrays)
    return value(expression, book, arrays, one.sizes, one.numbers)


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


def key_cloud(
    model: ClosureModel, arrays: Mapping[str, np.ndarray], nodes: int, dense: bool = False
) -> Cloud:
    """The law of the keys as points; `dense`: for weights with kinks."""
    cloud = dense_cloud if dense else hermite_cloud
    if model.cross:
        return cloud(arrays["key_mean"], arrays["key_cov"], nodes, None)
    if model.positional:
        parts = [
            cloud(m, S, nodes, float(b))
            for b, (m, S) in enumerate(zip(arrays["m"], arrays["S"], strict=True))
        ]
        return joined(parts, arrays["theta"])
    return cloud(arrays["m"], arrays["S"], nodes, None)


def text_velocity(model: ClosureModel, one: Instance, queries: Cloud, keys: Cloud) -> np.ndarray:
    return run(model, queries, keys, arrays=one.arrays, params=one.params)


def residual(found: np.ndarray, wanted: np.ndarray) -> float:
    """Relative distance; infinite where a value is not a number, so that no maximum hides it."""
    scale = max(1e-3, float(np.max(np.abs(wanted))))
    size = float(np.max(np.abs(found - wanted)) / scale)
    return size if np.isfinite(size) else float("inf")


def rounded(x: float) -> float:
    """Residuals as they are recorded: one digit, so that records do not depend on the machine."""
    return float(f"{max(x, 1e-16):.0e}")


def query_cloud(model: ClosureModel, one: Instance, x: np.ndarray) -> Cloud:
    if model.positional:
        return Cloud(x, np.ones(len(x)) / len(x), np.arange(len(x), dtype=float))
    return Cloud(x[None], np.ones(1))


def coupled(model_result: GaussianClosure) -> bool:
    return any(t.kind == "spectral" for t in model_result.book.of)


def at_point_laws(result: GaussianClosure) -> Check | None:
    """With S = 0 the keys sit at their means: the text there against the expression."""
    if coupled(result):
        return None
    model = result.model
    one = instance(model, 1)
    zero = {n: np.zeros_like(one.arrays[n]) for n in ("S", "key_cov") if n in one.arrays}
    arrays = {**one.arrays, **zero}
    found = at(one, result.velocity, result.book, **zero)
    wanted = text_velocity(
        model, one, query_cloud(model, one, one.arrays["x"]), key_cloud(model, arrays, 1)
    )
    return Check(
        "point laws: text and expression", residual(found, np.reshape(wanted, found.shape)), 1e-12
    )


def keys_by_quadrature(result: GaussianClosure) -> Check:
    """Quadrature of the text over the keys against the velocity."""
    model = result.model
    one = instance(model, 2)
    found = at(one, result.velocity, result.book)
    if coupled(result):
        cloud = key_cloud(model, one.arrays, 24)
        queries = hermite_cloud(one.arrays["m"], one.arrays["S"], 24)
        wanted = text_velocity(model, one, queries, cloud)[::37]
        found = np.stack([at(one, result.velocity, result.book, x=x) for x in queries.at[::37]])
    else:
        kinked = has_kinks(model)
        keys = key_cloud(model, one.arrays, 900 if kinked else 40, kinked)
        wanted = text_velocity(model, one, query_cloud(model, one, one.arrays["x"]), keys)
    return Check(
        "Gauss-Hermite average of the text over the keys",
        residual(found, np.reshape(wanted, found.shape)),
        1e-2 if has_kinks(model) else 1e-8,
    )


def second_difference(result: GaussianClosure) -> Check:
    """The text's second difference in x: zero iff the verdict is exact."""
    model = result.model
    one = instance(model, 3)
    keys = key_cloud(model, one.arrays, 48)
    if coupled(result):
        keys = hermite_cloud(one.arrays["m"], one.arrays["S"], 20)
        out = text_velocity(model, one, keys, keys)
        # the least-squares affine fit leaves nothing
        design = np.concatenate([keys.at, np.ones((len(keys.at), 1))], axis=1)
        root = np.sqrt(keys.weight)[:, None]
        fit = np.linalg.lstsq(design * root, out * root, rcond=None)[0]
        size = residual(design @ fit * root, out * root)
    else:
        x = one.arrays["x"]
        # a generic direction: some definitions are constant along (1, ..., 1)
        step = (0.5 if result.exact else 4.0) * np.cos(np.arange(x.size)).reshape(x.shape)
        values = [
            text_velocity(model, one, query_cloud(model, one, x + k * step), keys)
            for k in (-1, 0, 1)
        ]
        size = residual(values[0] - 2 * values[1] + values[2], np.zeros(1)) * 1e-3
    if result.exact:
        return Check("second difference of the text vanishes", size, 1e-9)
    return Check(
        "second difference of the text does not vanish (1e-6 / size)", 1e-6 / max(size, 1e-300), 1.0
    )


def witness(model: ClosureModel, slope: Expression, book: Book) -> float:
    """How much the gradient of the velocity changes between two points, at random instances."""
    largest = 0.0
    for seed in (5, 6, 7):
        one = instance(model, seed)
        x = one.arrays["x"]
        here = at(one, slope, book)
        for away in (0.5 - x, 9 * x + 1, -9 * x):  # far enough to cross kinks
            gap = here - at(one, slope, book, x=away)
            largest = max(largest, float(np.max(np.abs(np.nan_to_num(gap)))))
        if largest > 1e-3:
            break
    return largest


def moments_by_quadrature(result: GaussianClosure) -> Check:
    """Quadrature over x of the text's velocity against the rates of mean and covariance."""
    from derive.methods.gaussian_closure.derivation import cov_rate

    one = instance(result.model, 4)
    nodes = 20 if result.model.positional else 40
    mean, cov = text_rates(
        result.model, one, nodes, 8 if result.exact and not coupled(result) else nodes
    )
    if result.noise is not None:
        cov = cov + at(one, result.noise, result.book)
    found = at(one, result.mean_rate, result.book), at(one, cov_rate(result), result.book)
    return Check(
        "Gauss-Hermite moments of the text's velocity",
        max(residual(found[0], mean), residual(found[1], cov)),
        1e-2 if has_kinks(result.model) else 1e-7,
    )


def waves_by_quadrature(result: GaussianClosure) -> tuple[Check, str]:
    """The Fourier integrals by NumPy against quadrature of the text, and their error estimate.

    Midpoints in t, u = sinh(t) / (1 + sqrt(E s^2)): every third node is the rule with a third of
    the nodes.  The error is exp(-c / step), so it is about the cube of the distance of the two.
    """
    one = instance(result.model, 4, scale=0.12)
    d = one.sizes[result.model.state_dim.name]
    total = np.concatenate([at(one, result.mean_rate, result.book)[:, None], np.zeros((d, d))], 1)
    total[:, 1:] = at(one, result.jacobian, result.book)
    coarse = total.copy()
    counts = [3 * (wave.rule.nodes // 5) for wave in result.waves]  # the instance is a mild one
    for wave, count in zip(result.waves, counts, strict=True):
        fine, rough = _fourier_sum(result, wave, one, count)
        total, coarse = total + fine, coarse + rough
    mean, cov = text_rates(result.model, one, 40)
    half = total[:, 1:] @ one.arrays["S"]
    gap = max(residual(total[:, 0], mean), residual(half + half.T, cov))
    estimate = residual(coarse, total)
    return (
        Check("Gauss-Hermite moments of the text against the Fourier integral", gap, 1e-9),
        f"quadrature at a random instance: {max(counts)} frequencies, estimated relative error "
        f"{rounded(estimate**3):.0e} (a third of them differ by {rounded(estimate):.0e})",
    )


def _fourier_sum(
    result: GaussianClosure, wave: Wave, one: Instance, nodes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean rate and jacobian, (d, 1 + d), of one scalar function: all nodes, and a third."""
    rule = wave.rule
    count = 2 * int(np.ceil(rule.support * 2.5 * rule.reach / (2 * np.pi))) + 1
    s = np.linspace(-rule.support, rule.support, count)
    values = np.asarray(sp.lambdify(*rule.derivative.args, ["scipy", "numpy"])(s), float)
    values = (values + np.zeros(count)) * (s[1] - s[0])
    size = float(np.max(at(one, wave.size, result.book)))
    scale = 1 / (1 + np.sqrt(size))
    h = np.arcsinh(rule.reach / scale) / nodes

    def pair(mean: Expression, jacobian: Expression, numbers: dict) -> np.ndarray:
        from dataclasses import replace

        where = replace(one, numbers={**one.numbers, **numbers})
        first = at(where, mean, result.book)
        return np.concatenate([first[:, None], at(where, jacobian, result.book)], axis=1)

    powers = [pair(*p, {}) for p in wave.powers]
    fine: np.ndarray = sum(
        (float(c) * p for c, p in zip(rule.taylor, powers, strict=True)), np.zeros(())
    )
    rough = fine
    U = sp.Symbol("u", positive=True)
    for n in range(nodes):
        u = scale * np.sinh(h * (n + 0.5))
        transform = np.exp(-1j * u * s) @ values / (1j * u) ** rule.order
        rest = pair(wave.mean, wave.jacobian, {U: u}).astype(complex)
        for j, p in enumerate(powers):
            rest = rest - (1j * u) ** j / float(sp.factorial(j)) * p
        part = np.real(transform * rest) * scale * np.cosh(h * (n + 0.5)) * h / np.pi
        fine = fine + part
        rough = rough + (3 * part if n % 3 == 1 else 0)
    return fine, rough


def has_kinks(model: ClosureModel) -> bool:
    """Does the text hold a function with kinks?  Gauss-Hermite is then a coarse reference."""
    from derive.methods.gaussian_closure.fields import composed
    from derive.methods.gaussian_closure.singular import singular_points
    from derive.notation.closures.model import trace_closure
    from derive.notation.common.arrays import walk

    for node in walk(trace_closure(model).velocity):
        if node.op == "function" and node.data[0] != "exp":
            for body in (node.data[1], composed(node)[2]):
                points = singular_points(body)
                # of a sum of squares in x: no kink in the keys, but one in the queries
                if points is None or points:
                    return True
    return False


def text_rates(
    model: ClosureModel,
    one: Instance,
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
        cloud = cloud_of(m, S, outer or nodes, None if b is None else float(b))
        gamma = text_velocity(model, one, cloud, keys)
        means.append(cloud.weight @ gamma)
        C = np.einsum("n,ni,nj->ij", cloud.weight, gamma, cloud.at - m)
        covs.append(C + C.T)
    if not model.positional:
        return means[0], covs[0]
    return np.stack(means), np.stack(covs)
