"""Formulas in a sentence: what derive says in words, split into words and mathematics in LaTeX.

Input: a line of plain text as methods write facts.  Output: pieces, each words or the LaTeX of a
formula.  A formula is the longest piece that reads as one; what does not stays words, as it is.
Nothing is simplified: products, brackets and fractions stand as they were written.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from derive.calculus.written.symbols import GREEK, word_name

_NAME = r"[A-Za-z]+(?:_[A-Za-z0-9]+)*"
_TOKEN = re.compile(
    rf"[A-Za-z]+(?:-[A-Za-z]{{2,}})+|\b\w+\.\w[\w.]*|{_NAME}|\d+(?:\.\d+)?(?:e-?\d+)?"
    r"|<->|->|<=|>=|\*\*|\.\.\.|\s+|."
)
_PLAIN = frozenset({"tanh", "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "det"})
_NAMED = {"asin", "acos", "atan", "erf", "tr", "diag", "Abs", "sigmoid", "relu", "heaviside"}
FUNCTIONS = _PLAIN | _NAMED | {"sqrt", "reciprocal_sqrt", "inverse_reciprocal_sqrt"}
CAPITALS = {"Gamma", "Delta", "Theta", "Lambda", "Sigma", "Phi", "Psi", "Omega"}
_DIFFERENTIALS = {"dt", "dB", "dv", "dw", "dr", "dV", "drho"}
NAMES = GREEK | CAPITALS | _DIFFERENTIALS | {"oo", "grad", "int"}
RELATIONS = {
    "=": "=", "<": "<", ">": ">", "<=": r"\le", ">=": r"\ge", "->": r"\to", "~": r"\sim",
    "<->": r"\leftrightarrow",
}  # fmt: skip
_SINGLE = re.compile(r"\\?[A-Za-z]+(_\{\w+\})?|\d+|\\left[(|\[].*\\right[)|\]]")


class Piece(NamedTuple):
    text: str  # words, or LaTeX
    is_math: bool


class _No(Exception):
    """What stands here is no formula."""


def pieces(sentence: str) -> list[Piece]:
    """Words and formulas in their order."""
    if "@" in sentence:  # code
        return [Piece(sentence, False)]
    tokens = _TOKEN.findall(sentence)
    out: list[Piece] = []
    place = 0
    while place < len(tokens):
        found = _formula(tokens, place)
        if found is None:
            text, place = tokens[place], place + 1
            if out and not out[-1].is_math:
                out[-1] = Piece(out[-1].text + text, False)
            else:
                out.append(Piece(text, False))
        else:
            tex, place = found
            out.append(Piece(tex, True))
    return out


def _formula(tokens: list[str], place: int) -> tuple[str, int] | None:
    """The longest formula that begins here, and where it ends."""
    before = tokens[place - 1] if place else " "
    if tokens[place].isspace() or re.fullmatch(r"[\w.)\]'*/^]+", before[-1]):
        return None
    if not _worth(tokens, place):
        return None
    reader = _Reader(tokens, place)
    try:
        tex = reader.relation()
    except _No:
        return None
    end = reader.place
    after = tokens[end] if end < len(tokens) else " "
    if re.match(r"[\w\[(*/^]", after) or (reader.count == 1 and tokens[place][0].isdigit()):
        return None
    return tex.strip(), end


def _worth(tokens: list[str], place: int) -> bool:
    """Whether a formula may begin here: `a` before a word is an article."""
    token = tokens[place]
    if token in ("a", "I"):
        return not re.match(r"\s+\w{2,}|[-.,]|\s*$", "".join(tokens[place + 1 : place + 3]))
    return token[0].isalnum() or token[0] in "(|<[-"


class _Reader:
    """A descent; `place` stands behind what has been read, `count` is of the tokens read."""

    def __init__(self, tokens: list[str], place: int) -> None:
        self.tokens, self.place, self.count, self.bars = tokens, place, 0, 0
        self.condition = False  # whether what was read last is one, in brackets

    def ahead(self) -> tuple[str, int]:
        """The next token that is no space, and where it stands."""
        place = self.place
        while place < len(self.tokens) and self.tokens[place].isspace():
            place += 1
        return (self.tokens[place] if place < len(self.tokens) else ""), place

    def tight(self) -> str:
        """The token right behind."""
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token, place = self.ahead()
        if not token or (wanted and token != wanted):
            raise _No
        self.place, self.count = place + 1, self.count + 1
        return token

    def relation(self, among: str = "") -> str:
        """Sums joined by signs of relation, and by commas where they stand in brackets."""
        out = self.sum()
        signs = RELATIONS | ({",": ","} if among else {})
        while (token := self.ahead()[0]) in signs and not (token == ">" and among == "<"):
            try:
                out = self._joined(out, f" {signs[token]} ", self.sum)
            except _No:
                break
        return out

    def _joined(self, out: str, sign: str, further: object) -> str:
        """`out` and what follows a sign; where nothing does, the sign is not taken."""
        kept = self.place, self.count
        self.take()
        try:
            return out + sign + further()  # type: ignore[operator]
        except _No:
            self.place, self.count = kept
            raise

    def sum(self) -> str:
        out = ""
        if self.ahead()[0] == "-":
            self.take()
            out = "-"
        out += self.product()
        while (token := self.ahead()[0]) in ("+", "-"):
            try:
                out = self._joined(out, f" {token} ", self.product)
            except _No:
                break
        return out

    def product(self) -> str:
        """Factors side by side; chains of * and / without a space between are fractions."""
        out = self.chain()
        while not self.condition and self.follows():
            kept = self.place, self.count
            try:
                out += f" {self.chain()}"
            except _No:
                self.place, self.count = kept
                break
        return out

    def follows(self) -> bool:
        token, place = self.ahead()
        if token == "<":  # an inner product, where no space stands behind it
            return not "".join(self.tokens[place + 1 : place + 2]).isspace()
        if not token or (place == self.place and self.tokens[place - 1][-1:].isalnum()):
            return token in ("[", "(") and place != self.place
        if token == "|":
            return not self.bars
        return _is_name(self.tokens, place) or token[0].isdigit() or token in ("(", "[")

    def chain(self) -> str:
        above, below = [self.power()], []
        spaced = ""
        while (token := self.ahead()[0]) in ("*", "/", "o"):
            near = self.tight() == token
            kept = self.place, self.count
            self.take()
            if token == "o" and near:
                raise _No
            try:
                factor = self.power()
            except _No:
                self.place, self.count = kept
                break
            if token == "*":
                above.append(factor)
            elif token == "o":
                above.append(rf"\odot {factor}")
            elif near:
                below.append(factor)
            else:
                spaced += rf" / {_fraction(above, below)}" if spaced else ""
                spaced = spaced or _fraction(above, below)
                above, below = [factor], []
                spaced += " / "
        return spaced + _fraction(above, below)

    def power(self) -> str:
        base = self.primary()
        while True:
            token = self.tight()
            if token == "[":
                below = self.indices()
                base = f"{{{base}}}" if "_" in base else base
                base += f"_{{{below}}}" if below else ""
            elif token == "'":
                after = self.tokens[self.place + 1 : self.place + 2]
                if after and after[0][0].isalpha():
                    raise _No
                self.take()
                base += "'"
            elif token == "(" and base.endswith("'"):
                base += self.bracketed()
            elif token in ("**", "^"):
                self.take()
                above = self.exponent()
                base = f"{base if _SINGLE.fullmatch(base) else f'{{{base}}}'}^{{{above}}}"
            else:
                return base

    def exponent(self) -> str:
        if self.tight() == "T":
            self.take()
            return r"\top"
        if self.tight() == "(":
            self.take("(")
            inside = self.relation("(")
            self.take(")")
            return inside
        if self.tight() == "-":
            self.take()
            return f"-{self.primary()}"
        return self.primary()

    def indices(self) -> str:
        self.take("[")
        if self.tight() == "]":
            self.take()
            return ""
        inside = self.relation("[")
        self.take("]")
        return " ".join(inside.replace(",", " ").split())

    def bracketed(self) -> str:
        opening = self.take()
        closing = {"(": ")", "[": "]"}[opening]
        bars, self.bars = self.bars, 0
        inside = self.relation("(")
        self.bars = bars
        self.take(closing)
        self.condition = any(f" {sign} " in inside for sign in RELATIONS.values())
        return rf"\left{opening}{inside}\right{closing}"

    def primary(self) -> str:
        token, place = self.ahead()
        if token in ("(", "["):
            return self.bracketed()
        self.condition = False
        if token == "|" and not self.bars:
            self.take()
            self.bars += 1
            inside = self.sum()
            self.take("|")
            self.bars -= 1
            return rf"\left|{inside}\right|"
        if token == "<":
            self.take()
            inside = self.relation("<")
            self.take(">")
            if "," not in inside:
                raise _No
            return rf"\left\langle {inside}\right\rangle"
        if token[:1].isdigit():
            return self.take()
        if not _is_name(self.tokens, place):
            raise _No
        self.take()
        return self.named(token)

    def named(self, name: str) -> str:
        head, _, tail = name.partition("_")
        if head == "sum":
            below = tail
            if not tail:
                self.take("_")
                self.take("{")
                below = self.relation("{")
                self.take("}")
            return rf"\sum_{{{' '.join(below.replace(',', ' ').split())}}} {self.product()}"
        if name == "grad":
            return r"\nabla"
        if name in CAPITALS:
            return f"\\{name}"
        if name == "int":
            return r"\int"
        if name == "oo":
            return r"\infty"
        if self.tight() == "(" and (name in FUNCTIONS or len(head) > 1 or _short(name)):
            inside = self.bracketed()
            if name == "sqrt":
                return rf"\sqrt{{{inside[6:-7]}}}"
            return rf"{_function(name)}{inside}"
        if name in _DIFFERENTIALS:
            return rf"\mathrm{{d}}{word_name(name[1:])}"
        if re.fullmatch("[a-d]{2,4}", tail):
            return f"{word_name(head)}_{{{' '.join(tail)}}}"
        signs = {"plus": "+", "minus": "-"}
        if tail in signs:
            return f"{word_name(head)}_{{{signs[tail]}}}"
        return word_name(name)


def _function(name: str) -> str:
    if name in _PLAIN:
        return "\\" + name
    if len(name.partition("_")[0]) == 1 or name in GREEK:
        return word_name(name)
    return rf"\operatorname{{{name}}}".replace("_", r"\_")


def _short(name: str) -> bool:
    return len(name) == 1 and name in "fgKNpo"


def _is_name(tokens: list[str], place: int) -> bool:
    """Whether a token names a quantity, not a word of the sentence."""
    token = tokens[place] if place < len(tokens) else ""
    head, _, tail = token.partition("_")
    if not re.fullmatch(_NAME, token):
        return False
    after = "".join(tokens[place + 1 : place + 3])
    if token in ("a", "A", "I"):
        return not re.match(r"\s+[a-z]{2,}", after)
    if token == "o":
        return after[:1] == "("
    if token in NAMES or after[:1] == "[" or (token in FUNCTIONS and after[:1] == "("):
        return True
    if head == "sum":
        return bool(tail) or after == "_{"
    return head in NAMES or len(head) == 1


def _fraction(above: list[str], below: list[str]) -> str:
    over = " ".join(above)
    if not below:
        return over
    under = " ".join(below)
    if r"\top" in over and len(above) == 1:
        return f"{over} / {under}"
    return rf"\frac{{{_bare(above)}}}{{{_bare(below)}}}"


def _bare(factors: list[str]) -> str:
    """The factors of one side of a fraction, whose line stands for the outer brackets."""
    one = factors[0] if len(factors) == 1 else ""
    if one.startswith(r"\left(") and one.endswith(r"\right)"):
        depth = 0
        for step in re.finditer(r"\\left\(|\\right\)", one):
            depth += 1 if step[0] == r"\left(" else -1
            if not depth and step.end() < len(one):
                break
        else:
            return one[6:-7]
    return " ".join(factors)
