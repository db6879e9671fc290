"""Paths, simulated and pure, are the steps of the equations, written again in NumPy."""

from __future__ import annotations

from pathlib import Path

import pytest
from derivations import derivation

import derive
from derive.derivation import derived
from derive.registry import find
from derive.verify.covariance_sde import replay

TEXT = '''"""A branch whose size depends on depth."""
from derive.notation import covariance_sde, dims, eye, gaussian, params, softmax, sqrt

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0 = params("gamma: in (0, 1), depends on depth", "tau_0: positive")


@covariance_sde(state="X[m, n]", width=n)
def deep(X):
    """Shaped attention with a branch that changes along the depth."""
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    A = eye(m) + softmax(logits / (tau_0 * sqrt(n * n_k))) - 1 / m
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)
'''


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    folder: Path = tmp_path_factory.mktemp("deep")
    (folder / "deep.py").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        deep = find(str(folder / "deep.py"))
        shipped = ("shaped_attention", "random_value_sphere_attention")
        yield {n: (derivation(n), derive.load(n)) for n in shipped} | {
            "deep": (derived(deep), derive.compile(str(folder / "deep.py")))
        }


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("shaped_attention", "network"),
        ("deep", "network"),  # parameters that change along the depth
        ("random_value_sphere_attention", "euler"),
        pytest.param("shaped_attention", "euler", marks=pytest.mark.slow),
        pytest.param("deep", "euler", marks=pytest.mark.slow),
        pytest.param("random_value_sphere_attention", "network", marks=pytest.mark.slow),
    ],
)
def test_every_step_of_a_path_is_the_equations(models, name, scheme) -> None:  # type: ignore[no-untyped-def]
    result, module = models[name]
    step = replay._network(result) if scheme == "network" else replay._euler(result)
    assert replay._pure_difference(result, module, scheme, step) < 1e-12
    assert replay._difference(result, module, scheme, step) < 1e-12
