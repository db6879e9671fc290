"""Other draws give all checks other numbers, draw 0 the recorded ones, and no certificate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from derive.cli import main
from derive.draws import generator, redrawn, seed

REPOSITORY = Path(__file__).parents[1]


def test_a_draw_changes_every_key_and_comes_back() -> None:
    usual = generator(3, 1).standard_normal(), seed(3)
    with redrawn(1):
        first = generator(3, 1).standard_normal(), seed(3)
    with redrawn(2):
        second = generator(3, 1).standard_normal(), seed(3)
    assert len({usual, first, second}) == 3
    assert (generator(3, 1).standard_normal(), seed(3)) == usual
    with pytest.raises(ValueError, match="draw is -1"), redrawn(-1):
        pass


def test_no_check_draws_past_the_draw() -> None:
    """Generators of the derivation's and of the ladder's checks all come from `derive.draws`."""
    for folder in ("methods", "verify"):
        for file in (REPOSITORY / "derive" / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"default_rng|RandomState", text), file.name


@pytest.mark.slow
def test_another_draw_passes_and_leaves_the_certificate_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "linear_closure", "--out", str(tmp_path)]) == 0
    assert main(["verify", "linear_closure", "--draw", "1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "draw 1" in out and "L5" in out and "FAILED" not in out
    assert [p.name for p in tmp_path.glob("*.cert.json")] == []
    assert main(["verify", "linear_closure", "--draw", "-1"]) == 2
