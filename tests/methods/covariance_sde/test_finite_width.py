"""Where a corrected SDE is emitted, where it is refused and why, and `derive show --finite-width`.

Definitions that stand on no page; nothing here is random but starting values with fixed seeds.
"""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from command_line import run as _run
from derivations import derivation

from derive.calculus.index.evaluate import evaluate
from derive.errors import Refusal
from derive.face.kernel import text_of
from derive.generated import linear_attention, shaped_relu_mlp, shaped_transformer
from derive.methods.covariance_sde.corrected import Corrected, corrected
from derive.methods.covariance_sde.derivation import derive
from derive.methods.covariance_sde.finite_width import finite_width, of_block
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.layers.model import trace
from derive.registry import find, load
from derive.runtime.paths.at_width import specification
from derive.verify.common.compare import load_module

HEAD = '''"""A definition for a test."""

from derive.notation import *

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width, fixed")
gamma, kappa, tau = params("gamma: in (0, 1)", "kappa: real", "tau: positive")


@covariance_sde(state="X[m, n]", width=n)
'''
GAIN = """def tilted_logits(X):
    W_Q, W_K, W_V = gaussian(n, n), gaussian(n, n), gaussian(n, n)
    Y = (X @ W_Q) @ (X @ W_K).T / n
    A = eye(m) + (1 + kappa / sqrt(n)) * Y / (tau * n)
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)
"""
SKEW = """def squared_logits(X):
    W_K, W_V = gaussian(n, n_k), gaussian(n, n)
    K = X @ W_K
    A = eye(m) + (K @ K.T / n - n_k * X @ X.T / n) / (tau * sqrt(n))
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)
"""
MIXED = """def perturbed_mixing(X):
    W_Q, W_K, W_V = gaussian(n, n), gaussian(n, n), gaussian(n, n)
    Y = (X @ W_Q) @ (X @ W_K).T / n
    A = eye(m) + Y / (tau * n) + kappa * Y.sum(1, keepdims=True) / (tau * n * sqrt(n))
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)
"""


def written(folder: Path, text: str) -> Path:
    name = text.split("(")[0].removeprefix("def ")
    file = folder / f"{name}.py"
    file.write_text(HEAD + text)
    return file


def derived(folder: Path, text: str) -> CovarianceSDE:
    return derive(load(find(str(written(folder, text)))))


def symbols(sde: CovarianceSDE, **values: float) -> dict[sp.Symbol, float]:
    return {s: values[s.name] for s in (*sde.model.dims, *sde.model.params) if s.name in values}


