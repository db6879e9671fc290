"""What a generated flow of tokens tells the runtime of its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from derive.runtime.common.records import Record


@dataclass(frozen=True, eq=False)
class FlowModel:
    """A generated module's functions; none of them looks at values, so that JAX transforms them.

    `param_shapes`: symbolic shapes by parameter, () for numbers; n and d are those of the tokens.
    `sphere`: tokens have unit length.  `velocity(x, params)`: (n, d), of tokens x (n, d) among all
    of them with equal masses; tangent on the sphere.  `energy(x, params)`: a number.
    `gram_rate(R, masses, params)`: (K, K), rates of the inner products R of K clusters; it has to
    keep the digits of rates far below one, so it is written without differences of large terms.
    `gram_energy(R, masses, params)`: the energy of clusters, a number.
    `ranges`: by parameter, (low, high, low is open, high is open, words), what numbers are held to.
    `frame(x, params)`, `score(x, params)`: M and S (d, d) where the velocity is the average of M x
    by the softmax of x_a^T S x_b.
    `noise_rate(x, params)`: (d, d), covariance rate of every token's own noise.
    `uniform_velocity(x, masses, params)`: (n, d), tangent, where the matrices of the scores vanish.
    `split(alpha, c)`, `pull(omega, z, h)`: parameters that move tokens by (<mean, alpha> - c) alpha
    and by relu(<z, x> - h) omega; `reversed_piece(params)`: those of minus the velocity;
    `pull_time(u0, u1, k, C, h)`: how long a pull takes a token from u0 to u1 = atanh <x, omega>;
    `split_rate(z, mean, c)`: rate of z = <x, alpha> under a split.
    `ordered`: tokens have places (a causal mask), so that no two may be exchanged.
    """

    params: Record
    param_shapes: Mapping[str, tuple[str, ...]]
    sphere: bool
    velocity: Callable[..., Any]
    energy: Callable[..., Any] | None = None
    gram_rate: Callable[..., Any] | None = None
    ordered: bool = False
    gram_energy: Callable[..., Any] | None = None
    ranges: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    frame: Callable[..., Any] | None = None
    score: Callable[..., Any] | None = None
    noise_rate: Callable[..., Any] | None = None
    uniform_velocity: Callable[..., Any] | None = None
    split: Callable[..., Any] | None = None
    pull: Callable[..., Any] | None = None
    reversed_piece: Callable[..., Any] | None = None
    pull_time: Callable[..., Any] | None = None
    split_rate: Callable[..., Any] | None = None
