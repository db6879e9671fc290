"""Scalars of a definition that depend on the width otherwise than as a power of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import sympy as sp

import derive
from derive.errors import DefinitionError, Refusal
from derive.notation.common.scalars import Opaque, number

TEXT = '''"""A random residual branch."""
from derive.notation import cos, covariance_sde, dims, exp, gaussian, log, params, sqrt

m, n = dims("m: tokens", "n: width")
gamma, tau = params("gamma: in (0, 1)", "tau: positive")


@covariance_sde(state="X[m, n]", width=n)
def layer(X):
    """Skip and branch, the branch scaled."""
    return sqrt(1 - gamma**2) * X + gamma * {scale} * X @ gaussian(n, n) / sqrt(n)
'''


def written(scale: str, folder: Path) -> str:
    file = folder / "scaled.py"
    file.write_text(TEXT.format(scale=scale))
    return str(file)


@pytest.mark.parametrize(
    "scale", ["log(n)", "exp(n)", "1 / sqrt(log(n))", "exp(sqrt(n) / tau)", "n ** tau"]
)
def test_a_scale_that_is_no_power_is_refused_as_that(scale: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"grows like no fixed power of n") as told:
        derive.derive(written(scale, tmp_path))
    assert told.value.place is not None and told.value.place.line == 11


@pytest.mark.parametrize(
    "scale",
    [
        "exp(1 / n)",
        "tau ** (1 / n)",
        "cos(tau / sqrt(n))",
        "2 / (1 + exp(-tau / n))",
        "(1 + 1 / n) ** tau",
        "sqrt((n + tau) / (n + 2))",
    ],
)
def test_a_scale_with_a_power_series_gives_its_first_coefficient(
    scale: str, tmp_path: Path
) -> None:
    """One layer gives (1 - gamma^2 + gamma^2 scale^2) V, so the drift is n gamma^2 (scale^2 - 1)
    at n = oo, by SymPy's own limit; exp(1/n) was once said to change V by order one."""
    gamma, tau = sp.symbols("gamma tau", positive=True)
    n, V = sp.Symbol("n", positive=True), sp.Symbol("V_11")
    (entry,) = derive.derive(written(scale, tmp_path)).drift.sympy(m=1)
    factor = sp.sympify(scale, {"n": n, "tau": tau})
    wanted = sp.limit(n * gamma**2 * (factor**2 - 1), n, sp.oo)
    named = {s: sp.Symbol(s.name, positive=s.name != "V_11") for s in entry.free_symbols}
    found = entry.subs({s: {"gamma": gamma, "tau": tau, "V_11": V}[s.name] for s in named})
    assert wanted != 0 and sp.simplify(found - wanted * V) == 0


BRANCHES = '''"""Skip and branch over the root of their squares' sum."""
from derive.notation import covariance_sde, dims, gaussian, params, sqrt

m, n = dims("m: tokens", "n: width")
q, b = params("q: positive", "b: real")


@covariance_sde(state="X[m, n]", width=n)
def layer(X):
    """{weights} weights in the branch."""
    h = {branch} / sqrt(n)
    return {whole}
'''
ONE, TWO = "X @ gaussian(n, n)", "X @ gaussian(n, n) @ gaussian(n, n) / sqrt(n)"


@pytest.mark.parametrize(("branch", "quartic"), [(ONE, 1), (TWO, 2)])
@pytest.mark.parametrize(
    "whole",
    [
        "(X + q * (h + b * h / n)) / sqrt(1 + q**2)",
        "X / sqrt(1 + q**2) + (1 + b / n) * q * h / sqrt(1 + q**2)",
    ],
)
def test_a_normalisation_by_a_sum_of_parameters_counts_no_power(
    whole: str, branch: str, quartic: int, tmp_path: Path
) -> None:
    """By hand, with g^2 = q^2 / (1 + q^2): drift 2 b g^2 V, and 2 g^2 (1 - g^2) + k g^4 times
    V_ac V_bd + V_ad V_bc.  Over the expanded denominators every term grew like n."""
    (tmp_path / "branches.py").write_text(
        BRANCHES.format(weights=quartic, branch=branch, whole=whole)
    )
    found = derive.derive(str(tmp_path / "branches.py"))
    drift, noise = found.drift.sympy(m=1)[0], found.diffusion.sympy(m=1)[0, 0, 0, 0]
    symbols = {s.name: s for s in noise.free_symbols | drift.free_symbols}
    q, b, V = symbols["q"], symbols["b"], symbols["V_11"]
    g = q**2 / (1 + q**2)
    assert sp.simplify(drift - 2 * b * g * V) == 0
    assert sp.simplify(noise - 2 * (2 * g * (1 - g) + quartic * g**2) * V**2) == 0


def test_a_root_with_a_correction_has_its_series(tmp_path: Path) -> None:
    """sqrt(1 - gamma^2 + tau / n) in front of the skip alone: drift tau V."""
    text = TEXT.format(scale="1").replace("sqrt(1 - gamma**2)", "sqrt(1 - gamma**2 + tau / n)")
    (tmp_path / "root.py").write_text(text)
    (entry,) = derive.derive(str(tmp_path / "root.py")).drift.sympy(m=1)
    assert sp.simplify(entry - sp.Mul(*entry.free_symbols)) == 0
    assert {s.name for s in entry.free_symbols} == {"tau", "V_11"}


def test_what_is_not_real_is_named_in_symbols_of_the_definition() -> None:
    """The message looked up a symbol that stands for a root, and crashed."""
    n, k = sp.symbols("n k", real=True)
    root = Opaque("s_1", sp.sqrt(1 + k / n))
    assert number(n * root, {n: 4.0, k: 12.0}) == 8.0
    with pytest.raises(DefinitionError, match=r"is not real at k = -3, n = 2"):
        number(n * root, {n: 2.0, k: -3.0})


def test_two_scales_in_one_layer_each_have_their_series(tmp_path: Path) -> None:
    """sqrt(1 - gamma^2 + tau/n) before the skip, exp(1/n) before the branch: by hand
    (tau + 2 gamma^2) V."""
    text = TEXT.format(scale="exp(1 / n)")
    text = text.replace("sqrt(1 - gamma**2) ", "sqrt(1 - gamma**2 + tau / n) ")
    (tmp_path / "two.py").write_text(text)
    found = derive.derive(str(tmp_path / "two.py")).drift.sympy(m=1)[0]
    named = {s.name: s for s in found.free_symbols}
    wanted = (2 * named["gamma"] ** 2 + named["tau"]) * named["V_11"]
    assert sp.simplify(found - wanted) == 0
