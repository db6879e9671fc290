"""`derive simulate` hands on what the modules give, for every method, and refuses in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys import installed, python

from derive.commands import simulate_command
from derive.entry import generated_folder
from derive.kernels import kernel
from derive.kinds.optimal_control import simulation as control
from derive.registry import registered
from tests.support.command_line import run

pytest.importorskip("matplotlib")

CLOSURE = ("simulate", "softmax_closure", "--t1", "0.3", "--saves", "4", "--tokens", "20")
CONTROL = ("simulate", "mean_tracking", "--T", "3", "--saves", "7", "--searches", "2")
OWN = '''"""A file of a user."""
from derive.notation import dims, gaussian_closure, integral, matrices

d = dims("d: size of a token")
A = matrices(A=(d, d))


@gaussian_closure(state="x[d]")
def mine(x, y):
    """Tokens that a matrix moves by their products."""
    return integral(A @ y, x @ y)
'''


def module_of(name: str):
    return kernel(generated_folder() / f"{name}.py", name)


def values(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as data:
        return dict(data)


def four(name: str) -> list[str]:
    """Arrays, and the picture in three formats."""
    return [f"{name}.{kind}" for kind in ("npz", "pdf", "png", "svg")]


def written(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir()) if folder.exists() else []


def test_the_arrays_of_a_closure_are_those_of_its_module(tmp_path, capsys):
    V = np.array([[0.4, -0.2], [0.1, 0.3]])
    np.save(tmp_path / "V.npy", V)
    np.save(tmp_path / "S.npy", np.diag([1.0, 0.5]))
    words = ("--param", f"V={tmp_path / 'V.npy'}", "--cov", tmp_path / "S.npy", "--size", "d_k=1")
    code, out, err = run(capsys, *CLOSURE, *words, "--out", tmp_path / "out")
    assert code == 0, err
    assert "Q (1, 2)" in out and " V (" not in out and "20 tokens" in out
    assert written(tmp_path / "out") == four("softmax_closure")
    got = values(tmp_path / "out" / "softmax_closure.npz")
    module = module_of("softmax_closure")
    params = module.Params(*(got[f"param_{n}"] for n in module.Params._fields))
    assert np.array_equal(params.V, V) and params.Q.shape == (1, 2)
    times = np.linspace(0, 0.3, 4)
    wanted = module.solve(np.zeros(2), np.diag([1.0, 0.5]), params, t1=0.3, saves=times)
    for name in ("times", "mean", "cov", "blow_up_time"):
        assert np.array_equal(got[name], getattr(wanted, name)), name
    assert got["tokens"].shape == (4, 20, 2)
    cloud = module.particles(got["tokens"][0], params, t1=0.3, steps=162, saves=4)
    assert np.array_equal(cloud.x, got["tokens"])
    centred = cloud.x[-1] - cloud.x[-1].mean(0)
    np.testing.assert_allclose(got["tokens_cov"][-1], centred.T @ centred / 20, rtol=1e-12)


def test_a_blow_up_is_told_and_the_times_stop_short_of_it(tmp_path, capsys):
    for name in ("Q", "K", "V"):
        np.save(tmp_path / f"{name}.npy", 1.5 * np.eye(2))
    given = [w for n in "QKV" for w in ("--param", f"{n}={tmp_path / n}.npy")]
    code, out, err = run(capsys, *CLOSURE, *given, "--out", tmp_path / "out", "--t1", "9")
    assert code == 0, err
    got = values(tmp_path / "out" / "softmax_closure.npz")
    assert "blow-up at t = " in out and np.isfinite(got["cov"]).all()
    assert (
        got["times"][-1] == pytest.approx(0.98 * float(got["blow_up_time"]))
        and got["times"][-1] < 9
    )


def test_a_closure_with_positions_is_drawn_alone_and_says_so(tmp_path, capsys):
    words = ("simulate", "causal_linear_closure", "--t1", "0.2", "--saves", "3", "--size", "B=2")
    code, out, err = run(capsys, *words, "--out", tmp_path)
    assert code == 0, err
    assert "all of its block: the closure alone is drawn" in out
    got = values(tmp_path / "causal_linear_closure.npz")
    assert got["cov"].shape == (3, 2, 2, 2) and "tokens" not in got


@pytest.mark.slow  # quick: the next test, whose solver compiles a third
def test_the_arrays_of_an_extremal_are_those_of_its_module(tmp_path, capsys, monkeypatch):
    module = module_of("mean_tracking")  # one for both, since each compiles for long
    monkeypatch.setattr(control, "kernel_of", lambda *_: module)
    start = np.array([1.0, -0.5])
    np.save(tmp_path / "m.npy", start)
    words = ("--start", f"m={tmp_path / 'm.npy'}", "--size", "k=1")
    code, out, err = run(capsys, *CONTROL, *words, "--out", tmp_path / "out")
    assert code == 0, err
    assert written(tmp_path / "out") == four("mean_tracking")
    got = values(tmp_path / "out" / "mean_tracking.npz")
    params = module.Params(*(got[f"param_{n}"] for n in module.Params._fields))
    assert params.B.shape == (2, 1) and np.array_equal(got["x_m"][0], start)
    found = module.turnpike(params, starts=2, seed=0, x_guess=module.State(start))
    times = np.linspace(0, 3, 7)
    wanted = module.solve(module.State(start), params, T=3, near=found, saves=times)
    assert np.array_equal(got["x_m"], wanted.x.m) and np.array_equal(got["u_u"], wanted.u.u)
    assert float(got["cost"]) == wanted.cost and np.array_equal(got["static_x_m"], found.x.m)
    assert str(got["verdict"]) == found.verdict
    for word in (
        f"cost {float(wanted.cost):.8g}",
        "residuals: defect",
        f"verdict: {found.verdict}",
    ):
        assert word in out


def test_the_arrays_of_a_flow_are_those_of_its_module(tmp_path, capsys):
    words = ("--param", "beta=2", "--tokens", "6", "--t1", "1", "--saves", "5")
    code, out, err = run(capsys, "simulate", "sphere_attention", *words, "--out", tmp_path / "out")
    assert code == 0, err
    assert "clusters: 6 at the start" in out
    got = values(tmp_path / "out" / "sphere_attention.npz")
    module = module_of("sphere_attention")
    found = module.solve(got["tokens"][0], module.Params(got["param_beta"]), t1=1.0, saves=5)
    np.testing.assert_allclose(got["tokens"], found.x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got["energy"], found.energy)


def test_tokens_at_equal_angles_follow_the_reduced_equation(tmp_path, capsys):
    words = ("--param", "beta=1", "--tokens", "5", "--angles", "0.1", "--t1", "3", "--saves", "7")
    name = "normalised_attention"
    code, _, err = run(capsys, "simulate", name, *words, "--out", tmp_path)
    assert code == 0, err
    got = values(tmp_path / f"{name}.npz")
    unit = got["tokens"] / np.linalg.norm(got["tokens"], axis=-1, keepdims=True)
    pairs = np.einsum("tai,tbi->tab", unit, unit)[:, *np.triu_indices(5, 1)]
    np.testing.assert_allclose(pairs, np.tile(got["equal_angle"][:, None], 10), atol=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sphere_attention", "--angles", "-0.9", "--tokens", "5"), "between -0.25 and 1"),
        (("sphere_attention", "--param", "beta=-1"), "outside its range"),
        (("sphere_attention", "--t1", "0"), "positive, finite"),
    ],
)
def test_a_flow_that_cannot_be_moved_says_why(tmp_path, capsys, words, said):
    code, _, err = run(capsys, "simulate", *words, "--out", tmp_path / "new")
    assert code == 2 and said in err
    assert not (tmp_path / "new").exists()


def test_the_arrays_of_a_sparse_extremal_are_those_of_its_module(tmp_path, capsys, monkeypatch):
    module = module_of("sparse_neural_ode")
    monkeypatch.setattr(control, "kernel_of", lambda *_: module)
    words = ("simulate", "sparse_neural_ode", "--T", "1", "--searches", "2")
    code, out, err = run(capsys, *words, "--out", tmp_path / "out")
    assert code == 0, err
    assert written(tmp_path / "out") == four("sparse_neural_ode")
    got = values(tmp_path / "out" / "sparse_neural_ode.npz")
    params = module.Params(*(got[f"param_{n}"] for n in module.Params._fields))
    start = module.State(*(got[f"x_{n}"][0] for n in module.State._fields))
    found = module.turnpike(params, starts=2, seed=0, x_guess=start)
    wanted = module.solve(start, params, T=1, near=found)
    for kind, point, static in (("x", wanted.x, found.x), ("u", wanted.u, found.u)):
        for name in point._fields:
            assert np.array_equal(got[f"{kind}_{name}"], getattr(point, name))
            assert np.array_equal(got[f"static_{kind}_{name}"], getattr(static, name))
    assert not np.array_equal(*(a[-1] for a in (wanted.x[0], wanted.p[0])))
    assert float(got["cost"]) == wanted.cost and str(got["verdict"]) == found.verdict
    assert f"cost {float(wanted.cost):.8g}, the control stops at t = " in out


@pytest.mark.parametrize(
    ("request_", "words", "said"),
    [
        (CLOSURE, ("--param", "W=1"), "with NAME in Q, K, V"),
        (CLOSURE, ("--param", "V=1"), "V is an array (d, d); save it with numpy.save"),
        (CLOSURE, ("--param", "V=nowhere.npy"), "cannot be read as .npy"),
        (CLOSURE, ("--param", "V=row.npy"), "has shape (3,); wanted (d, d)"),
        (CLOSURE, ("--param", "V=bad.npy"), "not finite, [1, 0] the first"),
        (CLOSURE, ("--param", "V=oblong.npy"), "V must have shape (d, d)"),
        (CLOSURE, ("--cov", "three.npy", "--size", "d=2"), "(from --size d=2)"),
        (CLOSURE, ("--cov", "skew.npy"), "not symmetric"),
        (CLOSURE, ("--size", "q=2"), "with NAME in d_k, d"),
        (CLOSURE, ("--size", "d=0"), "not a number from 1 on"),
        (CLOSURE, ("--t1", "nan"), "positive, finite time"),
        (("simulate", "sinkhorn_closure"), ("--param", "eps=-1"), "outside its range"),
        (("simulate", "sinkhorn_closure"), ("--param", "eps=wide"), "'wide' is not a number"),
        (CONTROL, ("--start", "x=1"), "with NAME in m"),
        (CONTROL, ("--start", "m=three.npy"), "has shape (3, 3); wanted (d,)"),
        (CONTROL, ("--start", "m=row.npy", "--size", "d=2"), "(from --size d=2)"),
        (CONTROL, ("--end", "m=row.npy"), "the end of mean_tracking is free"),
        (CONTROL, ("--param", "Q_cost=skew.npy"), "Q_cost is not symmetric"),
        (CONTROL, ("--T", "0"), "positive, finite time"),
        (CONTROL, ("--paths", "3"), "unrecognized arguments: --paths"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_nothing_written(
    tmp_path, capsys, monkeypatch, request_, words, said
):
    monkeypatch.chdir(tmp_path)
    np.save("row.npy", np.ones(3))
    np.save("bad.npy", np.array([[1.0, 0.0], [np.inf, 1.0]]))
    np.save("oblong.npy", np.ones((2, 3)))
    np.save("three.npy", np.eye(3))
    np.save("skew.npy", np.array([[1.0, 0.5], [0.0, 1.0]]))
    code, _, err = run(capsys, *request_, *words, "--out", "out")
    assert code == 2 and said in err, err
    assert "internal error" not in err and not written(tmp_path / "out")


def test_a_closure_of_ones_own_is_simulated_without_a_build(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("mine.py").write_text(OWN)
    words = ("--size", "d=1", "--t1", "0.1", "--saves", "3", "--tokens", "8")
    code, _, err = run(capsys, "simulate", "mine.py", *words)
    assert code == 0, err
    assert written(tmp_path / "results") == four("mine")
    cov = values(tmp_path / "results" / "mine.npz")["cov"]
    assert cov.shape == (3, 1, 1) and np.isfinite(cov).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "entry",
    [e for e in registered() if e.method != "covariance_sde" and "noisy" not in e.name],
    ids=str,
)
def test_every_shipped_model_is_simulated_as_it_stands(entry, tmp_path, capsys):
    code, _, err = run(capsys, "simulate", entry.name, "--out", tmp_path)
    assert code == 0, err
    assert written(tmp_path) == four(entry.name)


def test_the_options_shown_are_those_of_the_models_method(capsys):
    code, common, _ = run(capsys, "simulate", "--help")
    assert code == 0 and "--out" in common and "--paths" not in common
    assert "derive simulate MODEL --help" in " ".join(common.split())
    for model, has, lacks in (
        ("shaped_attention", "--paths", "--T "),
        ("softmax_closure", "--cov", "--paths"),
        ("mean_tracking", "--start", "--cov"),
    ):
        code, shown, _ = run(capsys, "simulate", model, "--help")
        assert code == 0 and has in shown and lacks not in shown and "--seed" in shown


def test_common_options_may_stand_before_the_model(tmp_path, capsys):
    code, _, err = run(capsys, "simulate", "--out", tmp_path / "out", *CLOSURE[1:], "--seed", "3")
    assert code == 0, err
    assert written(tmp_path / "out") == four("softmax_closure")


def test_the_methods_own_options_may_stand_before_the_model_too(tmp_path, capsys):
    """--tokens is a file for one method and a number for another; the model says which."""
    after = run(capsys, *CLOSURE, "--out", tmp_path / "after")
    before = run(capsys, "simulate", *CLOSURE[2:], CLOSURE[1], "--out", tmp_path / "before")
    assert after[0] == before[0] == 0, before
    one, two = (values(tmp_path / f / "softmax_closure.npz") for f in ("after", "before"))
    assert one["tokens"].shape[1] == 20
    assert all(np.array_equal(one[name], two[name], equal_nan=True) for name in one)
    code, _, err = run(capsys, "simulate", "--tokens", "20", "shaped_attention")
    assert code == 2 and "--tokens 20: cannot be read as .npy" in err
    code, _, err = run(capsys, "simulate", "--cov", "x.npy", "shaped_attention")
    assert code == 2 and "unrecognized arguments: --cov" in err


SIMULATION = '''

class _Simulation:
    """Print the mean's value."""

    def arguments(self, parser):
        parser.add_argument("--paths", choices=("one", "two"), default="one")

    def run(self, entry, options):
        from derive.kernels import kernel_of

        print(entry.name, options.paths, options.seed, kernel_of(entry).mean(2.0))
        return 0


Means.simulation = _Simulation()
'''


def test_a_method_of_another_package_brings_its_simulation(tmp_path):
    """Its options bear the name of one of another method, and mean something else."""
    place = installed(tmp_path)
    toy = place / "installed" / "toy_means.py"
    toy.write_text(toy.read_text() + SIMULATION)
    words = ("-m", "derive", "simulate", "mine.py", "--paths", "two", "--seed", "7")
    done = python(place, *words, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0 and done.stdout == "tripled two 7 7.0\n", done.stderr
    told = python(place, *words[:4], "--paths", "three")
    assert told.returncode == 2 and "invalid choice" in told.stderr


def test_the_command_itself_knows_no_option_of_a_method():
    assert "--paths" not in Path(simulate_command.__file__).read_text()
