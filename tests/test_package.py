"""The package holds the whole repository, and its parts depend on each other in one direction.

The list of packages in pyproject.toml is explicit, so an omission would be silent: the wheel is
built here, installed and compared with the tree.  The rest reads syntax trees and imports nothing.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import socket
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent

# Folder of the repository -> folder of the wheel.
MAPPED = {
    "derive": "derive",
    "generated": "derive/generated",
    "templates": "derive/templates",
    "theory": "derive/theory",
}

# What each layer may import of derive, lazily or for types too.  A name allows what is below it.
LAYERS = {
    "notation": ["errors", "notation"],
    "calculus": ["errors", "notation", "calculus"],
    "methods": ["errors", "draws", "notation", "calculus", "methods"],
    "emit": ["errors", "version", "notation", "calculus", "methods", "emit"],
    "verify": [
        "errors",
        "version",
        "draws",
        "notation",
        "calculus",
        "methods",
        "emit",
        "runtime",
        "verify",
    ],  # fmt: skip
    "runtime": ["runtime"],
    "site": [
        "errors",
        "certificate",
        "contract",
        "dispatch",
        "entry",
        "files",
        "registry",
        "notation",
        "calculus",
        "methods",
        "emit",
        "site",
    ],
    "figures": [
        "errors",
        "version",
        "contract",
        "dispatch",
        "entry",
        "files",
        "kernels",
        "observables",
        "registry",
        "verify",
        "figures",
    ],
}

_ROUTE = ("axes", "cones", "continuation", "second_route")
_UNITS = ("units", "unit_averages", "unit_route")

# Modules that are worth something only as long as they stay apart from the rest of their layer.
APART = {
    # The second route shares the definition with the calculus, and random numbers; nothing else.
    "derive/verify/covariance_sde/second_route.py": ["errors", "draws", "notation"],
    "derive/verify/covariance_sde/weight_powers.py": [
        "errors",
        "draws",
        "notation",
        "verify.covariance_sde.second_route",
    ],
    **{
        f"derive/verify/covariance_sde/{m}.py": [
            "errors",
            "draws",
            "notation",
            *(f"verify.covariance_sde.{m}" for m in (*_ROUTE, *_UNITS)),
        ]
        for m in _UNITS
    },
    **{
        f"derive/verify/covariance_sde/{m}.py": [
            "errors",
            "notation",
            "verify.covariance_sde.second_route",
        ]
        for m in _ROUTE[:3]
    },
}


def sources(folder: str) -> list[Path]:
    found = sorted((REPOSITORY / folder).rglob("*.py"))
    assert found, f"{folder} holds no Python file"
    return found


def shown(file: Path) -> str:
    return file.relative_to(REPOSITORY).as_posix()


def imports(text: str, package: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that `text`, a module of `package`, imports.

    `from a import b` yields a.b, since b may be a module.  Calls of import_module with a constant
    count.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            origin = ".".join([*(base if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                yield node.lineno, f"{origin}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)


def strangers(file: Path, allowed: list[str], *, standard: bool = False) -> list[str]:
    """Imports of `file` that are below none of the dotted names in `allowed`."""
    folder = file.parent.relative_to(REPOSITORY).as_posix()
    package = next(
        (inside + folder[len(outside) :]).replace("/", ".")
        for outside, inside in MAPPED.items()
        if folder == outside or folder.startswith(outside + "/")
    )
    return [
        f"{shown(file)}:{line}: {name}"
        for line, name in imports(file.read_text(encoding="utf-8"), package)
        if not any(name == a or name.startswith(a + ".") for a in allowed)
        and not (standard and name.partition(".")[0] in sys.stdlib_module_names)
    ]


def of_derive(file: Path, allowed: list[str]) -> list[str]:
    """Imports of `file` within derive that `allowed` (names below derive) does not cover."""
    return [
        s
        for s in strangers(file, [f"derive.{name}" for name in allowed])
        if s.rpartition(": ")[2].partition(".")[0] == "derive"
    ]


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_import_one_way(layer: str) -> None:
    wrong = [s for file in sources(f"derive/{layer}") for s in of_derive(file, LAYERS[layer])]
    assert not wrong, f"{layer} may import {LAYERS[layer]} of derive alone:\n" + "\n".join(wrong)


@pytest.mark.parametrize("module", APART)
def test_independent_routes_stay_independent(module: str) -> None:
    assert not of_derive(REPOSITORY / module, APART[module])


def test_every_layer_is_known() -> None:
    """A new sub-package gets a place in the order, or is a front door, which may import all."""
    found = {f.parent.name for f in (REPOSITORY / "derive").glob("*/__init__.py")}
    assert found == {*LAYERS, "commands", "face", "kinds", "mutants"}


def test_runtime_imports_jax_and_numpy_alone() -> None:
    """But for what is imported where it is called: the file whose purpose is another solver, and
    the folder that plans, which takes hulls, transport and descent from libraries."""
    allowed = ["jax", "numpy", "derive.runtime"]
    more = {"diffrax_terms": ["diffrax", "lineax"], "match": ["scipy", "ot"]}
    wrong = [
        s
        for f in sources("derive/runtime")
        for s in strangers(
            f, [*allowed, *more.get(f.stem, []), *more.get(f.parent.name, [])], standard=True
        )
    ]
    assert not wrong, "\n".join(wrong)


def test_rooms_of_the_runtime_share_what_is_common_alone() -> None:
    """Neither they nor the kernels that are bound to one of them import another method's room."""
    rooms = {f.parent.name for f in (REPOSITORY / "derive/runtime").glob("*/__init__.py")}
    wrong = []
    for file in [*sources("derive/runtime"), *sources("generated")]:
        found = imports(file.read_text(encoding="utf-8"), "derive.runtime")
        used = {n.split(".")[2] for _, n in found if n.startswith("derive.runtime.")} & rooms
        used -= {"common"}
        if len(used) > 1 or (file.parent.name in rooms and used - {file.parent.name}):
            wrong.append(f"{shown(file)}: {', '.join(sorted(used))}")
    assert not wrong, "\n".join(wrong)


