"""Tokens of a trained model as the initial state (needs the extra `tokens` and the model)."""

import numpy as np
import pytest

from derive.generated import shaped_attention

pytestmark = pytest.mark.tokens


def test_network_from_a_sentence_starts_at_its_covariance_and_follows_the_sde() -> None:
    pytest.importorskip("safetensors")
    pytest.importorskip("tokenizers")
    from real_tokens import token_matrix

    try:
        X0, words = token_matrix()
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
    assert X0.shape == (len(words), 384)
    X0 = X0 / np.sqrt(np.mean(X0**2))
    V0 = X0 @ X0.T / 384
    params = shaped_attention.Params(gamma=0.5, tau_0=1.0)
    network = shaped_attention.network(
        params=params, X0=X0, width=384, depth=38, dims={"n_k": 32}, paths=64, seed=1
    )
    np.testing.assert_allclose(network.V[:, 0], np.broadcast_to(V0, network.V[:, 0].shape))
    sde = shaped_attention.simulate(V0, params, t1=38 / 384, paths=512, seed=2)
    # mean variance of all tokens: six standard errors of the difference, false alarm about 2e-9
    ours, theirs = (np.trace(p.V[:, -1], axis1=1, axis2=2) / len(words) for p in (sde, network))
    error = np.hypot(ours.std() / np.sqrt(len(ours)), theirs.std() / np.sqrt(len(theirs)))
    assert abs(ours.mean() - theirs.mean()) < 6 * error
