"""The straight-line factorisations against LAPACK, on hard matrices, with their derivatives.

Errors are counted in roundings of the size of the problem; for eigenvalues, vectors and residuals
up to 98 were seen at m <= 16 (graded matrices), twice that is the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from derive.runtime.common import factor, jacobi, lanes
from derive.runtime.common import small_matrices as small
from derive.runtime.common.elimination import steps
from derive.runtime.common.precision import precision

# two, of no other code than three, and the largest, whose programs are the dearest, are slow
SIZES = (1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 16)), 3, 7)
KINDS = ("float64", "float32")
BOUND = 200
jit_solve, jit_factor, jit_eigh, jit_library = map(
    jax.jit,
    (small.straight_solve, factor.straight_psd_factor, jacobi.eigh, factor._library_psd_factor),
)


def general(n: int) -> np.ndarray:
    """Matrices (k, n, n): random, in need of exchanges, graded, of a large condition."""
    rng = np.random.default_rng(n)
    a = rng.standard_normal((n, n))
    swapped = np.roll(np.triu(rng.uniform(1, 2, (n, n))), 1, axis=0)  # zeros where pivots stand
    scale = 10.0 ** -np.arange(n)
    left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    graded = left * np.geomspace(1, 1e-3, n) @ right
    return np.stack([a, swapped, scale[:, None] ** 0.5 * a, graded])


def symmetric(n: int) -> np.ndarray:
    """Matrices (k, n, n): random, graded, of low rank, with eigenvalues that are nearly equal."""
    rng = np.random.default_rng(100 + n)
    a = rng.standard_normal((n, n))
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    scale = 10.0 ** -np.arange(n)
    low = rng.standard_normal((n, max(1, n // 3)))
    half = (np.arange(n) < (n + 1) // 2).astype(float)
    out = [
        a + a.T,
        q * scale @ q.T,
        scale[:, None] ** 0.5 * (np.eye(n) + 0.3) * scale**0.5,
        low @ low.T,
        np.ones((n, n)),
        np.eye(n),
        np.zeros((n, n)),
        q * half @ q.T,
        np.ones((n, n)) + 1e-9 * (a + a.T),
        q * (1 + 1e-12 * scale) @ q.T,
        1e-30 * (np.eye(n) + 1),
        1e30 * (np.eye(n) + 1),
    ]
    return np.stack([(x + x.T) / 2 for x in out])


def eps(kind: Any) -> float:
    return float(jnp.finfo(kind).eps)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("n", SIZES)
def test_solve_leaves_a_small_residual(n: int, dtype: str) -> None:
    with precision(dtype) as kind:
        a = general(n).astype(kind)
        b = np.random.default_rng(0).standard_normal((len(a), n, 2)).astype(kind)
        x = np.asarray(jit_solve(a, b), float)
    a, b = a.astype(float), b.astype(float)
    size = np.abs(a).sum((-2, -1)) * np.abs(x).max((-2, -1)) + np.abs(b).max((-2, -1))
    off = np.abs(a @ x - b).max((-2, -1)) / size
    assert np.all(off < BOUND * eps(dtype)), off / eps(dtype)


@pytest.mark.parametrize("n", (1, 3, 8))
def test_determinants_and_transposed_systems(n: int) -> None:
    with precision("float64"):
        a = general(n)
        sign, size = jax.jit(small.straight_slogdet)(a)
        solved = jax.jit(lambda a, b: jax.vjp(lambda b: small.straight_solve(a, b), b)[1](b)[0])(
            a, jnp.ones((len(a), n, 1))
        )
    true = np.linalg.slogdet(a)
    np.testing.assert_array_equal(sign, true[0])
    np.testing.assert_allclose(size, true[1], rtol=1e-11, atol=1e-11)
    back = np.swapaxes(a, -1, -2) @ np.asarray(solved)
    np.testing.assert_allclose(back, 1.0, atol=1e-10 * np.abs(solved).max())


def test_a_singular_matrix_has_no_determinant_and_no_solution() -> None:
    a = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]])
    with precision("float64"):
        sign, size = map(np.asarray, jax.jit(small.straight_slogdet)(a))
        x = np.asarray(jit_solve(a, np.ones(3)))
    assert sign == 0 and size == -np.inf
    assert not np.all(np.isfinite(x))


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("n", SIZES)
def test_eigenvalues_of_hard_matrices(n: int, dtype: str) -> None:
    """Values, residual and orthogonality; two angles for one pair lose the last on low rank."""
    with precision(dtype) as kind:
        a = symmetric(n).astype(kind)
        values, vectors = (np.asarray(x, float) for x in jit_eigh(a))
    a = a.astype(float)
    size = np.maximum(np.abs(a).max((-2, -1)), 1e-300)
    true = np.linalg.eigvalsh(a)
    turned = np.swapaxes(vectors, -1, -2)
    wrong = {
        "values": np.abs(values - true).max(-1) / size,
        "residual": np.abs(vectors * values[:, None] @ turned - a).max((-2, -1)) / size,
        "orthogonality": np.abs(turned @ vectors - np.eye(n)).max((-2, -1)),
    }
    for what, off in wrong.items():
        assert np.all(off < BOUND * eps(dtype)), (what, off / eps(dtype))
    assert np.all(np.diff(values) >= 0)


def test_not_a_number_ends_the_sweeps() -> None:
    with precision("float64"):
        values, _ = jit_eigh(jnp.full((1, 4, 4), jnp.nan))
    assert np.all(np.isnan(values))


@pytest.mark.parametrize("n", (2, 3, 6, 7, 16))
def test_every_pair_meets_once_in_a_sweep(n: int) -> None:
    met = np.zeros((n, n), int)
    for partner in jacobi.rounds(n):
        np.testing.assert_array_equal(partner[partner], np.arange(n))
        met[np.arange(n), partner] += partner != np.arange(n)
    np.testing.assert_array_equal(met, 1 - np.eye(n, dtype=int))


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("n", SIZES)
def test_factors_of_regular_and_singular_covariances(n: int, dtype: str) -> None:
    """As the library's route: L L^T = V, zero columns at zero pivots, outside the cone: said so."""
    rng = np.random.default_rng(n)
    half = rng.standard_normal((n, n))
    low = np.repeat(rng.standard_normal((1, n)), n, 0)  # equal tokens
    outside = -np.eye(n)
    graded = (10.0 ** -np.arange(n))[:, None] * half
    with precision(dtype) as kind:
        V = np.stack([x @ x.T for x in (half, low, graded, 0 * half)] + [outside]).astype(kind)
        L, inside = (np.asarray(x) for x in jit_factor(V))
        old, known = (np.asarray(x) for x in jit_library(V))
    np.testing.assert_array_equal(inside, [True] * 4 + [False])
    np.testing.assert_array_equal(inside, known)
    L, V = L[:4].astype(float), V[:4].astype(float)
    diagonal = np.sqrt(np.einsum("kii->ki", V))
    size = diagonal[:, :, None] * diagonal[:, None]
    floor = 8 * n * eps(dtype)  # the share of a pivot that counts as rounding
    assert np.all(np.abs(L @ np.swapaxes(L, -1, -2) - V) <= 2 * floor * size)
    np.testing.assert_array_equal(L[1] == 0, np.arange(n)[None] > 0 * np.arange(n)[:, None])
    assert np.all(L[3] == 0) and np.all(old[3] == 0)


