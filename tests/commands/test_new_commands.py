"""`derive diff`, `derive new` and `derive export` keep their contract.  Nothing here is random."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import run as _run
from representatives import spread

from derive import entry
from derive.certificate import verdict
from derive.commands import diff_command
from derive.derivation import derived
from derive.dispatch import own
from derive.entry import generated_folder, theory_folder
from derive.registry import find, load, registered

MODEL = "linear_closure"  # derives in a second
HIDDEN = "import sys; sys.modules['derive'] = None; sys.modules['sympy'] = None"


def _git(folder: Path, *argv: str) -> None:
    name = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *name, *argv], cwd=folder, check=True, capture_output=True)


# diff ------------------------------------------------------------------------------------------


def test_an_unchanged_model_has_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "diff", MODEL)
    assert code == 0 and "every term" in out


def test_a_changed_definition_shows_its_terms(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = (theory_folder() / f"{MODEL}.py").read_text()
    changed = tmp_path / f"{MODEL}.py"
    changed.write_text(text.replace("integral(V @ y", "x + integral(2 * V @ y"))
    assert changed.read_text() != text
    code, out, _ = _run(capsys, "diff", changed, "--against", generated_folder() / f"{MODEL}.py")
    assert code == 1
    lines = out.splitlines()
    rates = [row for row in lines if "m' = " in row]
    gone, come = ({*row.partition(" = ")[2].split(" + ")} for row in rates)
    assert [row[:4] for row in rates] == ["-   ", "+   "]
    assert gone == {"V (S", "m m^T) K^T Q m"}
    assert come == {"2 V (S", "m m^T) K^T Q m", "m"}
    assert "signature" in lines


@pytest.mark.slow  # quick: the revisions of test_own_files, line by line, and face/test_compare
def test_definitions_are_compared_by_value_and_shown_as_they_are_by_show(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (theory_folder() / "shaped_attention.py").read_text()
    other = tmp_path / "shaped_attention.py"
    argv = ("diff", other, "--against", theory_folder() / other.name)
    other.write_text(text.replace("gamma * A @ X @ W_V", "-(A @ (X @ W_V)) * gamma"))
    assert other.read_text() != text
    kept: dict[tuple[str, str], Any] = {}

    def once(entry: Any, limit: float) -> Any:
        key = str(entry.file), entry.file.read_text()
        if key not in kept:
            kept[key] = derived(entry, limit)
        return kept[key]

    monkeypatch.setattr(diff_command, "derived", once)
    code, out, _ = _run(capsys, *argv)
    assert code == 1 and "drift" not in out and "signature" in out  # another text, equal in law
    other.write_text(text.replace("softmax(logits / (tau_0", "softmax(logits / (2 * tau_0"))
    code, out, _ = _run(capsys, *argv)
    lines = out.splitlines()
    drift = lines.index("drift")
    assert code == 1 and lines[drift + 1 : drift + 4] == [
        "-   gamma**2/(m*tau_0**2) * [ |H V H|^2 V/m + u d^T + d u^T ]",
        "-       where u = V H (d/2 - V 1/m); H = I - 1 1^T/m; d = diag(V)",
        "+   gamma**2/(m*tau_0**2) * [ |H V H|^2 V/(4*m) + u d^T + d u^T ]",
    ]
    assert "u = V H (d/8 - V 1/(4*m))" in lines[drift + 4]
    monkeypatch.setattr(diff_command, "has_signs", lambda: True)
    assert "-   γ²/(m τ₀²) [ ‖H V H‖² V/m + u dᵀ + d uᵀ ]" in _run(capsys, *argv)[1]


def test_two_theory_files_can_be_compared(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = _run(capsys, "diff", MODEL, "--against", theory_folder() / f"{MODEL}.py")
    assert code == 0, out


@pytest.mark.parametrize("name", ["shaped_attention", "softmax_closure", "gaussian_tracking"])
def test_every_line_of_an_equation_in_a_generated_module_is_seen(name: str) -> None:
    """Dropping any one of them is reported as exactly that line, under the one it belongs to."""
    content = diff_command.read((generated_folder() / f"{name}.py").read_text(), "here")
    assert len(content.lines) >= 4 and content.params
    for place, line in enumerate(content.lines):
        fewer = content._replace(lines=content.lines[:place] + content.lines[place + 1 :])
        *heads, seen = diff_command.differences(fewer, content)
        assert seen == f"+   {line.strip()}"
        if line.startswith("        "):
            (head,) = heads
            assert head in [other.strip() for other in content.lines[:place]]


def test_a_git_revision_can_be_compared(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its module, where the definition was not there or is equal by value."""
    file = tmp_path / f"{MODEL}.py"
    text = (generated_folder() / file.name).read_text()
    (rate,) = (row for row in diff_command.read(text, "").lines if row.startswith("    m' = "))
    file.write_text(text.replace(rate, rate.replace("= ", "= 7 ", 1), 1))
    assert diff_command.read(file.read_text(), "") != diff_command.read(text, "")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", file.name)
    _git(tmp_path, "commit", "-qm", "old")
    file.write_text(text)
    monkeypatch.setattr(entry, "generated_folder", lambda: tmp_path)
    assert _run(capsys, "diff", MODEL)[0] == 0
    code, out, _ = _run(capsys, "diff", MODEL, "--against", "HEAD")
    assert code == 1 and f"+   {rate.strip()}" in out
    assert f"-   {rate.strip().replace('= ', '= 7 ', 1)}" in out
    code, _, err = _run(capsys, "diff", MODEL, "--against", "no-such-revision")
    assert code == 2 and "no-such-revision" in err
    code, _, err = _run(capsys, "diff", MODEL, "--against", "--output=x")
    assert code == 2


