"""Divergence and limiting ranks under random attention, against an independent table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import random_parameters as table  # noqa: E402

# Percent of 200 draws (Sinkhorn: 100) of an independent integration with other seeds.
KNOWN = {
    ("softmax", 2): {"diverges": 53.0, "0": 4.0, "1": 42.5, "2": 0.5},
    ("softmax", 3): {"diverges": 84.0, "0": 2.0, "1": 13.5, "2": 0.5},
    ("softmax", 4): {"diverges": 81.5, "0": 0.5, "1": 3.5, "2": 14.0, "3": 0.5},
    ("l2", 2): {"diverges": 51.0, "0": 3.5, "1": 42.5, "2": 3.0},
    ("l2", 3): {"diverges": 82.0, "0": 1.0, "1": 16.5, "3": 0.5},
    ("l2", 4): {"diverges": 83.0, "0": 0.5, "1": 6.0, "2": 10.0, "3": 0.5},
    ("sinkhorn", 2): {"diverges": 53.0, "0": 4.0, "1": 40.0, "2": 3.0},
}


def _agree(found: dict[str, float], count: int, known: dict[str, float], other: int) -> None:
    """Two samples of one law: shares within five standard errors of their difference.

    False alarm below 1e-4 for the five shares of a row.
    """
    for fate in found.keys() | known.keys():
        ours, theirs = found.get(fate, 0.0) / 100, known.get(fate, 0.0) / 100
        # (k + 1) / (n + 2): of use at shares of 0 too
        share = (ours * count + theirs * other + 1) / (count + other + 2)
        error = np.sqrt(share * (1 - share) * (1 / count + 1 / other))
        assert abs(ours - theirs) < 5 * error, (fate, found, known)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "d"), sorted(KNOWN))
def test_fates_of_random_laws(model: str, d: int) -> None:
    count = 40
    other = 100 if model == "sinkhorn" else 200
    fates = table.fates(model, d, count)
    _agree(table.shares(fates), count, KNOWN[model, d], other)
    # a bounded limit keeps at most half of the dimensions, but for slow converters
    above = sum(fate.isdigit() and int(fate) > d // 2 for fate in fates)
    assert above <= 0.15 * count


def test_the_stored_table_agrees() -> None:
    stored = json.loads(
        (Path(table.__file__).parent / "results/random_parameters.json").read_text()
    )
    rows = {(m, int(d)): row for m, by in stored["percent"].items() for d, row in by.items()}
    assert ("softmax", 3) in rows
    for (model, d), found in rows.items():
        known = KNOWN.get((model, d), found)
        _agree(found, stored["draws"], known, 100 if model == "sinkhorn" else 200)
        assert sum(found.values()) == pytest.approx(100)
        # half of the dimensions at most, slow converters beside: the rest is a few per cent
        assert sum(v for k, v in found.items() if k.isdigit() and int(k) > d // 2) < 8


def test_a_wrong_table_is_seen() -> None:
    with pytest.raises(AssertionError):
        _agree({"diverges": 90.0, "1": 10.0}, 200, KNOWN["softmax", 2], 200)