def test_generated_imports_jax_numpy_and_runtime_alone() -> None:
    allowed = ["jax", "numpy", "derive.runtime"]
    wrong = [s for f in sources("generated") for s in strangers(f, allowed, standard=True)]
    assert not wrong, "\n".join(wrong)


def test_theory_imports_the_notation_and_other_definitions_alone() -> None:
    allowed = ["derive.notation", "derive.theory", "__future__"]
    wrong = [s for file in sources("theory") for s in strangers(file, allowed)]
    assert not wrong, "\n".join(wrong)


UNREPRODUCIBLE = {
    "a date": r"\b(19|20)\d\d-[01]\d-[0-3]\d\b",
    "a time": r"\b[0-2]\d:[0-5]\d:[0-5]\d\b",
    "an absolute path": r"(?<![\w.}])/(home|root|work|tmp|usr|var|opt|mnt|srv|private|Users)/",
    "a Windows path": r"\b[A-Za-z]:\\\\?(Users|Windows|Program)",
    "a file address": r"\bfile://",
    "an object's address": r"\bat 0x[0-9a-f]{6,}",
}


def traces(text: str) -> list[str]:
    """Marks of a machine or a moment in `text`."""
    patterns = dict(UNREPRODUCIBLE)
    patterns["this repository's folder"] = re.escape(str(REPOSITORY))
    host = socket.gethostname()
    if len(host) > 5 and not host.startswith("localhost"):  # a shorter one may be a word
        patterns["this host's name"] = rf"\b{re.escape(host)}\b"
    return [f"{what}: {m.group()}" for what, p in patterns.items() if (m := re.search(p, text))]