def test_a_shipped_definition_of_a_revision_is_derived_anew_with_what_it_imports(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closure that a control problem is about has changed, its own file has not."""
    names = ("gaussian_tracking.py", "bilinear_softmax_closure.py")
    for name in names:
        text = (theory_folder() / name).read_text()
        (tmp_path / name).write_text(text.replace("average(V @ y", "average(2 * V @ y"))
    assert (tmp_path / names[1]).read_text() != (theory_folder() / names[1]).read_text()
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "old")
    for name in names:
        (tmp_path / name).write_text((theory_folder() / name).read_text())
    monkeypatch.setattr(entry, "theory_folder", lambda: tmp_path)
    monkeypatch.setattr("derive.registry.theory_folder", lambda: tmp_path)
    code, out, err = _run(capsys, "diff", "gaussian_tracking", "--against", "HEAD")
    assert code == 1 and "theory/gaussian_tracking.py at HEAD" in out, err
    lines = out.splitlines()
    assert {"state_rate", "hamiltonian"} <= set(lines) and "running_cost" not in lines


def test_diff_refuses_what_is_no_generated_module(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    odd = tmp_path / "odd.py"
    odd.write_text("EQUATIONS = 3 +")
    code, _, err = _run(capsys, "diff", MODEL, "--against", odd)
    assert code == 2 and "odd.py is not a module" in err
    code, _, err = _run(capsys, "diff", MODEL, "--against", tmp_path / "none.py")
    assert code == 2 and "there is no file" in err


# new -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", own())
def test_a_starter_derives_as_it_stands(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    code, out, _ = _run(capsys, "new", "mine", "--kind", kind, "--out", tmp_path / "deep")
    file = tmp_path / "deep" / "mine.py"
    assert code == 0 and "mine.py" in out.splitlines()[0]
    entry = find(str(file))
    assert (entry.name, entry.method) == ("mine", kind)
    assert load(entry).name == "mine"
    code, out, err = _run(capsys, "build", file, "--out", tmp_path)
    assert code == 0, err
    compile((tmp_path / "mine.py").read_text(), "mine.py", "exec")


def test_new_never_overwrites(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("mine")
    code, _, err = _run(capsys, "new", "mine", "--kind", "covariance_sde", "--out", tmp_path)
    assert code == 2 and "exists" in err
    assert (tmp_path / "mine.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("mine", "gaussian_clos", "did you mean gaussian_closure"),
        ("my-model", "covariance_sde", "cannot name"),
        ("class", "covariance_sde", "cannot name"),
        ("shaped_attention", "covariance_sde", "registered"),
    ],
)
def test_new_refuses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, kind: str, said: str
) -> None:
    code, _, err = _run(capsys, "new", name, "--kind", kind, "--out", tmp_path)
    assert code == 2 and said in err and not list(tmp_path.iterdir())


# export ----------------------------------------------------------------------------------------

USES = {
    "shaped_attention": """
V, P = np.eye(2) * 0.8 + 0.2, mod.Params(gamma=0.5, tau_0=1.0)
for found in (
    mod.simulate(V, P, t1=0.1, paths=4, seed=0),
    mod.reduced_network(V, P, width=16, depth=2, paths=4, seed=0),
):
    assert np.isfinite(found.V).all()
""",
    "linear_closure": """
I = np.eye(2)
out = mod.solve(np.zeros(2), I, mod.Params(Q=I, K=-I, V=I), t1=1.0)
assert np.allclose(out.cov[-1], I / 3)  # s' = -2 s^2, s(0) = 1
""",
    "mean_tracking": """
I, z = np.eye(1), np.zeros(1)
P = mod.Params(G=-I, B=I, goal=z + 1, Q_cost=I, R_cost=I, Q_end=0 * I, m_end=z)
assert abs(mod.turnpike(P, seed=0).rate - 2**0.5) < 1e-9  # sqrt(g^2 + q / r)
mod.solve(mod.State(m=z), P, T=2.0)
""",
}


# quick: the others, and every import of every model below
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "mean_tracking")) for n in USES]
)
def test_an_export_works_without_derive(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    package = tmp_path / "their_package"
    code, out, _ = _run(capsys, "export", name, "--to", package)
    assert code == 0 and f"{name}.py" in out
    program = f"{HIDDEN}\nimport numpy as np\nfrom their_package import {name} as mod\n{USES[name]}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    holds = verdict(generated_folder(), find(name)).holds
    assert (package / f"{name}.cert.json").exists() == holds
    assert f'CERTIFICATE = "{name}.cert.json"' in (package / f"{name}.py").read_text()


@pytest.mark.parametrize("name", [spread(e.name) for e in registered()])
def test_no_import_of_derive_is_left(name: str) -> None:
    from derive.commands.export_command import copies

    for file, text in copies(name, (generated_folder() / f"{name}.py").read_text()).items():
        compile(text, file, "exec")


def test_two_exports_share_a_folder_and_spare_what_is_not_theirs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "__init__.py").write_text("mine = 1\n")
    for name in ("linear_closure", "shaped_attention", "linear_closure"):
        assert _run(capsys, "export", name, "--to", tmp_path)[0] == 0
    assert (tmp_path / "__init__.py").read_text() == "mine = 1\n"
    (tmp_path / "linear_closure.py").write_text("mine")
    code, _, err = _run(capsys, "export", "linear_closure", "--to", tmp_path)
    assert code == 2 and "linear_closure.py" in err
    assert (tmp_path / "linear_closure.py").read_text() == "mine"
    code, _, err = _run(capsys, "export", "shaped_attention", "--to", generated_folder())
    assert code == 2 and "choose another folder" in err
