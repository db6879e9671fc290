"""The finite network approaches the law of the two-token gap under the SDE at rate 1/n (limit:
Noci et al. 2023, Theorem 4.2; the reference is the Fokker-Planck solution, not a simulation)."""

import numpy as np
import pytest
import two_token_gap as gap

from derive.generated import shaped_attention as model

ROW = (0.125, 1.0, 0.75)


@pytest.mark.slow
def test_kolmogorov_smirnov_distance_of_the_network_falls_like_one_over_n() -> None:
    """2^18 paths: a sample of the limit itself would show about .002 (95 %: 1.36 / sqrt(paths)).

    False alarm: each bound leaves at least twice that; below 1e-6 for a chain with this rate.
    """
    V0 = np.array([[1.0, 0.2], [0.2, 1.0]])
    params = model.Params(np.sqrt(ROW[0]), ROW[1])
    distance = {}
    for n in (8, 16, 32, 64):
        depth = round(ROW[2] * n)
        run = model.reduced_network(V0, params, width=n, depth=depth, paths=2**18, seed=n)
        V = run.V[:, -1]
        w = np.sort(V[:, 0, 0] - 2 * V[:, 0, 1] + V[:, 1, 1])
        below = gap.cdf(*ROW, 1.6, w)
        steps = np.arange(len(w) + 1) / len(w)
        distance[n] = max(np.max(steps[1:] - below), np.max(below - steps[:-1]))
    print("KS distance by width:", distance)
    assert distance[8] > distance[16] > distance[32]
    assert 1.5 < distance[8] / distance[16] < 2.5
    assert distance[8] / distance[32] > 2.5
    assert distance[64] < 0.0035
