"""`stream`: statistics of ensembles larger than memory, with bits that depend on the request alone.

Most tests stream a stand-in for `simulate` that draws path by path; the last ones the generated
sampler.  Nothing here is random from run to run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from derive.generated import shaped_attention as model
from derive.runtime.paths import moments, sketch
from derive.runtime.paths.results import Paths
from derive.runtime.paths.stream import combine, part_file, stream
from derive.runtime.paths.summary import Summary

V0 = np.array([[1.0, 0.2], [0.2, 1.0]])
TIMES = np.array([0.0, 0.5, 1.0])


def fake(V0: Any, scale: float = 1.0, *, paths: int, seed: int, first: int) -> Paths:
    """Paths with one generator each; a path exits at 0.75 if its number is a multiple of ten."""
    V = np.empty((paths, 3, 2, 2))
    for i in range(paths):
        G = np.random.default_rng([seed, first + i]).normal(size=(3, 2, 2))
        V[i] = scale * (G @ G.swapaxes(1, 2)) + 100.0
    exits = np.where(np.arange(first, first + paths) % 10 == 0, 0.75, np.inf)
    return Paths(TIMES, V, exits)


CALLS: list[int] = []


def dying(V0: Any, saves: int, **k: Any) -> Paths:
    """The fourth call is interrupted."""
    CALLS.append(k["first"])
    if len(CALLS) == 4:
        raise KeyboardInterrupt
    return fake(V0, **k)


def gap(p: Paths) -> np.ndarray:
    return p.V[..., 0, 0] - p.V[..., 1, 1]


def gap_or_infinity(p: Paths) -> np.ndarray:
    return np.where(p.exit_time[:, None] <= p.times, np.inf, gap(p))


def some(**changes: Any) -> Summary:
    request = {
        "paths": 5000, "seed": 3, "saves": 3, "observables": {"gap": gap}, "covariance": True,
    } | changes  # fmt: skip
    return stream(lambda V0, saves, **k: fake(V0, **k), V0, **request)


def assert_same_bits(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert list(a) == list(b)
        for name in a:
            assert_same_bits(a[name], b[name])
    elif isinstance(a, tuple):
        for x, y in zip(a, b, strict=True):
            assert_same_bits(x, y)
    elif a is None:
        assert b is None
    else:
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_moments_are_those_of_all_paths_at_once() -> None:
    """To 1e-12 of the values' size, which is 100 times their spread."""
    found, everything = some(), fake(V0, paths=5000, seed=3, first=0)
    V = everything.V
    np.testing.assert_allclose(found.mean, V.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.variance, V.var(0, ddof=1), rtol=1e-10)
    d = V - V.mean(0)
    direct = np.einsum("psab,pscd->sabcd", d, d) / (len(V) - 1)
    np.testing.assert_allclose(found.covariance, direct, atol=1e-10)
    np.testing.assert_allclose(found.observables["gap"].mean, gap(everything).mean(0), atol=1e-12)
    np.testing.assert_array_equal(found.exited, [0, 0, 0.1])
    assert found.paths == 5000


def test_quantiles_are_order_statistics_to_the_accuracy_asked_for() -> None:
    probs = np.array([0, 1e-4, 0.01, 0.2, 0.5, 0.77, 0.9, 0.999, 1])
    everything = fake(V0, paths=5000, seed=3, first=0)
    for accuracy in (1e-2, 1e-4):
        found = some(probs=probs, accuracy=accuracy, observables={"g": gap_or_infinity})
        exact = np.quantile(gap_or_infinity(everything), probs, axis=0, method="inverted_cdf")
        observable = found.observables["g"]
        np.testing.assert_array_equal(np.isinf(observable.quantiles), np.isinf(exact))
        finite = np.isfinite(exact)
        np.testing.assert_allclose(observable.quantiles[finite], exact[finite], rtol=accuracy)
        np.testing.assert_array_equal(observable.quantiles[[0, -1]], exact[[0, -1]])
        np.testing.assert_allclose(observable.finite, [1, 1, 0.9])


def test_the_sketch_takes_every_float_and_merges_exactly() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([
        rng.normal(size=1000) * 10.0 ** rng.integers(-300, 300, 1000),
        [0.0, -0.0, 5e-324, -5e-324, np.inf, -np.inf, 1.7976931348623157e308, np.nan],
    ])  # fmt: skip
    bits = sketch.bits_for(1e-3)
    whole = sketch.sketch(x, bits)
    order = rng.permutation(len(x))
    for cut in (1, 300, 1007):
        parts = [sketch.sketch(x[order[:cut]], bits), sketch.sketch(x[order[cut:]], bits)]
        assert_same_bits(sketch.merge(*parts), whole)
    probs = np.linspace(0, 1, 1500)
    good = x[~np.isnan(x)]
    exact = np.quantile(good, probs, method="inverted_cdf")
    found = sketch.quantiles(whole, probs, bits)
    normal = np.abs(exact) > 1e-300
    np.testing.assert_allclose(found[normal], exact[normal], rtol=1e-3)
    np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-309)
    assert whole.undefined == 1