def test_generated_files_hold_no_trace_of_a_machine_or_a_moment() -> None:
    files = [f for f in (REPOSITORY / "generated").iterdir() if f.is_file()]
    found = {f.name: t for f in files if (t := traces(f.read_text(encoding="utf-8")))}
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        "built 2026-11-21",
        "at 06:26:07",
        '"/home/a/derive/theory/x.py"',
        r"C:\Users\a",
        "file:///x",
        "<f at 0x7f00aa11>",
        str(REPOSITORY / "theory"),
    ],
)
def test_traces_are_recognised(text: str) -> None:
    assert traces(text)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the working tree, from a copy: no network, no leftovers of older builds."""
    version = importlib.metadata.version("setuptools")
    assert int(version.partition(".")[0]) >= 77, (
        f"setuptools {version} cannot build this package; run: pip install -e '.[dev]'"
    )
    folder = tmp_path_factory.mktemp("package")
    copy = folder / "repository"
    copy.mkdir()
    for name in MAPPED:
        shutil.copytree(
            REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    for file in REPOSITORY.iterdir():
        if file.is_file():
            shutil.copy(file, copy)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, copy],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and the dependencies of the environment we run in."""
    folder = tmp_path_factory.mktemp("elsewhere") / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    options = ["--no-deps", "--no-index", "--no-compile", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", *options, wheel],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Folders named in a .pth file come after the environment's own, and .pth files inside them (an
    # editable install of derive is one) are not read.
    (packages,) = folder.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "dependencies.pth").write_text("\n".join(shared) + "\n", encoding="utf-8")
    return folder


def test_the_wheel_holds_every_file_of_the_tree(wheel: Path) -> None:
    expected = {
        f"{inside}/{file.relative_to(REPOSITORY / outside).as_posix()}"
        for outside, inside in MAPPED.items()
        for file in (REPOSITORY / outside).rglob("*")
        if file.is_file()
        and not any(p == "__pycache__" or p.startswith(".") for p in file.parts[-3:])
    }
    assert {"derive/py.typed", "derive/templates/covariance_sde.py.jinja"} <= expected
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    missing, surplus = sorted(expected - held), sorted(held - expected)
    assert not missing, f"not in the wheel; list their package in pyproject.toml: {missing}"
    assert not surplus


def test_generated_module_works_from_the_wheel_without_sympy(installed: Path) -> None:
    script = """
import sys
import derive.generated.shaped_attention as module
import numpy as np
V = np.array([[1.0, 0.2], [0.2, 1.0]])
assert module.drift(V, module.Params(gamma=0.8, tau_0=1.0)).shape == (2, 2)
print(module.__file__)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
print(*sorted(name for name in sys.modules if name.startswith("derive")))
"""
    done = run(installed, "-c", script)
    assert done.returncode == 0, done.stderr
    file, tops, ours = done.stdout.splitlines()
    assert Path(file).is_relative_to(installed)
    assert not {"sympy", "mpmath", "jinja2", "matplotlib"} & set(tops.split())
    allowed = ("derive.generated", "derive.runtime")
    assert not [name for name in ours.split() if name != "derive" and not name.startswith(allowed)]


def test_command_works_from_the_wheel(installed: Path) -> None:
    command = installed / "bin" / "derive"
    done = subprocess.run([command, "list"], cwd=installed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "shaped_attention" in done.stdout
    assert "[built" in done.stdout  # the generated module was found beside the definition


def test_versions_agree(wheel: Path) -> None:
    tree = ast.parse((REPOSITORY / "derive" / "version.py").read_text(encoding="utf-8"))
    (engine,) = [n.value for n in tree.body if isinstance(n, ast.Assign)]
    assert isinstance(engine, ast.Constant)
    assert wheel.name.split("-")[1] == engine.value


def run(environment: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Isolated: neither PYTHONPATH nor the folder we stand in counts."""
    python = environment / "bin" / "python"
    return subprocess.run(
        [python, "-I", *arguments], cwd=environment, capture_output=True, text=True
    )
