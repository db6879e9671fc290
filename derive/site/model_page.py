"""The page of a model: definition beside equations, derivation, facts, kernel, certificate.

Input: the report of a derivation as a `Document` with its steps, and what lies beside it as
`Beside`.  Output: one page of HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from derive.emit.common.document import Document, Shown, StepShown
from derive.methods.common.record import Check, Fact, all_facts
from derive.site import appendix, certified, mathml, references
from derive.site.beside import Beside
from derive.site.kernel_source import functions, kernel_section
from derive.site.page import Link, code, escape, page, scrolling, section, sentence, slug, tex


def model_page(document: Document, beside: Beside) -> str:
    computing = functions(document.equations, beside.kernel, beside.computed)
    facts = all_facts((s.step for s in document.steps or ()), document.facts)
    parts = [
        _definition(document, beside, computing),
        section("facts", "What is said in words", _facts(facts)),
        section("derivation", "The derivation, step by step", _steps(document.steps or ())),
        section("figures", "Pictures", _figures(beside.figures)),
        kernel_section(document.equations, beside.kernel, computing),
        certified.certificate_section(beside.certificate),
        certified.mutants_section(beside.certificate, beside.rules, document.name),
        section("appendix", "For a paper", _appendix(document, beside)),
        section("references", "References", references.as_html(document.title, beside.definition)),
    ]
    links = [*beside.links, *_contents(parts)]
    return page(
        document.title or document.name,
        "\n".join(filter(None, parts)),
        links,
        _head(document, beside),
    )


def _contents(parts: Sequence[str]) -> Iterator[Link]:
    for part in parts:
        if part:
            name = part.partition('id="')[2].partition('"')[0]
            yield name, f"#{name}"


def _head(document: Document, beside: Beside) -> str:
    rows = {"model": document.name, **({"kind": beside.method} if beside.method else {})}
    rows |= beside.properties
    cells = "".join(f"<dt>{escape(k)}</dt><dd>{sentence(v)}</dd>" for k, v in rows.items())
    return f'<dl class="properties">{cells}</dl>'


def _definition(document: Document, beside: Beside, computing: Mapping[str, str]) -> str:
    intro = "".join(f"<p><code>{escape(line.strip())}</code></p>" for line in document.intro)
    if beside.notation:
        rows = "; ".join(f"{sentence(name)}: {escape(words)}" for name, words in beside.notation)
        intro += f"<p>{rows}</p>"
    equations = "\n".join(_equation(e, computing) for e in document.equations)
    notes = [n for n in document.notes if n not in document.facts]
    listed = f"<ul>{''.join(f'<li>{sentence(n)}</li>' for n in notes)}</ul>" if notes else ""
    right = f'<section id="equations"><h2>Equations</h2>{intro}{equations}{listed}</section>'
    if not beside.definition:
        return right
    source = f' <span class="soft">{escape(beside.source)}</span>' if beside.source else ""
    left = (
        f'<section id="definition" class="still"><h2>Definition{source}</h2>'
        f"<pre>{code(beside.definition)}</pre></section>"
    )
    return f'<div class="beside">{left}\n{right}</div>'


def _equation(shown: Shown, computing: Mapping[str, str]) -> str:
    function = computing.get(shown.name)
    way = (
        f' <a class="soft" href="#kernel-{function}">computed by <code>{function}</code></a>'
        if function
        else ""
    )
    return (
        f'<h3 id="eq-{slug(shown.name)}">{sentence(shown.heading)}{way}</h3>\n'
        f"{_display(shown)}{tex(mathml.source(shown.left, shown.right))}"
    )


def _display(shown: Shown) -> str:
    return scrolling(mathml.display(shown.left, shown.right), f"equation {shown.name}")


def _verdict(check: Check | None, why: str = "no check of its own") -> str:
    if check is None:
        return f'<span class="soft">not reached: {escape(why)}</span>'
    word, kind = ("passed", "good") if check.passed else ("FAILED", "bad")
    return (
        f'<span class="{kind}">check {word}</span> <span class="soft">residual '
        f"{check.residual:.1e}, tolerance {check.tolerance:.0e}: {escape(check.what)}</span>"
    )


def _facts(facts: Sequence[Fact]) -> str:
    if not facts:
        return ""
    rows = (
        f"<li>{sentence(fact)}<br>{_verdict(fact.check, fact.unreached)}</li>" for fact in facts
    )
    return f"<ul>{''.join(rows)}</ul>"


def _steps(steps: Sequence[StepShown]) -> str:
    return "\n".join(_step(number, shown) for number, shown in enumerate(steps, 1))


def _step(number: int, shown: StepShown) -> str:
    step = shown.step
    verdict = f"<p>{_verdict(step.check)}</p>"
    facts = "".join(f"<li>{sentence(fact)}</li>" for fact in step.facts)
    results = "".join(f"<h3>{escape(r.name)}</h3>{_display(r)}" for r in shown.results)
    short = "no check of its own"
    if step.check is not None:
        word, kind = ("passed", "good") if step.check.passed else ("FAILED", "bad")
        short = f'<span class="{kind}">{word}</span>, residual {step.check.residual:.0e}'
    return (
        f'<details class="fold" id="step-{number}"><summary>{number}. <b>{escape(step.name)}</b>: '
        f"{sentence(step.rule)} ({short})</summary>"
        f"{verdict}{f'<ul>{facts}</ul>' if facts else ''}{results}</details>"
    )


def _figures(figures: Sequence[tuple[str, str]]) -> str:
    return "\n".join(
        f'<figure><img src="{escape(there)}" alt="{escape(title)}">'
        f"<figcaption>{escape(title)}</figcaption></figure>"
        for title, there in figures
    )


def _appendix(document: Document, beside: Beside) -> str:
    text = appendix.latex(document, beside)
    return (
        "<p>Definition, notation, equations, steps and facts as a document of LaTeX that compiles; "
        f"<code>derive show {escape(document.name)} --format latex</code> prints it.</p>{tex(text)}"
    )
