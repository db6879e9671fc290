"""What words say of a run reaches that run alone, and a text on numbers binds all that it names."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from derive.errors import DefinitionError
from derive.methods.optimal_control.moment_dynamics import numeric_rates
from derive.notation.closures.numeric import Cloud, run
from derive.notation.common.tracing import Run, current, running
from derive.notation.control.dynamics import moment_rates
from derive.notation.control.problem import trace_problem
from derive.registry import entries, load

CLOSURE = """from derive.notation import *

d = dims("d: width")
V, A = matrices(V=(d, d), A=(d, d))
scale = params("scale: positive")


def weight(x, y, by=scale, through=A):
    return exp(x @ (through @ y) / by)


@gaussian_closure(state="x[d]")
def attention(x, y):
    return average(V @ y, weight(x, y))


n = dims("n: tokens")


@optimal_control(state="x[n, d]", control="u[n, d]", data="B[d, d], C[d, d]")
def steer(x, u, B, C):
    rate = particle_velocity(attention, x, V=B, A=C, scale=1)
    return problem(dynamics=rate + u, running=squared_norm(x) + squared_norm(u))
"""


@pytest.fixture
def models(tmp_path: Path) -> dict:  # type: ignore[type-arg]
    file = tmp_path / "user_model.py"
    file.write_text(CLOSURE, encoding="utf-8")
    return {e.name: load(e) for e in entries(file)}


def test_names_and_facts_of_words_reach_the_trace(models: dict) -> None:  # type: ignore[type-arg]
    traces = trace_problem(models["steer"]), trace_problem(models["steer"])
    for trace in traces:
        assert {"mean", "rate", "w"} <= set(trace.names.values())
        assert [f.partition(":")[0] for f in trace.facts] == ["particles of attention"]
    first, second = ({a for a, word in t.names.items() if word == "w"} for t in traces)
    assert not first & second


def test_runs_nest_and_end() -> None:
    outer, inner = Run(), Run()
    with running(outer):
        with running(inner):
            assert current() is inner
        assert current() is outer
    assert current() is not outer


def test_threads_keep_their_runs_apart() -> None:
    seen: list[Run] = []
    with running(Run()) as own:
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
        assert current() is own
    assert seen and seen[0] is not own


def test_rates_on_plain_arrays_are_read_as_the_run_says(models: dict) -> None:  # type: ignore[type-arg]
    given = {"V": np.eye(2), "A": np.eye(2), "scale": 2.0}
    law = np.array([0.3, -0.1]), np.array([[0.5, 0.1], [0.1, 0.4]])
    with pytest.raises(DefinitionError, match="by the method optimal_control alone"):
        moment_rates(models["attention"], *law, **given)
    with running(Run(rates=numeric_rates)):
        mean, cov = moment_rates(models["attention"], *law, **given)
    # exact: the weight tilts the law of the keys, m' = V (m + S A^T m / scale)
    np.testing.assert_allclose(mean, law[0] + law[1] @ law[0] / 2, rtol=1e-12)
    np.testing.assert_allclose(cov, law[1] @ law[1], rtol=1e-12)


def test_defaults_of_a_helper_are_bound_to_numbers(models: dict) -> None:  # type: ignore[type-arg]
    """A matrix and a parameter that stand as defaults are those of the file."""
    rng = np.random.default_rng(0)
    x, V, A = rng.normal(size=(4, 2)), rng.normal(size=(2, 2)), rng.normal(size=(2, 2))
    cloud = Cloud(x, np.full(4, 0.25))
    found = run(models["attention"], cloud, cloud, arrays={"V": V, "A": A}, params={"scale": 3.0})
    w = np.exp(x @ A @ x.T / 3)
    np.testing.assert_allclose(found, w @ x @ V.T / w.sum(axis=1, keepdims=True), rtol=1e-12)
