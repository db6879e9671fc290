"""What to write instead: advice for the errors of Python that a definition's text runs into.

Input: an exception that is none of derive's own.  Output: one clause with what to write, or "".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from derive.notation.common.names import nearest

#: what an array is asked for that it does not have, and what says the same
ATTRIBUTES = {
    "reshape": "heads are an axis of their own: gaussian(H, n, n / H), joined by concatenate(...)",
    "view": "heads are an axis of their own: gaussian(H, n, n / H), joined by concatenate(...)",
    "transpose": "write X.T, or X.mT where there is an axis of heads",
    "swapaxes": "write X.mT for the last two axes",
    "permute": "write X.mT for the last two axes",
    "dot": "write X @ W",
    "matmul": "write X @ W",
    "square": "write X**2",
    "exp": "write exp(X), from derive.notation",
    "sqrt": "write sqrt(X), from derive.notation",
    "softmax": "write softmax(X), from derive.notation",
    "relu": "write relu(X), from derive.notation",
    "tanh": "write tanh(X), from derive.notation",
    "abs": "write abs(X)",
    "norm": "write sqrt((X * X).sum(-1, keepdims=True))",
    "var": "write (X * X).mean(-1, keepdims=True), less the square of the mean",
    "std": "write sqrt((X * X).mean(-1, keepdims=True)), less the mean before",
    "max": "what is largest is not smooth in the state; softmax is",
    "min": "what is smallest is not smooth in the state; softmax is",
    "size": "sizes are the declared dimensions: m, n",
    "at": "arrays of a definition are never changed in place; build the new one by + and *",
    "masked_fill": "a mask is the logarithm of a pattern: softmax(logits + log(p)), p = causal(m)",
}

#: words of other libraries, and what says the same here
WORDS = {
    "einsum": "write products with @ and .mT; an axis in front counts heads",
    "matmul": "write X @ W",
    "where": "a mask is the logarithm of a pattern: softmax(logits + log(p)), p = causal(m)",
    "tril": "a causal mask is a pattern: softmax(logits + log(causal(m))) - causal(m)",
    "triu": 'another mask is a given pattern: p = pattern("p: a mask", m)',
    "zeros": "write 0 * X",
    "full": "write the number times ones(m, m)",
    "identity": "write eye(m)",
    "randn": "write gaussian(n, n)",
    "normal": "write gaussian(n, n)",
    "maximum": "write relu(x - c) + c, or relu(x)",
    "minimum": "write c - relu(c - x)",
    "norm": "write sqrt((X * X).sum(-1, keepdims=True))",
    "mean": "write X.mean(-1, keepdims=True)",
    "sum": "write X.sum(-1)",
    "LayerNorm": "write U = X - X.mean(-1, keepdims=True), then U / sqrt((U * U).mean(-1, "
    "keepdims=True))",
    "RMSNorm": "write X / sqrt((X * X).mean(-1, keepdims=True))",
    "dropout": "a mask drawn at random is no word of the notation; its mean and variance are those "
    "of a fixed number and a larger weight",
    "bernoulli": "a mask drawn at random is no word of the notation",
    "rotary": "turned scores are C * Y + S * Z for two independent scores Y and Z, with "
    'C = constant("C: cosines", m) and S = constant("S: sines", m)',
    "stack": "heads are an axis of their own: gaussian(H, n, n / H)",
    "diag": "write eye(m) * V",
}

LIBRARIES = {"np", "numpy", "jnp", "jax", "math", "torch", "F", "nn", "scipy", "sp", "sympy"}


def advice(problem: BaseException) -> str:
    """The clause, or nothing where none is known."""
    text = str(problem)
    for pattern, say in _RULES:
        found = re.search(pattern, text)
        if found:
            return say(found)
    return ""


def _name(found: re.Match[str]) -> str:
    name = found[1]
    if name in LIBRARIES:
        return (
            f"{name} is not part of a definition: it runs on symbols too; take exp, sqrt, tanh, "
            "softmax, ... from derive.notation"
        )
    if name in WORDS:
        return f"{name} is no word of the notation: {WORDS[name]}"
    return (
        f"{name} is not known here{nearest(name, list(_vocabulary()))}; declare it with dims(...) "
        "or params(...), or import it from derive.notation"
    )


def _attribute(found: re.Match[str]) -> str:
    name = found[1]
    known = ["T", "mT", "sum", "mean", "shape", "ndim"]
    rest = f"an array has {', '.join(known)} and the operators + - * / @ **"
    return f"arrays have no .{name}: {ATTRIBUTES.get(name, rest)}"


def _missing_word(found: re.Match[str]) -> str:
    name = found[1]
    return f"derive.notation has no {name}{nearest(name, list(_vocabulary()))}" + (
        f": {WORDS[name]}" if name in WORDS else ""
    )


def _option(found: re.Match[str]) -> str:
    word, name = found[1].removeprefix("<lambda>"), found[2]
    if name in ("std", "scale", "sigma", "mean", "loc"):
        return "gaussian(...) has entries of mean 0 and variance 1: write s * gaussian(n, n)"
    if name in ("dim", "axis"):
        return f"{word}: the axis is named axis=, where it can be chosen"
    return f"{word}(...) takes no {name}="


@cache
def _vocabulary() -> tuple[str, ...]:
    from derive import notation

    return tuple(notation.__all__)


def _said(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text


_OWN = "exp, sqrt, tanh, softmax, ... of arrays and parameters come from derive.notation"
_NEVER_CHANGED = "arrays of a definition are never changed in place; build the new one by + and *"
_NO_LOOP = (
    "a dimension is no number, so no loop runs over it: give the weights an axis of heads, "
    "gaussian(H, n, n_k), and sum over it: (...).sum(0)"
)
_NO_BRANCH = (
    "a definition cannot branch on a dimension or a parameter; write one definition for each case, "
    "or option(...)"
)


def _foreign(whose: str) -> Callable[[re.Match[str]], str]:
    return _said(f"{whose} functions take no arrays of a definition: {_OWN}")


_RULES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"^name '(\w+)' is not defined", _name),
    (r"cannot import name '(\w+)' from 'derive\.notation'", _missing_word),
    (r"module 'derive\.notation' has no attribute '(\w+)'", _missing_word),
    (r"'Array' object has no attribute '(\w+)'", _attribute),
    (r"'Array' object (?:does not support item assignment|.*deletion)", _said(_NEVER_CHANGED)),
    (r"'Dim' object cannot be interpreted as an integer", _said(_NO_LOOP)),
    (
        r"does not support ufuncs|__array_ufunc__|loop of ufunc does not support",
        _foreign("NumPy's"),
    ),
    (r"not a valid JAX type|Error interpreting argument|Cannot interpret value", _foreign("JAX's")),
    (r"must be Tensor, not|argument 'input'", _foreign("PyTorch's")),
    (
        r"must be (?:a )?real number, not (?:Array|Param|Dim)|Cannot convert expression to float",
        _said(f"math takes numbers alone: {_OWN}"),
    ),
    (
        r"can't multiply sequence|can only concatenate (?:str|list|tuple)",
        _said("a text or a list is neither a scalar nor an array of the notation"),
    ),
    (r"cannot determine truth value of Relational", _said(_NO_BRANCH)),
    (r"(\w+)\(\)? got an unexpected keyword argument '(\w+)'", _option),
)