def test_cholesky_is_nan_where_there_is_none() -> None:
    with precision("float64"):
        a = jnp.asarray(np.stack([np.eye(3), np.diag([1.0, -1.0, 1.0]), np.zeros((3, 3))]))
        found = np.asarray(jax.jit(small.straight_cholesky)(a))
    np.testing.assert_array_equal(found[0], np.eye(3))
    assert np.all(np.isnan(found[1:]))


def positive(n: int) -> np.ndarray:
    half = np.random.default_rng(n).standard_normal((n, n))
    return half @ half.T + np.diag(np.arange(1.0, n + 1))


def functions() -> Iterator[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    yield (
        "solve",
        lambda a: small.straight_solve(a, a[:, :2]),
        lambda a: jnp.linalg.solve(a, a[:, :2]),
    )
    yield "inverse", small.straight_inverse, jnp.linalg.inv
    yield "slogdet", lambda a: small.straight_slogdet(a)[1], lambda a: jnp.linalg.slogdet(a)[1]
    yield "cholesky", small.straight_cholesky, jnp.linalg.cholesky
    yield "values", lambda a: small.straight_eigh(a)[0], jnp.linalg.eigvalsh
    yield (
        "vectors",
        lambda a: jnp.abs(small.straight_eigh(a)[1]),  # up to sign
        lambda a: jnp.abs(jnp.linalg.eigh(a)[1]),
    )
    yield (
        "factored",
        lambda a: small.straight_solve_factored(small.straight_factors(a), a[:, :2]),
        lambda a: jnp.linalg.solve(a, a[:, :2]),
    )
    yield (
        "covariance",
        lambda a: factor.straight_psd_factor(a)[0],
        lambda a: factor._library_psd_factor(a)[0],
    )


@pytest.mark.parametrize("what", [name for name, _, _ in functions()])
@pytest.mark.parametrize("n", (pytest.param(1, marks=pytest.mark.slow), 3))
def test_derivatives_are_the_librarys(n: int, what: str) -> None:
    """Forward, reverse and second, under vmap."""
    straight, library = next((f, g) for name, f, g in functions() if name == what)
    rng = np.random.default_rng(7)
    with precision("float64"):
        a = jnp.asarray(np.stack([positive(n), positive(n) + np.eye(n)]))
        d = jnp.asarray(rng.standard_normal((n, n)))
        w = jnp.asarray(rng.standard_normal(jax.eval_shape(straight, a[0]).shape))

        def of(f: Callable[..., Any]) -> Callable[..., Any]:
            slope = jax.grad(lambda a: jnp.sum(w * f(a)))

            def both(a: Any) -> Any:
                return (*jax.jvp(f, (a,), (d,)), *jax.jvp(slope, (a,), (d + d.T,)))

            return jax.jit(jax.vmap(both))

        found, true = of(straight)(a), of(library)(a)
    for x, y in zip(found, true, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9 * (1 + np.abs(y).max()))


def test_steps_without_a_loop_are_those_of_a_loop() -> None:
    def step(k: Any, x: Any) -> Any:
        return x * 3 + k

    assert int(steps(5, step, jnp.asarray(1), 0)) == int(steps(5, step, jnp.asarray(1), 5))


def forced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every word take the GPU's branch on the CPU."""
    used: list[str] = []

    def straight(size: int, straight: Any, library: Any, *arguments: Any) -> Any:
        used.append(str(getattr(straight, "__name__", straight)))
        return (straight if size <= small.LARGEST else library)(*arguments)

    for module in (small, factor):
        monkeypatch.setattr(module, "by_platform", straight)
    return used


@pytest.mark.parametrize("n", (3, 5))
def test_lanes_take_the_platforms_branch(n: int) -> None:
    """Both branches of a choice inside `over_lanes` give what vmap gives."""
    rng = np.random.default_rng(n)
    with small.for_gpu(), precision("float64"):
        a = jnp.asarray(rng.standard_normal((n, n, 4)) + 3 * np.eye(n)[..., None])

        def f(a: Any, _: Any) -> Any:
            return small.inverse(a) + small.eigh(a @ a.T)[0] + small.slogdet(a)[1]

        found = np.asarray(jax.jit(lanes.over_lanes(f))(a, ()))
        true = np.asarray(jax.jit(jax.vmap(lambda a: f(a, ()), in_axes=-1, out_axes=-1))(a))
    np.testing.assert_allclose(found, true, rtol=1e-11, atol=1e-11)


def test_a_kernel_on_the_straight_branch_makes_the_same_paths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from derive.generated import shaped_attention as kernel
    from derive.runtime.paths import ensemble

    m = 12  # no step of its own: the factor comes from `psd_factor`
    V0 = 0.3 * np.ones((m, m)) + 0.7 * np.eye(m)
    params = kernel.Params(gamma=0.8, tau_0=1.0)
    run: Any = lambda: kernel.simulate(V0, params, t1=0.05, paths=16, seed=1, dt=0.005, saves=2).V  # noqa: E731
    plain = run()
    ensemble.fixed.cache_clear()
    used = forced(monkeypatch)
    found = run()
    ensemble.fixed.cache_clear()
    assert "straight_psd_factor" in used
    np.testing.assert_allclose(found, plain, rtol=1e-9, atol=1e-10)
    assert np.any(found != plain)  # another way to round


@pytest.mark.slow
def test_a_closure_on_the_straight_branch_has_the_same_solution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from derive.generated import l2_closure as kernel
    from derive.runtime.closures import solver as closure_solver
    from derive.runtime.closures import state as closure_state

    rng = np.random.default_rng(5)
    params = kernel.Params(*(rng.standard_normal((2, 2)) for _ in range(3)))
    cov = np.array([[1.0, 0.3], [0.3, 0.5]])
    run: Any = lambda: kernel.solve(np.zeros(2), cov, params, t1=0.3, saves=2, method="stiff").cov  # noqa: E731
    plain = run()
    for cached in (closure_solver.advancing, closure_solver.starting, closure_state.equation):
        cached.cache_clear()
    used = forced(monkeypatch)
    found = run()
    for cached in (closure_solver.advancing, closure_solver.starting, closure_state.equation):
        cached.cache_clear()
    assert {"straight_factors", "straight_solve_factored"} <= set(used)
    np.testing.assert_allclose(found, plain, rtol=1e-9, atol=1e-12)
