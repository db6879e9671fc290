"""A text is taken from the cache only where it is what would be derived now."""

from __future__ import annotations

from pathlib import Path

import pytest

from derive import cache
from derive.registry import find
from tests.support.command_line import run

HEAD = '''"""A file of a user."""
{imports}
from derive.notation import Rational, covariance_sde, dims, gaussian, params, sqrt

m, n = dims("m: tokens", "n: width")
gamma = params("gamma: in (0, 1)")


@covariance_sde(state="X[m, n]", width=n)
def mine(X):
    """A random residual branch."""
    return sqrt(1 - (gamma**{power}) ** 2) * X + gamma**{power} * X @ gaussian(n, n) / sqrt(n)
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DERIVE_CACHE", "on")
    return tmp_path


def write(here: Path, imports: str = "", power: str = "1") -> None:
    (here / "mine.py").write_text(HEAD.format(imports=imports, power=power))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The derivations that `derive show` makes."""
    from derive.commands import show_command

    calls: list[str] = []
    derive = show_command.derived

    def derived(entry, limit):  # type: ignore[no-untyped-def]
        calls.append(entry.name)
        return derive(entry, limit)

    monkeypatch.setattr(show_command, "derived", derived)
    return calls


def test_what_was_shown_is_not_derived_again_and_an_edit_is(here, capsys, monkeypatch) -> None:
    calls = counted(monkeypatch)
    write(here)
    first = run(capsys, "show", "mine.py")[1]
    assert run(capsys, "show", "mine.py")[1] == first and len(calls) == 1
    write(here, power="2")
    assert run(capsys, "show", "mine.py")[1] != first and len(calls) == 2
    for file in (here / "cache" / "derive").iterdir():  # damage is seen
        file.write_text("damaged")
    assert "damaged" not in run(capsys, "show", "mine.py")[1] and len(calls) == 3


def test_a_file_beside_counts(here, capsys, monkeypatch) -> None:
    calls = counted(monkeypatch)
    (here / "powers.py").write_text("POWER = 1\n")
    write(here, "from powers import POWER", "POWER")
    first = run(capsys, "show", "mine.py")[1]
    assert run(capsys, "show", "mine.py")[1] == first and len(calls) == 1
    (here / "powers.py").write_text("POWER = 2\n")
    assert run(capsys, "show", "mine.py")[1] != first and len(calls) == 2


@pytest.mark.parametrize(
    "imports",
    [
        "import elsewhere",
        "import numpy",
        "import os",
        "from pathlib import Path",
        "power = int(open('power.txt').read())",
        "import importlib",
    ],
)
def test_what_the_text_does_not_say_is_never_kept(here, imports, monkeypatch) -> None:
    """Another module, or a file that is read, may say something else tomorrow."""
    write(here, imports)
    assert cache.key_of(find("mine.py")) is None
    write(here, "from fractions import Fraction")
    assert cache.key_of(find("mine.py")) is not None


def test_a_module_from_elsewhere_that_changes_is_seen(here, capsys, monkeypatch) -> None:
    place = here / "library"
    place.mkdir()
    (place / "elsewhere_powers.py").write_text("POWER = 1\n")
    monkeypatch.syspath_prepend(str(place))
    write(here, "from elsewhere_powers import POWER", "POWER")
    first = run(capsys, "show", "mine.py")[1]
    (place / "elsewhere_powers.py").write_text("POWER = 2\n")
    import sys

    sys.modules.pop("elsewhere_powers")  # another process
    sys.dont_write_bytecode = True
    import importlib

    importlib.invalidate_caches()
    assert run(capsys, "show", "mine.py")[1] != first
