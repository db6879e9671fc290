"""Formulas: found in sentences, read as they stand, and written as MathML that says the same."""

from __future__ import annotations

import ast
import re
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest
import sympy as sp
from read_latex import translated
from sympy.parsing.sympy_parser import (
    convert_xor,
    implicit_multiplication,
    parse_expr,
    standard_transformations,
)

from derive.emit.common.document import Document, Shown
from derive.site import appendix, mathml, references
from derive.site.beside import Beside
from derive.site.formulas import pieces
from derive.site.page import sentence

REPOSITORY = Path(__file__).parents[2]


def formulas(words: str) -> list[str]:
    return [p.text for p in pieces(words) if p.is_math]


@pytest.mark.parametrize(
    "words",
    [
        "particles of bilinear_softmax_closure: the law of the keys is the empirical measure",
        "free end, no terminal cost; a rotation of all tokens commutes with the definition",
        "I am; the limit of a mask that orders the tokens, so that each sees another number",
        "equal_angle_stability has the rates of small changes, see line 15",
    ],
)
def test_words_stay_words(words: str) -> None:
    assert formulas(words) == []


def test_no_word_is_lost() -> None:
    words = "one token, v = V: dv = 2*gamma*v dB; v does not explode (no drift), |x| > 0"
    assert "".join(p.text for p in pieces(words) if not p.is_math) == (
        "one token, : ;  does not explode (no drift), "
    )


@pytest.mark.parametrize(
    ("words", "tex"),
    [
        ("as t -> oo here", r"t \to \infty"),
        ("where n >= 3 tokens", r"n \ge 3"),
        ("R[a,b] = <x[a], x[b]>", r"R_{a b} = \left\langle x_{a} , x_{b}\right\rangle"),
        ("d<V_ab, V_cd> / dt", r"d \left\langle V_{a b} , V_{c d}\right\rangle / \mathrm{d}t"),
        ("g = w[h,g]/sum_{g} w[h,g]", r"g = \frac{w_{h g}}{\sum_{g} w_{h g}}"),
        ("L L^T = V", r"L L^{\top} = V"),
        ("f_2[a] x'", r"{f_{2}}_{a} x'"),
        ("where a<b holds", "a < b"),
    ],
)
def test_what_stands_is_what_is_written(words: str, tex: str) -> None:
    assert formulas(words) == [tex]


def test_a_condition_in_brackets_is_no_factor() -> None:
    first, second = formulas("on the circle (d = 2) theta[a]' = x[a]")
    assert first == r"\left(d = 2\right)" and second.startswith(r"\theta_{a}'")


def value(text: str, at: dict[str, float]) -> float:
    steps = (*standard_transformations, implicit_multiplication, convert_xor)
    names = {name: sp.Symbol(name, positive=True) for name in at}
    found = parse_expr(text, local_dict=names, transformations=steps)
    return float(found.subs({names[n]: v for n, v in at.items()}))


@pytest.mark.parametrize(
    "text",
    [
        "gamma**2*w**3/(16*tau_0**2)",
        "gamma*w*sqrt(-8*gamma**2*tau_0**2 + gamma**2*w**2 + 16*tau_0**2)/(2*tau_0)",
        "(-gamma**2*w*(gamma**2 - 3)*(w - 1)*(w + 1)/2)",
        "2*gamma/w*tau_0",
        "w - 2 (gamma - tau_0)/3",
        "-gamma**-2*w/2",
        "gamma**(1/2) / (w + 1)",
        "exp(-2*gamma)/(1 + exp(-2*gamma))",
    ],
)
def test_a_formula_has_the_value_of_its_text(text: str) -> None:
    at = {"gamma": 0.37, "w": 1.91, "tau_0": 0.73}
    (tex,) = formulas(f"is {text}")
    read = translated(tex)
    assert value(read, at) == pytest.approx(value(text, at), rel=1e-12), (text, tex, read)


