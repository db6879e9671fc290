"""Words of a definition are text in its kernel: never run, and read back as they were written."""

from __future__ import annotations

import re
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pytest
from built_modules import imported

from derive import registry
from derive.dispatch import method
from derive.emit.common.rendering import escape, raw
from derive.errors import DefinitionError

HOSTILE = [
    'a"""; raise SystemExit("ran"); """b',
    'quotes " and "" and \' and """',
    "ends in a backslash \\",
    "ends in a quote \"",
    "\\N{",
    "\\x \\u12 \\",
    "{{ 7 * 7 }} {% raise %} {# no #}",
    "a # comment",
    "line\u2028separator and \x85 and \x0c",
    "tab\tand \x00 and \x1b",
    "a lone surrogate \ud800",
    "an f-string {gamma!r:>{width}}",
]  # fmt: skip

SDE = """from derive.notation import *
m, n = dims("m: tokens", "n: " + WORDS)
gamma = params("gamma: in (0, 1), " + WORDS)
@covariance_sde(state="X[m, n]", width=n)
def hostile(X):
    p = pattern("p: " + WORDS, m)
    Y = X @ gaussian(n, n) / sqrt(n)
    return sqrt(1 - gamma**2) * X + gamma * (eye(m) + p * (Y @ X.T) / n / sqrt(n)) @ Y
"""
CLOSURE = """from derive.notation import *
d, d_k = dims("d: " + WORDS, "d_k: key dimension")
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))
beta = params("beta: positive, " + WORDS)
@gaussian_closure(state="x[d]")
def hostile(x, y):
    return average(V @ y, exp(beta * (Q @ x) @ (K @ y)))
"""
CONTROL = """from derive.notation import *
d = dims("d: " + WORDS)
alpha = params("alpha: positive, " + WORDS)
@optimal_control(state="x[d]", control="u[d]", data="goal[d]")
def hostile(x, u, goal):
    return problem(dynamics=u, running=alpha * squared_norm(x - goal) / 2 + squared_norm(u) / 2)
"""
TEXTS = {"sde": SDE, "closure": CLOSURE, "control": CONTROL}


def compiles(words: str) -> bool:
    """Python 3.13 compiles no docstring with a lone surrogate."""
    return sys.version_info < (3, 13) or not re.search("[\ud800-\udfff]", words)


@pytest.mark.parametrize("words", HOSTILE)
def test_text_reads_back_equal(words: str) -> None:
    for literal in (f'"""{escape(words)}"""', f'"{escape(words)}"', str(raw(words))):
        assert eval(literal) == words


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_no_text_of_a_definition_is_run(tmp_path: Path, kind: str, number: int) -> None:
    """Title, meanings, file name and command, in every slot at once."""
    words = HOSTILE[number]
    file = tmp_path / "definition.py"
    file.write_text(f"{ascii(words)}\nWORDS = {ascii(words)}\n{TEXTS[kind]}")
    if not compiles(words):
        with pytest.raises(DefinitionError, match="surrogates not allowed"):
            registry.entries(file)
        return
    (entry,) = registry.entries(file)
    model = registry.load(entry)
    result = method(model.method).derive(model)
    text = method(model.method).render(result, f"{words}.py", f"{words}.py:hostile")
    kernel = tmp_path / "kernel.py"
    kernel.write_text(text, encoding="utf-8")
    module: Any = imported(kernel)
    found = [module.__doc__] + [c.__doc__ for c in vars(module).values() if isinstance(c, type)]
    assert squeezed(words) in squeezed(module.__doc__)
    if kind == "sde":
        assert any(squeezed(words) in squeezed(doc or "") for doc in found[1:])


PLACED_AS_CODE = {
    "name", "place", "line", "kernel.result", "value", "f.text", '("    " ~ line if line else "")',
}  # fmt: skip


def test_only_what_emitters_write_is_placed_as_code() -> None:
    """Everything else that a template prints goes through the one function that escapes."""
    for file in sorted((Path(__file__).parents[3] / "templates").glob("*.jinja")):
        printed = re.findall(r"{{(.*?)}}", file.read_text(encoding="utf-8"))
        assert len(printed) > 20
        for text in printed:
            what, *filters = [part.strip() for part in text.split("|")]
            if "code" in filters:
                assert what in PLACED_AS_CODE, (file.name, what)


@cache
def plain_derivation(kind: str) -> tuple[Any, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "definition.py"
        file.write_text(f"WORDS = 'size'\n{TEXTS[kind]}")
        (entry,) = registry.entries(file)
        return entry, method(entry.method).derive(registry.load(entry))


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_no_equation_or_fact_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, number: int
) -> None:
    """The texts that the derivation writes are escaped as well: names reach them."""
    words, placed = HOSTILE[number], []
    plain = jinja2.Template.render

    def hostile(template: jinja2.Template, **context: Any) -> str:
        for slot in ("facts", "equations_text", "equations_latex"):
            if isinstance(context.get(slot), dict):
                context[slot] = {**context[slot], words: words}
                placed.append(slot)
            elif slot in context:
                context[slot] = [*context[slot], words]
                placed.append(slot)
        return plain(template, **context)

    monkeypatch.setattr(jinja2.Template, "render", hostile)
    entry, result = plain_derivation(kind)
    kernel = tmp_path / "kernel.py"
    kernel.write_text(method(entry.method).render(result, "a.py", "a.py"), encoding="utf-8")
    if not compiles(words):  # then the gate writes no such kernel
        with pytest.raises(UnicodeEncodeError):
            imported(kernel)
        return
    module: Any = imported(kernel)
    assert set(placed) == {"facts", "equations_text", "equations_latex"}
    assert squeezed(words) in squeezed(module.__doc__)
    latex = module.EQUATIONS
    assert latex[words] == words


def squeezed(text: str) -> str:
    """Text without its spaces: long lines of a docstring are filled."""
    return re.sub(r"\s+", "", text)
