"""A dimension in a number of a closure is read off the arrays that a kernel is given."""

import numpy as np
import pytest

from derive import cli
from derive.verify.common.compare import load_module

TEXT = '''"""Softmax with a temperature made of dimensions."""

from derive.notation import average, dims, exp, gaussian_closure, matrices, sqrt

d, d_k, d_v = dims("d: token dimension", "d_k: key dimension", "d_v: of no array")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))


@gaussian_closure(state="x[d]")
def sized(x, y):
    return average(V @ y, exp((Q @ x) @ (K @ y) * FACTOR / sqrt(1)))
'''


def build(tmp_path, factor):
    file = tmp_path / "sized.py"
    file.write_text(TEXT.replace("FACTOR", factor), encoding="utf-8")
    return cli.main(["build", str(file), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("factor", "value"),
    [
        pytest.param("1 / sqrt(d_k)", 3**-0.5, marks=pytest.mark.slow),
        ("d / d_k**2", 2 / 9),
        pytest.param("1 / d", 1 / 2, marks=pytest.mark.slow),
    ],
)
def test_rates_are_those_of_the_scaled_matrix(tmp_path, factor, value):
    assert build(tmp_path, factor) == 0
    module = load_module(tmp_path / "out" / "sized.py")
    rng = np.random.default_rng(3)
    Q, K, V = 0.5 * rng.normal(size=(3, 2)), 0.5 * rng.normal(size=(3, 2)), rng.normal(size=(2, 2))
    root, m = rng.normal(size=(2, 2)), rng.normal(size=2)
    S = root @ root.T / 2
    params = module.Params(Q=Q, K=K, V=V)
    # the tilted keys of a query x have mean m + S A x, A = K^T Q
    right = V @ (m + value * S @ K.T @ Q @ m)
    assert np.allclose(module.mean_rate(m, S, params), right, rtol=1e-5)
    x = rng.normal(size=(4, 2))
    weights = np.exp(value * x @ Q.T @ K @ x.T)
    right = (weights / weights.sum(1, keepdims=True)) @ x @ V.T
    assert np.allclose(module.particle_velocity(x, x, params), right, rtol=1e-5)


def test_a_size_of_no_array_is_refused(tmp_path, capsys):
    assert build(tmp_path, "1 / sqrt(d_v)") == 2
    assert "d_v" in capsys.readouterr().err
