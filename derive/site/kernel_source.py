"""The kernel's text in a page, each function beside the equation that it computes."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

from derive.emit.common.document import Shown
from derive.site import mathml
from derive.site.page import code, escape, scrolling, section, sentence, slug


def functions(equations: Sequence[Shown], kernel: str, others: Mapping[str, str]) -> dict[str, str]:
    """Equations by name, with the function of the kernel that computes each.

    `others`: functions by equations whose name is another.
    """
    there = {name for name, _ in _parts(kernel) if name}
    out = {}
    for shown in equations:
        name = shown.name.partition(" of ")[0]
        function = name if name in there else others.get(name, "")
        if function in there:
            out[shown.name] = function
    return out


def _parts(kernel: str) -> Iterator[tuple[str, str]]:
    """Functions by name with their text, and what stands between them without one."""
    if not kernel:
        return
    lines = kernel.splitlines(keepends=True)
    at = 0
    for node in ast.parse(kernel).body:
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            if between := "".join(lines[at:first]).strip("\n"):
                yield "", between
            at = node.end_lineno or first
            yield node.name, "".join(lines[first:at])
    if rest := "".join(lines[at:]).strip("\n"):
        yield "", rest


def kernel_section(equations: Sequence[Shown], kernel: str, computing: Mapping[str, str]) -> str:
    """All of the module, in its order."""
    of: dict[str, list[Shown]] = {}
    for shown in equations:
        if shown.name in computing:
            of.setdefault(computing[shown.name], []).append(shown)
    parts = []
    for name, text in _parts(kernel):
        source = f"<pre>{code(text)}</pre>"
        if not name:
            head = text.strip().split("\n")[0][:60]
            parts.append(
                f'<details class="fold"><summary><code>{escape(head)}</code></summary>{source}'
                "</details>"
            )
        elif name in of:
            parts.append(
                f'<h3 id="kernel-{name}"><code>{name}</code></h3>\n<div class="beside"><div>'
                f"{''.join(map(_equation, of[name]))}</div><div>{source}</div></div>"
            )
        else:
            parts.append(
                f'<details class="fold" id="kernel-{name}"><summary><code>{name}</code></summary>'
                f"{source}</details>"
            )
    return section("kernel", "The kernel, beside what it computes", "\n".join(parts))


def _equation(shown: Shown) -> str:
    there = f'<a href="#eq-{slug(shown.name)}">{sentence(shown.heading)}</a>'
    math = scrolling(mathml.display(shown.left, shown.right), f"{shown.name}, beside its function")
    return f"<p>computes: {there}</p>{math}"