def covariance(m: int, seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((m, m + 2))
    return root @ root.T / (m + 2)


def test_logits_that_depend_on_the_width_correct_drift_and_diffusion(tmp_path: Path) -> None:
    """1/tau^2 becomes (1 + 2 kappa / sqrt n) / tau^2 to first order: drift and one field follow."""
    sde = derived(tmp_path, GAIN)
    found = finite_width(sde)
    V = covariance(2, 1)
    numbers = symbols(sde, m=2.0, gamma=0.6, kappa=-1.5, tau=0.8)
    cold = numbers | symbols(sde, tau=1e9)
    for gained, limit in ((found.drift, sde.drift), (found.diffusion, sde.diffusion)):
        whole, rest = (evaluate(limit, {"V": V}, x) for x in (numbers, cold))
        assert np.max(np.abs(whole - rest)) > 0.01
        value = evaluate(gained, {"V": V}, numbers)
        assert np.allclose(value, 2 * -1.5 * (whole - rest), rtol=0, atol=1e-13)
    assert found.third_cumulant.is_zero
    better = corrected(sde, found)
    kappa = sde.model.params[1]
    assert sorted(better.rates.values(), key=str) == [0, 2 * kappa]
    assert better.conditions == ("1 + (2*kappa)/sqrt(width) >= 0",)
    numbers |= {better.width: 25.0}
    noise = evaluate(better.sde.noise.covariance(), {"V": V}, numbers)
    exact = evaluate(sde.diffusion, {"V": V}, numbers)
    exact = exact + evaluate(found.diffusion, {"V": V}, numbers) / 5
    for value in (noise, evaluate(better.diffusion, {"V": V}, numbers)):
        assert np.allclose(value, exact, rtol=0, atol=1e-13)


def test_a_width_at_which_the_diffusion_is_negative_is_refused_at_run_time(tmp_path: Path) -> None:
    entry = find(str(written(tmp_path, GAIN)))
    file = tmp_path / "built.py"
    file.write_text(text_of(entry))
    module = load_module(file)
    given = module.Params(gamma=0.6, kappa=-2.0, tau=0.5)
    V0 = np.array([[1.0, 0.3], [0.3, 1.0]])
    # 1 + 2 kappa / sqrt(n) >= 0 from n = 16 on
    with pytest.raises(ValueError, match="from width = 16 on"):
        module.simulate(V0, given, t1=0.25, paths=64, seed=1, width=15)
    assert module.simulate(V0, given, t1=0.25, paths=64, seed=1, width=16).exited == 0
    with jax.enable_x64(True):
        at = module.ParamsAtWidth(**given._asdict(), width=64.0)
        assert [float(x) for x in module.field_sizes_at_width(at)] == [0.5]
        far = module.ParamsAtWidth(**given._asdict(), width=1e24)
        limit = module.diffusion(jnp.asarray(V0), given)
        assert np.allclose(module.diffusion_at_width(jnp.asarray(V0), far), limit, atol=1e-10)


def test_a_third_cumulant_is_derived_and_refused(tmp_path: Path) -> None:
    """Logits K K^T - E with n_k fixed keys: a Wishart matrix, whose third cumulants are known."""
    model = load(find(str(written(tmp_path, SKEW))))
    found = of_block(trace(model))
    V, u = covariance(3, 5), np.array([0.4, -1.1, 0.7])
    numbers = {s: {"gamma": 0.6, "tau": 0.9, "m": 3.0, "n_k": 2.0}.get(s.name, 0.0)
               for s in (*model.dims, *model.params)}  # fmt: skip
    value = evaluate(found.third_cumulant, {"V": V}, numbers)
    along = np.einsum("abcdef,a,b,c,d,e,f->", value, u, u, u, u, u, u)
    w = V @ u
    A, B, C = u @ V @ u, w @ V @ w, u @ V @ w
    exact = (2 * 0.36 / 0.9) ** 3 * 2 * (2 * C**3 + 6 * A * B * C)
    assert along == pytest.approx(exact, rel=1e-12)
    with pytest.raises(Refusal, match="third cumulant .* no SDE has it as its generator"):
        corrected(derivation("linear_attention"), found)


def test_a_diffusion_that_is_not_shown_positive_is_refused(tmp_path: Path) -> None:
    sde = derived(tmp_path, MIXED)
    found = finite_width(sde)
    assert not found.diffusion.is_zero and found.third_cumulant.is_zero
    with pytest.raises(Refusal, match="not shown to be positive semi-definite"):
        corrected(sde, found)
    text = text_of(find(str(tmp_path / "perturbed_mixing.py")))
    assert "at_width" not in text and "ParamsAtWidth" not in text


def test_where_the_first_correction_vanishes_there_is_no_corrected_sde() -> None:
    sde = derivation("linear_attention")
    found = finite_width(sde)
    assert found.vanishes and found.second_diffusion is not None
    assert any("sqrt(n) -> -sqrt(n)" in fact for fact in found.facts)
    with pytest.raises(Refusal, match="L_1 = 0"):
        corrected(sde, found)
    with pytest.raises(ValueError, match="no correction for a finite n"):
        params = linear_attention.Params(0.5, 1.0)
        linear_attention.simulate(np.eye(2), params, t1=0.1, paths=4, seed=1, width=32)


def test_blocks_add_their_corrections() -> None:
    """The transformer's is the MLP's: attention has none."""
    mlp, whole = (specification(x._SPEC) for x in (shaped_relu_mlp, shaped_transformer))
    V = jnp.asarray(covariance(3, 2))
    gained = []
    for module, spec, extra in (
        (shaped_relu_mlp, mlp, {}),
        (shaped_transformer, whole, {"tau_0": 0.7}),
    ):
        given = {"gamma": 0.6, "c_plus": 0.3, "c_minus": -1.2, **extra}
        at = spec.params(**given, width=9.0)
        gained.append(spec.drift(V, at, 0.0) - module.drift(V, module.Params(**given)))
    assert np.allclose(gained[0], gained[1], rtol=0, atol=1e-6)
    assert np.max(np.abs(gained[0])) > 1e-3


@pytest.mark.parametrize("module", [shaped_relu_mlp, shaped_transformer])
def test_emitted_kernels_at_a_width_are_the_derived_expressions(module) -> None:  # type: ignore[no-untyped-def]
    """Drift, and mean and covariance of one step: 2^16 draws, 5 standard errors, step 1e-3."""
    better: Corrected = corrected(derivation(module.MODEL))
    values = {"gamma": 0.6, "c_plus": 0.3, "c_minus": -1.2, "tau_0": 0.7}
    V = covariance(2, 3)
    numbers = symbols(better.sde, m=2.0, **values) | {better.width: 9.0}
    own = {n: values.get(n, 9.0) for n in module.ParamsAtWidth._fields}
    exact = evaluate(better.drift, {"V": V}, numbers)
    with jax.enable_x64(True):
        given = module.ParamsAtWidth(**own)
        for drift in (module.drift_at_width, jax.jit(module.drift_at_width)):
            assert np.allclose(drift(jnp.asarray(V), given), exact, rtol=0, atol=1e-13)
        lift = evaluate(better.sde.step.lift, {"V": V}, numbers)
        assert np.allclose(module.lift_at_width(jnp.asarray(V), given), lift, rtol=0, atol=1e-13)
        h, draws = 1e-3, 2**16
        L = jnp.broadcast_to(jnp.asarray(np.linalg.cholesky(V)), (draws, 2, 2))
        keys = jax.random.split(jax.random.key(4), len(module._SPEC.at_width.step_blocks))
        blocks = []
        for key, block in zip(keys, module._SPEC.at_width.step_blocks.values(), strict=True):
            G = jax.random.normal(key, (draws // 2, 2, 2))
            G = jnp.concatenate([G, -G])
            blocks.append((G + G.mT) / np.sqrt(2) if block.kind == "symmetric" else G)
        dims = module.Dims(**{d: 1 / h for d in module.Dims._fields})
        new = np.asarray(module.step_layer_at_width(L, blocks, given, dims))
    pairs = (new[: draws // 2] + new[draws // 2 :]) / 2 - V  # odd noise cancels
    error = pairs.std(axis=0) / np.sqrt(len(pairs))
    assert np.all(np.abs(pairs.mean(axis=0) - h * exact) < 5 * error + 30 * h**2)
    away = new - new.mean(axis=0)
    found = np.einsum("kab,kcd->abcd", away, away) / draws / h
    target = evaluate(better.diffusion, {"V": V}, numbers)
    assert np.allclose(found, target, rtol=0, atol=0.03 * np.max(target))


def test_show_says_which_parts_vanish_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "show", "shaped_relu_mlp", "--finite-width")
    assert code == 0
    assert "L_1 diffusion: vanishes by parity" in out
    assert "L_1 third cumulant: vanishes by parity" in out
    assert "corrected SDE, weak error O(1/n)" in out
    assert "coefficient of n^(-1/2) in n E[V' - V] (2 terms)" in out


def test_show_reports_the_second_order_as_information(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "show", "linear_attention", "--finite-width", "--format", "json")
    found = json.loads(out)
    assert code == 0 and found["L_1 vanishes"] and found["rates"] is None
    assert "there is no corrected SDE" in found["corrected SDE"]
    terms = found["equations"]["L_2 covariance"]
    assert any("n_k" in t["coefficient"] for t in terms)
    assert any("n_k enters at order 1/n, though not the limit" in f for f in found["facts"])
    code, out, _ = _run(capsys, "show", "linear_attention", "--finite-width", "--format", "latex")
    assert code == 0 and r"\Sigma^{(2)}_{a b, c d} ={}&" in out and out.endswith("}\n")


@pytest.mark.parametrize(
    "argv, said",
    [
        (("post_norm_shaped_attention",), "rows that are normalised after the step"),
        (("linear_closure",), "a model of kind gaussian_closure"),
        (("linear_attention", "--steps"), "no record of steps"),
    ],
)
def test_show_refuses_what_has_no_expansion(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], said: str
) -> None:
    code, out, err = _run(capsys, "show", *argv, "--finite-width")
    assert code == 2 and said in err and not out