def test_undefined_numbers_are_counted_apart() -> None:
    def odd(p: Paths) -> np.ndarray:
        return np.where(gap(p) > 0, gap(p), np.nan)

    values = odd(fake(V0, paths=5000, seed=3, first=0))
    found = some(observables={"odd": odd}).observables["odd"]
    np.testing.assert_allclose(found.undefined, np.isnan(values).mean(0))
    np.testing.assert_allclose(found.mean, np.nanmean(values, 0), rtol=1e-12)


def test_the_tree_of_groups_is_the_same_in_any_order() -> None:
    rng = np.random.default_rng(1)
    groups = [
        moments.of_group(rng.normal(size=(8, 2, 3)), np.zeros((8, 0)), True) for _ in range(11)
    ]
    totals = []
    for order in (range(11), reversed(range(11)), rng.permutation(11)):
        forest: moments.Forest = {}
        for k in order:
            moments.add(forest, 0, int(k), groups[k])
        totals.append(moments.total(forest))
    for other in totals[1:]:
        assert_same_bits(totals[0], other)


def test_chunks_and_parts_change_no_bits(tmp_path: Path) -> None:
    whole = some()
    assert_same_bits(some(chunk=1), whole)
    assert_same_bits(some(chunk=3000), whole)
    file = tmp_path / "run.npz"
    for k in (2, 0, 1):
        some(part=(k, 3), checkpoint=file)
    assert_same_bits(combine(part_file(file, k, 3) for k in (1, 0, 2)), whole)
    with pytest.raises(ValueError, match="each of the 3 parts once, got 0 of 3, 1 of 3"):
        combine(part_file(file, k, 3) for k in (0, 1))


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, file = some(), tmp_path / "run.npz"
    CALLS.clear()

    request = {
        "paths": 5000, "seed": 3, "saves": 3, "observables": {"gap": gap}, "covariance": True,
        "checkpoint": file, "every": 0.0, "chunk": 1,
    }  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        stream(dying, V0, **request)
    assert_same_bits(stream(dying, V0, **request), whole)
    assert CALLS == [0, 1024, 2048, 3072, 3072, 4096]
    assert_same_bits(stream(dying, V0, **request), whole)  # finished: nothing is run
    assert len(CALLS) == 6
    assert [f.name for f in tmp_path.iterdir()] == ["run.npz"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 4}, "seed: 3 there, 4 here"),
        ({"paths": 6000}, "paths: 5000 there, 6000 here"),
        ({"observables": {"gap": gap_or_infinity}}, "observable gap"),
        ({"covariance": False}, "covariance"),
    ],
)
def test_a_checkpoint_of_another_request_is_refused(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    file = tmp_path / "run.npz"
    some(checkpoint=file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="checkpoint of another request") as error:
        some(checkpoint=file, **change)
    assert named in str(error.value)
    assert file.read_bytes() == before


def test_a_checkpoint_of_other_parameters_or_start_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    request = {"paths": 100, "seed": 0, "checkpoint": file}
    stream(fake, V0, 1.0, **request)
    for arguments in ((V0, 2.0), (2 * V0, 1.0)):
        with pytest.raises(ValueError, match="another request"):
            stream(fake, *arguments, **request)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    some(checkpoint=file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a checkpoint"):
        some(checkpoint=file)


def test_bad_requests_are_refused() -> None:
    for change, text in [
        ({"part": (3, 3)}, "0 <= k < K"),
        ({"probs": [1.5]}, r"\[0, 1\]"),
        ({"first": 3}, "leave it out"),
        ({"accuracy": 0.0}, "accuracy"),
        ({"observables": {"wrong": lambda p: p.V}}, "'wrong' must give real numbers"),
        ({"paths": 2**32 + 1}, "use another seed"),
    ]:
        with pytest.raises(ValueError, match=text):
            some(**change)


def test_memory_does_not_grow_with_the_number_of_paths() -> None:
    def cheap(V0: Any, *, saves: int, paths: int, seed: int, first: int) -> Paths:
        rng = np.random.default_rng([seed, first])
        V = rng.normal(size=(paths, saves, 2, 2))
        return Paths(np.arange(1.0 + saves)[:saves], V + V.swapaxes(2, 3), np.full(paths, np.inf))

    def peak(paths: int) -> float:
        tracemalloc.start()
        stream(cheap, V0, paths=paths, seed=0, saves=10, observables={"g": gap}, chunk=2048)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(4096)
    few, many = peak(2**15), peak(2**18)  # the last 84 MB of V; the sketches fill up slowly
    assert many < 8e6 and many < 1.5 * few, (few, many)


def test_streaming_the_sampler_gives_the_statistics_of_its_paths() -> None:
    request = {"t1": 0.25, "seed": 5, "saves": 3, "exit_radius": 3.0}
    params = model.Params(0.8, 0.5)
    paths = model.simulate(V0, params, paths=1500, **request)
    found = stream(model.simulate, V0, params, paths=1500, chunk=1, **request)
    assert 0 < found.exited[-1] == paths.exited < 1
    np.testing.assert_allclose(found.mean, paths.V.mean(0), rtol=1e-12)
    np.testing.assert_array_equal(found.times, paths.times)


WORKER = """
import os, sys
import numpy as np
from derive.generated import shaped_attention as model
from derive.runtime.paths.stream import stream

def run(**more):
    V0 = np.array([[1.0, 0.2], [0.2, 1.0]])
    return stream(
        model.simulate, V0, model.Params(0.8, 0.5), t1=0.25, dt=1 / 64, paths=6000, seed=7,
        saves=3, exit_radius=3.0, observables={"V_01": lambda p: p.V[..., 0, 1]},
        covariance=True, chunk=1, **more)

def keep(found, file):
    np.savez(file, *found[:-2], *found.observables["V_01"])
"""


FLAGS = os.environ.get("XLA_FLAGS", "")  # the bits of one run and another are compared


def _start(code: str, *arguments: Any, devices: int = 1) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{FLAGS} --xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-c", WORKER + code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def _finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-2000:]


def _content(file: Path) -> dict[str, bytes]:
    with np.load(file) as stored:
        return {name: stored[name].tobytes() for name in stored.files}


@pytest.fixture(scope="module")
def one_device(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The summary from one process with one device, without interruption."""
    file = tmp_path_factory.mktemp("one") / "one.npz"
    _finish(_start("keep(run(), sys.argv[1])", file))
    return _content(file)


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bits(
    one_device: dict[str, bytes], tmp_path: Path
) -> None:
    """SIGKILL after the second checkpoint; what goes on starts where that one ended."""
    kill = """
def die(share):
    if share > 0.3: os.kill(os.getpid(), 9)
run(checkpoint=sys.argv[1], every=0.0, progress=die)
"""
    file, out = tmp_path / "run.npz", tmp_path / "out.npz"
    process = _start(kill, file)
    process.communicate(timeout=240)
    assert process.returncode == -signal.SIGKILL
    assert file.exists()
    goes_on = """
seen = []
found = run(checkpoint=sys.argv[1], progress=seen.append)
assert seen[0] > 0.3, seen
keep(found, sys.argv[2])
"""
    _finish(_start(goes_on, file, out))
    assert _content(out) == one_device


@pytest.mark.slow
def test_eight_devices_give_the_bits_of_one(one_device: dict[str, bytes], tmp_path: Path) -> None:
    code = """
import jax
assert jax.local_device_count() == 8
keep(run(), sys.argv[1])
few = dict(t1=0.25, paths=700, seed=1)  # state-dependent steps, with stragglers
V0 = 0.2 + 0.8 * np.eye(2)
all_, one = (model.simulate(V0, model.Params(0.8, 0.2), devices=d, **few)
             for d in (jax.devices()[:3], jax.devices()[:1]))
assert np.array_equal(all_.V, one.V) and np.array_equal(all_.exit_time, one.exit_time)
few = dict(width=8, depth=4, paths=300, seed=1)
for network in (model.network, model.reduced_network):
    all_, one = (network(V0, model.Params(0.8, 0.2), devices=d, **few)
                 for d in (jax.devices()[:2], jax.devices()[:1]))
    assert np.array_equal(all_.V, one.V)
"""
    file = tmp_path / "eight.npz"
    _finish(_start(code, file, devices=8))
    assert _content(file) == one_device


@pytest.mark.slow
def test_two_processes_give_the_bits_of_one(
    one_device: dict[str, bytes], tmp_path: Path, free_port: int
) -> None:
    """Two processes of two devices each, joined by jax.distributed; both hold the whole summary."""
    code = """
import jax
own = int(sys.argv[1])
jax.distributed.initialize(f"127.0.0.1:{sys.argv[2]}", num_processes=2, process_id=own)
assert jax.process_count() == 2 and jax.device_count() == 4 and jax.local_device_count() == 2
keep(run(checkpoint=sys.argv[4]), sys.argv[3])
jax.distributed.shutdown()
"""
    outs = [tmp_path / f"{k}.npz" for k in range(2)]
    run = tmp_path / "run.npz"
    processes = [_start(code, k, free_port, out, run, devices=2) for k, out in enumerate(outs)]
    for process in processes:
        _finish(process)
    assert _content(outs[0]) == _content(outs[1]) == one_device
    assert sorted(f.name for f in tmp_path.glob("run*")) == ["run.0-of-2.npz", "run.1-of-2.npz"]


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
