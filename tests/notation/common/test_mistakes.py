"""Typical mistakes of a definition are told with the line and with what to write instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from derive import notation, registry
from derive.derivation import told
from derive.errors import DefinitionError
from derive.notation.common import mistakes
from derive.notation.layers.model import trace

LAYER = """from derive.notation import *

m, n, n_k, H = dims("m: tokens", "n: width", "n_k: key width", "H: heads, fixed")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")


@covariance_sde(state="X[m, n]", width=n)
def layer(X):
    {}
    return X + gamma / sqrt(n) * B
"""
#: a line of a layer, and words of its message
IN_LAYERS = [
    ("B = softmx(X)", "did you mean softmax"),
    ("B = gausian(n, n)", "did you mean gaussian"),
    ("B = gama * X", "did you mean gamma|not known here"),
    ("B = np.exp(X)", "np is not part of a definition"),
    ("B = jax.nn.softmax(X)", "jax is not part of a definition"),
    ("B = torch.relu(X)", "torch is not part of a definition"),
    ("import math; B = X / math.sqrt(n)", "sqrt, tanh, softmax"),
    ("import math; B = math.exp(X)", "sqrt, tanh, softmax"),
    ("import numpy; B = numpy.exp(X)", "sqrt, tanh, softmax"),
    ("import jax; B = jax.nn.softmax(X)", "sqrt, tanh, softmax"),
    ("B = softmax(X, dim=-1)", "axis="),
    ("B = gaussian(n, n, std=2)", r"write s \* gaussian"),
    ("B = X if X > 0 else -X", "relu|not supported between|branch"),
    ("B = X if n > 3 else -X", "one definition for each case"),
    ("X[0] = 0 * X; B = X", "never changed in place"),
    ("B = X / n**0.5", r"write sqrt\(n\)"),
    ("B = X * n**-0.5", r"write 1 / sqrt\(n\)"),
    ("B = 0.5 * X", r"Rational\(1, 2\)"),
    ("B = X[:1]", "sum over an axis"),
    ("B = sum(x for x in X)", "axes"),
    ("B = X @ gaussian(m, n)", "did you mean to transpose|must be the same"),
    ("B = X @ X", "did you mean to transpose"),
    ("B = X + gaussian(n, m)", "differ"),
    ("B = X.T", "differ"),
    ("B = X.reshape(H, m, n)", "axis of their own"),
    ("B = X.dot(gaussian(n, n))", "write X @ W"),
    ("B = X.norm()", "sqrt"),
    ("B = X.max()", "softmax is"),
    ("B = X.exp()", r"write exp\(X\)"),
    ("B = X.square()", r"X\*\*2"),
    ("B = X.transpose()", "X.T"),
    ("B = X.foo()", "operators"),
    ("B = einsum('ab,bc->ac', X, gaussian(n, n))", "write products with @"),
    ("B = where(X, X, X)", "mask"),
    ("B = tril(X @ X.T) @ X", "causal"),
    ("B = maximum(X, 0)", "relu"),
    ("B = norm(X)", "sqrt"),
    ("B = zeros(m, n)", r"0 \* X"),
    ("B = LayerNorm(X)", "keepdims"),
    ("B = dropout(X)", "random"),
    ("B = rotary(X)", "cosines"),
    ("B = 0 * X\n    for _ in range(H): B = B + X", "axis of heads"),
    ("B = gaussian(n, 1)", "keepdims"),
    ("B = gaussian(64, n)", "declare it"),
    ("B = gaussian(n, n) @ X.T", "differ|must be the same"),
    ("W = gaussian(n, n); B = X", "remove the others"),
    ("B = X / 0", "division by zero"),
    ("B = 'X'", "neither a scalar nor an array"),
    ("B = X * None", "neither a scalar nor an array"),
    ("B = softmax(gamma)", "at least one axis"),
    ("B = softmax(X, axis=4)", "axis 4"),
    ("return X @ gaussian(n, n_k)", "but the state"),
    ("return None", "not an array"),
    ("B = X @ gamma", r"use \* with a scalar"),
    ("B = concatenate(X)", "heads"),
]
#: the whole text with one part exchanged, and words of its message
IN_FILES = [
    (
        '@covariance_sde(state="X[m, n]", width=n)',
        "@covariance_sde",
        "names the state and the width",
    ),
    ('state="X[m, n]", width=n', 'state="X[m, n]"', "name the small parameter"),
    ('state="X[m, n]"', 'state="X"', "two declared dimensions"),
    ('state="X[m, n]"', 'state="X[2, n]"', "not declared|two declared dimensions"),
    ("width=n)", "width=m)", "last dimension of the state"),
    ("import *", "import softmx", "did you mean softmax"),
    ("import *", "import einsum", "products with @"),
    ("import *", "import covariance_sde, dims, params, sqrt", "not known here|remove"),
    ("\n\n\n@cov", "\nW = gaussian(n, n)\n\n\n@cov", "not Markov"),
]


def message(folder: Path, text: str) -> str:
    file = folder / "layer.py"
    file.write_text(text)
    with pytest.raises(DefinitionError) as raised:
        entry = registry.find(str(file))
        with told(entry):
            trace(registry.load(entry))
    assert raised.value.place is not None and raised.value.place.file == str(file)
    return str(raised.value.message)


@pytest.mark.parametrize(("line", "words"), IN_LAYERS, ids=[x for x, _ in IN_LAYERS])
def test_a_mistake_in_a_layer_is_told_with_what_to_write(
    tmp_path: Path, line: str, words: str
) -> None:
    said = message(tmp_path, LAYER.format(line))
    assert re.search(words, said), said
    assert "internal error" not in said and "Traceback" not in said


@pytest.mark.parametrize(("old", "new", "words"), IN_FILES, ids=[x for _, x, _ in IN_FILES])
def test_a_mistake_around_a_layer_is_told_with_what_to_write(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    line = "B = X @ W" if "gaussian" in new else "B = X @ gaussian(n, n)"
    text = LAYER.format(line)
    assert old in text
    said = message(tmp_path, text.replace(old, new, 1))
    assert re.search(words, said), said


def test_no_word_of_the_notation_is_told_to_be_none() -> None:
    assert not set(mistakes.WORDS) & set(notation.__all__)
    assert not {w for w in mistakes.ATTRIBUTES if hasattr(notation.Model, w)}


WORDS_CALLED = [w for w in notation.__all__ if callable(getattr(notation, w)) and w.islower()]


@pytest.mark.parametrize("word", [w for w in notation.__all__ if len(w) > 3])
def test_every_word_is_found_where_it_is_misspelt(word: str) -> None:
    said = mistakes.advice(NameError(f"name '{word[:-2] + word[-1]}' is not defined"))
    assert "did you mean" in said or said.startswith(word[:-2] + word[-1])


@pytest.mark.parametrize("word", WORDS_CALLED)
def test_every_word_says_which_options_it_does_not_take(word: str) -> None:
    with pytest.raises((TypeError, DefinitionError)) as raised:
        getattr(notation, word)(nonsense=1)
    if isinstance(raised.value, DefinitionError) or "nonsense" not in str(raised.value):
        return
    assert "takes no nonsense=" in mistakes.advice(raised.value)


def test_a_decorator_may_have_another_name(tmp_path: Path) -> None:
    text = LAYER.format("B = X @ gaussian(n, n)")
    mark = '@covariance_sde(state="X[m, n]", width=n)'
    for number, other in enumerate(
        (
            text.replace(mark, f"mark = {mark[1:]}\n\n\n@mark"),
            text.replace(mark + "\n", "").replace("def layer", "def body")
            + f"\n\nlayer = {mark[1:]}(body)\n",
            text.replace(
                "import *", "import *\nfrom derive.notation import covariance_sde as sde"
            ).replace("@covariance_sde", "@sde"),
        )
    ):
        file = tmp_path / f"alias_{number}.py"
        file.write_text(other)
        assert trace(registry.load(registry.find(str(file)))).output.op == "add"
