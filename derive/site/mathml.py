"""LaTeX of equations as MathML, which browsers show without any script.

Input: the LaTeX that derive and SymPy write, a small closed set of commands.  Output: MathML Core.
What is not known raises `Unknown`, so that nothing is shown as something else; `display` and
`inline` then give the LaTeX itself as code.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

from derive.calculus.written.symbols import GREEK

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[A-Za-z]+|\d+(?:\.\d+)?|\s+|.", re.DOTALL)
_LETTERS = {  # beside the small Greek letters
    "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ",
    "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "Upsilon": "Υ", "varphi": "φ", "infty": "∞",
    "partial": "∂", "nabla": "∇", "top": "⊤", "ell": "ℓ",
}  # fmt: skip
_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "zeta": "ζ", "eta": "η",
    "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ",
    "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "upsilon": "υ", "phi": "ϕ", "chi": "χ",
    "psi": "ψ", "omega": "ω", "varepsilon": "ε",
}  # fmt: skip
LETTERS = _LETTERS | _GREEK
OPERATORS = {
    "odot": "⊙", "leftrightarrow": "↔", "to": "→", "circ": "∘", "sim": "∼", "cdot": "⋅",
    "times": "×", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "in": "∈",
    "langle": "⟨", "rangle": "⟩", "lVert": "‖", "rVert": "‖", "lvert": "|", "rvert": "|",
    "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "pm": "±", "approx": "≈",
    "Leftrightarrow": "⇔", "dots": "…", "ldots": "…", "int": "∫", "wedge": "∧", "vee": "∨",
}  # fmt: skip
FUNCTIONS = {"exp", "log", "ln", "sin", "cos", "tan", "cot", "sinh", "cosh", "tanh", "det", "max"}
FUNCTIONS |= {"min", "arcsin", "arccos", "arctan", "lim", "sup", "inf"}
ACCENTS = {"dot": "˙", "ddot": "¨", "bar": "¯", "hat": "^", "tilde": "~", "vec": "→"}
SPACES = {"quad": "1em", "qquad": "2em", ",": ".17em", ";": ".28em", ":": ".22em", " ": ".25em"}
_BOLD = dict(zip("0123456789", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗", strict=True))
_DOUBLE = {"E": "𝔼", "R": "ℝ", "P": "ℙ", "N": "ℕ", "Z": "ℤ", "S": "𝕊", "C": "ℂ"}
APPLY = "<mo>&#x2061;</mo>"


class Unknown(ValueError):
    """A command or a shape that this reader has no sign for."""


def math(tex: str) -> str:
    """The content of a formula, without the element around it.  Raises Unknown."""
    reader = _Reader(tex)
    out = reader.row("")
    if reader.place < len(reader.tokens):
        raise Unknown(f"{reader.peek()!r} closes nothing in {tex}")
    return out


def inline(tex: str) -> str:
    """A formula among words."""
    return _element(lambda: math(tex), tex, "")


def display(left: str, rows: Sequence[str]) -> str:
    """An equation in rows, its right side aligned at the sign of equality."""

    def table() -> str:
        first, *others = rows or ["0"]
        lines = [(f"{math(left)}<mo>=</mo>" if left else "", math(first))]
        lines += [("", math(row)) for row in others]
        cells = "".join(
            f'<mtr><mtd class="l"><mrow>{a}</mrow></mtd><mtd class="r"><mrow>{b}</mrow></mtd></mtr>'
            for a, b in lines
        )
        return f'<mtable class="eq" displaystyle="true">{cells}</mtable>'

    return _element(table, source(left, rows), ' display="block"')


def source(left: str, rows: Sequence[str]) -> str:
    """The LaTeX of an equation, as it is copied."""
    head = f"{left} ={{}}& " if left else "& "
    body = " \\\\\n& ".join(rows or ["0"])
    return f"\\begin{{align*}}\n{head}{body}\n\\end{{align*}}"


def _element(make: Callable[[], str], tex: str, attributes: str) -> str:
    try:
        return f"<math{attributes}>{make()}</math>"
    except Unknown:
        return f'<code class="tex">{html.escape(tex)}</code>'


class _Reader:
    def __init__(self, tex: str) -> None:
        self.tokens, self.place = _TOKEN.findall(tex), 0

    def peek(self) -> str:
        while self.place < len(self.tokens) and self.tokens[self.place].isspace():
            self.place += 1
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise Unknown(f"{wanted or 'something'} is missing")
        self.place += 1
        return token

    def row(self, *ends: str) -> str:
        out = []
        while (token := self.peek()) not in ends and token:
            if token in ("}", r"\right", r"\end"):
                break
            out.append(self.scripted())
        return "".join(out)

    def group(self) -> str:
        """What a command is applied to, as one element."""
        if self.peek() != "{":
            return self.atom()
        self.take("{")
        inside = self.row("}")
        self.take("}")
        return f"<mrow>{inside}</mrow>"

    def words(self) -> str:
        """What stands in braces as it stands."""
        self.take("{")
        out, depth = "", 1
        while depth:
            if self.place >= len(self.tokens):
                raise Unknown("an open brace")
            token = self.tokens[self.place]
            self.place += 1
            depth += (token == "{") - (token == "}")
            if depth:
                out += token[1:] if re.fullmatch(r"\\[^A-Za-z]", token) else token
        if "\\" in out.replace(r"\textless{}", "").replace(r"\textgreater{}", ""):
            raise Unknown(f"a command in {out!r}")
        out = out.replace(r"\textless{}", "<").replace(r"\textgreater{}", ">")
        return html.escape(out.replace("^{}", "^").replace("~{}", "~"))

    def scripted(self) -> str:
        big = self.peek() in (r"\sum", r"\prod", r"\max", r"\lim")
        base, below, above = self.atom(), "", ""
        while (token := self.peek()) in ("_", "^", "'"):
            self.take()
            if token == "_":
                below += self.group()
            elif token == "^":
                above += self.group()
            else:
                above += "<mo>&#x2032;</mo>"
        if not below and not above:
            return base
        base = base.removesuffix(APPLY)
        down, up = f"<mrow>{below}</mrow>", f"<mrow>{above}</mrow>"
        if big:
            word, inside = ("munderover", down + up) if above else ("munder", down)
            return f"<{word}>{base}{inside if below else up}</{word}>"
        if below and above:
            return f"<msubsup>{base}{down}{up}</msubsup>"
        return f"<msub>{base}{down}</msub>" if below else f"<msup>{base}{up}</msup>"

    def atom(self) -> str:
        if self.peek() == "{":
            return self.group()
        token = self.take()
        if token.startswith("\\"):
            return self.command(token[1:])
        if token.isalpha():
            return f"<mi>{token}</mi>"
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token == "~":
            return '<mspace width=".3em"/>'
        if token in "_^}&#$%":
            raise Unknown(f"{token!r} stands alone")
        sign = html.escape({"-": "−", "*": "∗", "/": "/"}.get(token, token))
        return f'<mo stretchy="false">{sign}</mo>' if token in "()[]|" else f"<mo>{sign}</mo>"

    def command(self, word: str) -> str:
        if word in GREEK or word in LETTERS:
            return f"<mi>{LETTERS.get(word, word)}</mi>"
        if word in FUNCTIONS:
            return f"<mi>{word}</mi>{APPLY}"
        if word in ("sum", "prod"):
            return f"<mo>{'∑' if word == 'sum' else '∏'}</mo>"
        if word in OPERATORS:
            sign = OPERATORS[word]
            return f'<mo stretchy="false">{sign}</mo>' if sign in "‖|" else f"<mo>{sign}</mo>"
        if word in SPACES:
            return f'<mspace width="{SPACES[word]}"/>'
        if word in ACCENTS:
            return f'<mover accent="true">{self.group()}<mo>{ACCENTS[word]}</mo></mover>'
        if word in "{}_":
            return f"<mo>{word}</mo>"
        known = getattr(self, f"on_{word}", None)
        if known is None:
            raise Unknown(f"no sign for \\{word}")
        return str(known())

    def on_frac(self) -> str:
        return f"<mfrac>{self.group()}{self.group()}</mfrac>"

    def on_sqrt(self) -> str:
        if self.peek() != "[":
            return f"<msqrt>{self.group()}</msqrt>"
        self.take("[")
        index = self.row("]")
        self.take("]")
        return f"<mroot>{self.group()}<mrow>{index}</mrow></mroot>"

    def on_text(self) -> str:
        return f"<mtext>{self.words().replace(' ', '&#xa0;')}</mtext>"

    on_textrm = on_text

    def on_mathrm(self) -> str:
        return f'<mi mathvariant="normal">{self.words()}</mi>'

    def on_operatorname(self) -> str:
        return f'<mi mathvariant="normal">{self.words()}</mi>{APPLY}'

    def on_mathbf(self) -> str:
        return f"<mn>{self._of(_BOLD)}</mn>"

    def on_mathbb(self) -> str:
        return f"<mi>{self._of(_DOUBLE)}</mi>"

    def _of(self, alphabet: dict[str, str]) -> str:
        letter = self.words()
        if letter not in alphabet:
            raise Unknown(f"{letter!r} is in no alphabet")
        return alphabet[letter]

    def on_left(self) -> str:
        opening = self.fence("left")
        inside = ""
        while self.peek() != r"\right":
            if self.peek() in ("", "}", r"\end"):
                raise Unknown(r"\left without \right")
            inside += self.scripted()
        self.take(r"\right")
        return f"<mrow>{opening}{inside}{self.fence('right')}</mrow>"

    def fence(self, side: str) -> str:
        token = self.take()
        sign = OPERATORS.get(token[1:], token[1:]) if token.startswith("\\") else token
        if sign == ".":
            return ""
        form = {"left": "prefix", "right": "postfix"}[side]
        return f'<mo fence="true" form="{form}">{html.escape(sign)}</mo>'

    def on_big(self) -> str:
        return self.atom()

    on_Big = on_bigl = on_bigr = on_big

    def on_begin(self) -> str:
        kind = self.words()
        if kind not in ("cases", "matrix", "pmatrix", "bmatrix"):
            raise Unknown(f"no table of kind {kind}")
        rows = [[""]]
        while (token := self.peek()) != r"\end":
            if token in ("&", "\\\\"):
                self.take()
                rows[-1].append("") if token == "&" else rows.append([""])
            elif not token:
                raise Unknown("a table without end")
            else:
                rows[-1][-1] += self.scripted()
        self.take(r"\end")
        self.words()
        cells = "".join(
            f"<mtr>{''.join(f'<mtd>{cell}</mtd>' for cell in row)}</mtr>" for row in rows
        )
        opening, closing = {"cases": ("{", ""), "pmatrix": "()", "bmatrix": "[]"}.get(
            kind, ("", "")
        )
        ends = [f'<mo fence="true">{sign}</mo>' if sign else "" for sign in (opening, closing)]
        return f"<mrow>{ends[0]}<mtable>{cells}</mtable>{ends[1]}</mrow>"
