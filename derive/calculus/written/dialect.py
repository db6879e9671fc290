"""How the words of an equation are joined in plain text and in LaTeX."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """How words are joined; in each pattern {} stands for what it is applied to."""

    transpose: str = "{}^T"
    ones: str = "1"
    trace: str = "tr({})"
    norm: str = "|{}|^2"
    entrywise: str = " o "
    diagonal: str = "diag({})"
    brackets: str = "({})"
    exchange: str = "({})"
    arrow: str = " <-> "
    step: str = " -> "
    acts: str = "{}_{}{}"
    acting: tuple[str, str] = ("(", ")")
    partner: str = "transpose"
    is_latex: bool = False


TEXT = Dialect()
LATEX = Dialect(
    transpose=r"{}^{{\top}}",
    ones=r"\mathbf{{1}}",
    trace=r"\operatorname{{tr}}\left({}\right)",
    norm=r"\left\lVert {} \right\rVert^2",
    entrywise=r" \odot ",
    diagonal=r"\operatorname{{diag}}\left({}\right)",
    brackets=r"\left({}\right)",
    exchange=r"\left({}\right)",
    arrow=r" \leftrightarrow ",
    step=r" \to ",
    acts="{}_{{{} {}}}",
    acting=(r"\Big(", r"\Big)"),
    partner=r"\text{transpose}",
    is_latex=True,
)
