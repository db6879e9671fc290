"""Clusters of tokens are the connected components of those closer than a radius."""

from __future__ import annotations

import numpy as np

from derive.runtime.flows import components
from derive.runtime.flows.components import labels


def brute_force(x: np.ndarray, radius: float) -> list[int]:
    out = list(range(len(x)))
    for _ in x:
        for a in range(len(x)):
            for b in range(len(x)):
                if np.linalg.norm(x[a] - x[b]) < radius:
                    out[a] = out[b] = min(out[a], out[b])
    numbers = sorted(set(out))
    return [numbers.index(k) for k in out]


def test_labels_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(13)
    for d, radius in ((1, 0.02), (2, 0.1), (5, 0.4)):
        x = rng.uniform(size=(40, d))
        found = labels(x, radius)
        assert found.tolist() == brute_force(x, radius)
        assert 2 < found.max() < 39


def test_a_chain_is_one_cluster_and_blocks_change_nothing(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    x = np.stack([np.arange(50) * 0.9, np.zeros(50)], axis=-1)[
        np.random.default_rng(14).permutation(50)
    ]
    assert labels(x, 1.0).max() == 0
    assert labels(x, 0.8).tolist() == list(range(50))
    monkeypatch.setattr(components, "BLOCK", 7 * x.size)
    assert labels(x, 1.0).max() == 0


def test_labels_follow_the_first_tokens_in_every_system_and_nan_has_none() -> None:
    x = np.zeros((2, 2, 4, 3))
    x[0, 0] += np.array([0.0, 5.0, 0.0, 5.0])[:, None]
    x[1, 1, 2] = np.nan
    found = labels(x, 1e-3)
    assert found.shape == (2, 2, 4)
    assert found[0, 0].tolist() == [0, 1, 0, 1]
    assert found[1, 0].tolist() == [0, 0, 0, 0]
    assert found[1, 1].tolist() == [-1, -1, -1, -1]
