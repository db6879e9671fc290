"""Translates the LaTeX of a short form into the words that `read_equations` evaluates.

Shares nothing with what wrote it: a descent over the commands that a reader of the page sees.
"""

from __future__ import annotations

import re

TOKEN = re.compile(r"\s+|\\[A-Za-z]+|\\[,;_]|[A-Za-z]+|\d+|.")
SILENT = {r"\left", r"\right", r"\Big", r"\quad", r"\,"}
SIGNS = {
    r"\odot": " o ",
    r"\leftrightarrow": " <-> ",
    r"\to": " -> ",
    r"\lVert": "|",
    r"\rVert": "|",
}
SUBSCRIPTS = {"-": "minus", "+": "plus"}
WORDS = {r"\infty": "inf", r"\nabla": "grad", r"\circ": "o ", r"\_": "_"}


class Translator:
    """`indices`: names that stand below as indices, not as parts of a name; None: letters."""

    def __init__(self, tex, indices=None):
        self.tokens, self.place, self.indices = TOKEN.findall(tex), 0, indices

    def peek(self):
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, wanted=None):
        token = self.peek()
        assert wanted is None or token == wanted, (wanted, self.tokens[self.place :][:9])
        self.place += 1
        return token

    def sequence(self, end=""):
        out = ""
        while self.peek() != end:
            out += self.item()
        return out

    def group(self):
        """What stands in braces, translated."""
        self.take("{")
        words = self.sequence("}")
        self.take("}")
        return words

    def item(self):
        token = self.peek()
        if token == "{":
            return self.scripts(self.group(), braced=True)
        self.take()
        if token == r"\frac":
            return f"(({self.group()})/({self.group()}))"
        if token == r"\sqrt":
            return f" sqrt({self.group()})"
        if token == r"\sum":
            self.take("_")
            return f" sum_{{{','.join(self.group().split())}}} "
        if token in (r"\operatorname", r"\mathbf", r"\mathrm", r"\text"):
            return self.scripts(self.group())
        if token in SILENT:
            return ""
        if token in SIGNS:
            return SIGNS[token]
        assert token in WORDS or not token.startswith("\\") or token[1:].isalpha(), token
        return self.scripts(WORDS.get(token, token.removeprefix("\\")))

    def scripts(self, base, braced=False):
        """A name or a group with what stands below and above it."""
        while self.peek() in ("_", "^"):
            below = self.take() == "_"
            words = self.group() if self.peek() == "{" else self.take()
            if below and self.is_entry(base, words.split(), braced):
                inner = f"({base})" if " " in base.strip() else base
                base = f"{inner}[{','.join(words.split())}]"
            elif below:
                base = f"{base}_{SUBSCRIPTS.get(words, self.subscript(words))}"
            elif words == "top":
                base = f"{base}^T"
            elif not re.fullmatch(r"-1|\d+|\(\d+\)", words):
                base = f"{base}^({words.strip()})"
            elif re.fullmatch(r"\(\d+\)", words):
                base = f"{base}_{words[1:-1]}"
            else:
                base = f"({base})^{words}" if braced and "[" not in base else f"{base}^{words}"
        return base

    @staticmethod
    def subscript(words):
        """SymPy writes the n_k_ratio of a name as n_{k ratio}; indices stand without a gap."""
        parts = words.split()
        return "_".join(parts) if any(len(p) > 1 for p in parts) else "".join(parts)

    def is_entry(self, base, below, braced):
        """Letters below a name are its indices, but for sizes (n_k) and operators (P_ab)."""
        if self.indices is not None:
            return all(w in self.indices for w in below)
        letters = base not in ("n", "P", "Q") and all(len(w) == 1 and w.isalpha() for w in below)
        return braced or letters


def translated(tex, indices=None):
    """The words of a line, or of a definition with its left side."""
    words = Translator(tex, indices).sequence()
    return re.sub(r"\s+", " ", words).strip()
