"""`over_lanes` is vmap over the last axis, for every kind of expression."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from derive.runtime.common.lanes import over_lanes

CASES: dict[str, Any] = {
    "products": lambda x, c: (x["F"] @ x["F"].mT @ c, x["m"] @ c),
    "outer": lambda x, c: x["m"][:, None] * x["m"][None, :] + c,
    "einsum": lambda x, c: jnp.einsum("ij,jk,ik->i", x["F"], c, x["F"]),
    "reductions": lambda x, c: (x["F"].sum(0), x["F"].max(), x["F"].mean(), jnp.trace(x["F"])),
    "where": lambda x, c: jnp.where(x["F"] > 0, x["F"], c) ** 2,
    "inverse": lambda x, c: jnp.linalg.inv(x["F"]) @ x["F"].mT,
    "solve": lambda x, c: jnp.linalg.solve(x["F"], c),
    "solve vector": lambda x, c: jnp.linalg.solve(x["F"], x["m"]),
    "solve constant": lambda x, c: jnp.linalg.solve(c, x["F"]),
    "cholesky": lambda x, c: jnp.linalg.cholesky(x["F"] @ x["F"].mT + jnp.eye(len(c))),
    "cholesky solve": lambda x, c: jax.scipy.linalg.cho_solve(
        (jnp.linalg.cholesky(x["F"] @ x["F"].mT + jnp.eye(len(c))), True), c
    ),
    "determinant": lambda x, c: jnp.linalg.det(x["F"]),
    "eigenvalues": lambda x, c: jnp.linalg.eigvalsh(x["F"] @ x["F"].mT),
    "svd": lambda x, c: jnp.linalg.svd(x["F"], compute_uv=False),
    "scan": lambda x, c: jax.lax.scan(lambda a, row: (a + row, a @ c), x["m"], x["F"]),
    "reverse scan": lambda x, c: jax.lax.scan(
        lambda a, row: (a * row.sum() + x["m"], (a, row)), x["m"], c, reverse=True
    ),
    "nested scan": lambda x, c: jax.lax.scan(
        lambda a, row: ({"u": a["u"] + row["r"] @ c, "v": a["v"] * row["s"][0]}, a["u"].sum()),
        {"u": x["m"], "v": x["F"]},
        {"r": x["F"], "s": c},
    ),
    "complex": lambda x, c: jnp.real(jnp.exp(1j * x["m"]) @ (x["F"] + 2j * c)),
    "stack": lambda x, c: jnp.stack([x["F"][0], x["m"], c[0]]),
    "constant": lambda x, c: (c @ c, jnp.zeros(2)),
    "derivative": lambda x, c: jax.jacfwd(lambda m: jnp.linalg.solve(x["F"] + m[0] * c, m))(x["m"]),
    "equal expressions": lambda x, c: (x["F"] @ c) * (x["F"] @ c) + jnp.tril(x["F"]),
    "integers": lambda x, c: jnp.linalg.matrix_power(x["F"], 3) + jnp.argmax(x["m"]),
}


# 3 and 4 are written out by the same rules
@pytest.mark.parametrize("d", [1, 3, pytest.param(4, marks=pytest.mark.slow), 8, 11])
def test_over_lanes_is_vmap(d: int) -> None:
    """All cases of a size in one program: most of the time is XLA's, a program at a time."""
    rng = np.random.default_rng(d)
    with jax.enable_x64(True):
        x = {
            "F": jnp.asarray(rng.normal(size=(d, d, 5))),
            "m": jnp.asarray(rng.normal(size=(d, 5))),
        }
        c = jnp.asarray(rng.normal(size=(d, d)))

        def both(x: Any) -> dict[str, tuple[Any, Any]]:
            def mapped(f: Any) -> Any:
                return jax.vmap(lambda x: f(x, c), in_axes=-1, out_axes=-1)(x)

            return {name: (over_lanes(f)(x, c), mapped(f)) for name, f in CASES.items()}

        for name, (found, wanted) in jax.jit(both)(x).items():
            assert jax.tree.structure(found) == jax.tree.structure(wanted), name
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
                assert a.shape == b.shape and a.dtype == b.dtype, name
                assert np.abs(a - b).max() <= 1e-9 * (1 + np.abs(b).max()), name


def test_a_factorisation_pivots() -> None:
    with jax.enable_x64(True):
        a = jnp.asarray([[0.0, 1, 2], [1, 0, 3], [4, 5, 0]])[..., None]
        found = jax.jit(over_lanes(lambda a, _: jnp.linalg.inv(a)))(a, ())
        assert np.allclose(found[..., 0], np.linalg.inv(a[..., 0]), atol=1e-14)


@pytest.mark.parametrize("name", ["scan", "reverse scan", "nested scan"])
def test_scans_keep_the_lanes_last(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but speed would tell: a scan without a rule is vmapped, ten times slower."""
    from derive.runtime.common.lanes import _Evaluation

    seen = []
    mapped = _Evaluation._mapped

    def spy(self: Any, eqn: Any, values: Any) -> Any:
        seen.append(eqn.primitive.name)
        return mapped(self, eqn, values)

    monkeypatch.setattr(_Evaluation, "_mapped", spy)
    x = {"F": jnp.ones((3, 3, 5)), "m": jnp.ones((3, 5))}
    jax.make_jaxpr(over_lanes(CASES[name]))(x, jnp.ones((3, 3)))
    assert "scan" not in seen
