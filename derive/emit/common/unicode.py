"""Plain text of equations with the signs of mathematics, for terminals that have them."""

from __future__ import annotations

import re

from sympy.printing.pretty.pretty_symbology import greek_unicode, sub, sup

_SIGNS = (
    (re.compile(r"\|([^|\n]+)\|²"), r"‖\1‖²"),
    (re.compile(r"\^T\b"), "ᵀ"),
    (re.compile(r"<->"), "↔"),
    (re.compile(r"->"), "→"),
    (re.compile(r" o "), " ⊙ "),
    (re.compile(r"\bsum_\{"), "Σ_{"),
    (re.compile(r"\bsqrt(?=\()"), "√"),
    (re.compile(r" \* (?=\[)|(?<=[\w)])\*(?=[\w(√])"), " "),
)
_POWER = re.compile(r"(?:\*\*|\^)(\d+)\b")
_NAME = re.compile(r"(?<![\w.])([A-Za-z]+)(_\d+)?(?![\w.])")


def with_signs(text: str) -> str:
    """Greek letters, powers, subscripts and operators as single characters."""
    text = _NAME.sub(_name, text)
    text = _POWER.sub(lambda m: "".join(sup[d] for d in m[1]), text)
    for pattern, sign in _SIGNS:
        text = pattern.sub(sign, text)
    return text


def _name(match: re.Match[str]) -> str:
    letters, number = match[1], match[2] or ""
    if letters in greek_unicode:
        letters = greek_unicode[letters]
    elif len(letters) > 1:
        return match[0]
    return letters + "".join(sub[d] for d in number[1:])