def kernels() -> dict[str, str]:
    """Every equation of every kernel."""
    found = {}
    for file in sorted((REPOSITORY / "generated").glob("[!_]*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "EQUATIONS":
                equations = ast.literal_eval(node.value)
                found |= {f"{file.stem}.{name}": tex for name, tex in equations.items()}
    return found


ARITY = {"mfrac": 2, "msub": 2, "msup": 2, "msubsup": 3, "munder": 2, "munderover": 3}
ARITY |= {"mover": 2, "mroot": 2}


def test_every_equation_has_its_signs_in_their_order() -> None:
    seen = kernels()
    assert len(seen) > 150
    for name, tex in seen.items():
        tree = ElementTree.fromstring(f"<math>{mathml.math(tex)}</math>")
        for element in tree.iter():
            assert len(element) == ARITY.get(element.tag, len(element)), (name, element.tag)
        shown = "".join(tree.itertext())
        plain = re.sub(r"\\(?:[A-Za-z]+|.)", "", re.sub(r"\\mathbf\{1\}|\\mathbb\{E\}", "", tex))
        letters = re.sub(r"[^A-Za-z0-9]", "", plain)
        words = {"exp", "tanh", "det", "max", "log", "cos", "sin", "min"}
        told = re.sub("|".join(words & set(re.findall(r"\\([a-z]+)", tex))) or "$^", "", shown)
        assert sorted(letters) == sorted(re.sub(r"[^A-Za-z0-9]", "", told)), name
        assert tex.count(r"\frac") == len(tree.findall(".//mfrac"))
        roots = [*tree.findall(".//msqrt"), *tree.findall(".//mroot")]
        assert tex.count(r"\sqrt") == len(roots)


def test_a_fraction_is_not_turned_over() -> None:
    (fraction,) = ElementTree.fromstring(f"<math>{mathml.math(chr(92) + 'frac{a}{b}')}</math>")
    assert ["".join(part.itertext()) for part in fraction] == ["a", "b"]


@pytest.mark.parametrize(
    "tex", [r"\unknown{a}", r"\frac{a}", "a}", r"\left( a", "{a", r"a \over b"]
)
def test_what_is_not_known_is_shown_as_its_latex(tex: str) -> None:
    with pytest.raises(mathml.Unknown):
        mathml.math(tex)
    assert mathml.inline(tex).startswith('<code class="tex">')


def test_a_sentence_is_escaped() -> None:
    assert "<script" not in sentence("tokens <script>alert(1)</script> and x < y & more")


def papers() -> set[str]:
    texts = [f.read_text(encoding="utf-8") for f in (REPOSITORY / "theory").glob("*.py")]
    return set(references.numbers(*texts))


def test_every_paper_that_a_shipped_definition_names_is_known() -> None:
    text = (resources.files("derive.site") / "references.bib").read_text(encoding="utf-8")
    assert set(re.findall(r"eprint = \{([^}]+)\}", text)) == papers()
    for number in papers():
        assert "author = {" in references.entry(number)
    keys = re.findall(r"@misc\{([^,]+),", text)
    assert len(set(keys)) == len(keys)


def test_of_another_paper_its_number_is_said() -> None:
    assert "eprint = {1706.03762}" in references.entry("1706.03762")
    assert references.numbers("(arXiv 1706.03762)", "arXiv: 1706.03762") == ["1706.03762"]


def balanced(tex: str) -> bool:
    """Braces and environments close as they opened, outside what is verbatim."""
    plain = re.sub(
        r"\\begin\{verbatim\}.*?\\end\{verbatim\}|(?<!\\)%[^\n]*|\\[{}\\]", "", tex, flags=re.S
    )
    depth, names = 0, []
    for found in re.finditer(r"\\(begin|end)\{(\w+\*?)\}|[{}]", plain):
        if found[1] == "begin":
            names.append(found[2])
        elif found[1] == "end":
            if not names or names.pop() != found[2]:
                return False
        else:
            depth += 1 if found[0] == "{" else -1
            if depth < 0:
                return False
    return not names and depth == 0


def test_the_appendix_closes_what_it_opens() -> None:
    assert balanced(r"\begin{a}{x}\end{a}") and not balanced(r"\begin{a}{x\end{a}")
    shown = Shown("drift", ["b = 1"], "Drift of V_ab & <x, y>", "b", [r"\frac{1}{2}"], None)
    document = Document("m", "A title with 50% & _ (arXiv 2306.17759)", ["state X[m, n]"], [shown],
                        ["a note # with {braces}"], [], {})  # fmt: skip
    text = appendix.latex(document, Beside(definition="x = 1  # \\end{verbatim} é\n"))
    assert balanced(text), text
    assert text.count(r"\end{verbatim}") == 1 and r"50\% \& \_" in text
    assert r"\bibitem{noci2023shaped}" in text and "% @misc{noci2023shaped," in text
