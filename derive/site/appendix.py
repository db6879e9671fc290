"""A derivation as LaTeX that a paper could take as an appendix.

Definition, notation, equations, every step, facts as mathematics, citations with their BibTeX in
the same file: it compiles as it stands, and its body can be cut out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from derive.emit.common.document import Document, Shown
from derive.emit.common.latex import escape
from derive.methods.common.record import Check, Fact, all_facts
from derive.site import references
from derive.site.beside import Beside
from derive.site.formulas import pieces

_HEAD = r"""\documentclass{article}
\usepackage{amsmath,amssymb}
\usepackage[margin=2.5cm]{geometry}
\allowdisplaybreaks
\emergencystretch=3em
"""


def latex(document: Document, beside: Beside) -> str:
    """The document, with the definition that lies beside it."""
    definition = beside.definition
    cited = references.numbers(document.title, definition)
    bib = references.bibtex(document.title, definition)
    parts = [_HEAD.rstrip()]
    if bib:
        parts.append(f"% references.bib:\n{re.sub('^', '% ', bib, flags=re.MULTILINE)}")
    title = said(document.title or document.name)
    parts += [r"\begin{document}", rf"\section*{{{title}}}", rf"\label{{derive:{document.name}}}"]
    if definition:
        parts += [r"\subsection*{Definition}", _verbatim(definition)]
    parts += _notation(document, beside)
    parts.append(r"\subsection*{Equations}")
    for shown in document.equations:
        parts += [rf"\paragraph{{{said(shown.heading)}}}", display(shown)]
    notes = document.notes if document.latex_notes is None else document.latex_notes
    parts += _list([said(n) for n in notes if n not in document.facts])
    facts = all_facts((s.step for s in document.steps or ()), document.facts)
    parts += [r"\subsection*{What follows}", *_list(map(_fact, facts))] if facts else []
    parts += _steps(document)
    parts += _bibliography(cited)
    return "\n".join([*parts, r"\end{document}"]) + "\n"


def said(words: str) -> str:
    """A sentence with its formulas as mathematics."""
    return "".join(f"${p.text}$" if p.is_math else _words(p.text) for p in pieces(words))


def _words(text: str) -> str:
    return escape(text).replace('"', "''")


def display(shown: Shown) -> str:
    first, *others = shown.right or ["0"]
    rows = [rf"{shown.left} ={{}}& {first}", *(f"& {row}" for row in others)]
    return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"


def _verbatim(text: str) -> str:
    text = text.rstrip().replace(r"\end{verbatim}", r"\ end{verbatim}")
    plain = text.encode("ascii", "backslashreplace").decode("ascii")
    return f"{{\\small\n\\begin{{verbatim}}\n{plain}\n\\end{{verbatim}}\n}}"


def _notation(document: Document, beside: Beside) -> list[str]:
    lines = [_words(line.strip()) for line in document.intro]
    lines += [f"{said(name)}: {_words(words)}" for name, words in beside.notation]
    return [r"\subsection*{Notation}", *_list(lines)] if lines else []


def _list(rows: Sequence[str] | map[str]) -> list[str]:
    body = [rf"\item {row}" for row in rows]
    return [r"\begin{itemize}", *body, r"\end{itemize}"] if body else []


def _check(check: Check | None) -> str:
    if check is None:
        return ""
    word = "passed" if check.passed else "FAILED"
    return rf"\emph{{Check {word}}}: {_words(check.what)}; residual {check.residual:.1e}."


def _fact(fact: Fact) -> str:
    return said(fact) + (rf" (residual {fact.check.residual:.0e})" if fact.check else "")


def _steps(document: Document) -> list[str]:
    if not document.steps:
        return []
    parts = [r"\subsection*{Derivation}"]
    for number, shown in enumerate(document.steps, 1):
        step = shown.step
        heading = rf"\paragraph{{Step {number}: {said(step.name)}}}"
        parts.append(f"{heading} {said(step.rule)}. {_check(step.check)}")
        parts += _list([said(fact) for fact in step.facts])
        parts += map(display, shown.results)
    return parts


def _bibliography(cited: Sequence[str]) -> list[str]:
    if not cited:
        return []
    rows = []
    for number in cited:
        words = references.line(number)
        link = rf"\texttt{{https://arxiv.org/abs/{number}}}"
        rows.append(rf"\bibitem{{{references.key(number)}}} {words + '. ' if words else ''}{link}.")
    return [r"\begin{thebibliography}{9}", *rows, r"\end{thebibliography}"]
