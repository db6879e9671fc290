"""Layout of generated text: long lines broken, meaning untouched.

Input: a module's text.  Output: the same module with lines of at most `WIDTH` characters where a
break is safe.  A break is kept only if the syntax tree stays what it was.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable

WIDTH = 100


def tidy(text: str) -> str:
    """Fold docstrings and break statements that are longer than a line."""
    folded = _fold_docstrings(text)
    wrapped = _wrap_code(folded)
    assert ast.dump(ast.parse(wrapped)) == ast.dump(ast.parse(folded)), "layout changed the code"
    return wrapped


def _wrap_code(text: str) -> str:
    """Break statements longer than a line at their outermost operators or commas."""
    return _per_line(text, lambda line, quoted: [line] if quoted else _broken(line))


def _fold_docstrings(text: str) -> str:
    return _per_line(text, lambda line, quoted: _folded(line) if quoted else [line])


def _per_line(text: str, change: Callable[[str, bool], list[str]]) -> str:
    """Apply `change(line, inside a docstring)` to the lines that are too long."""
    out, inside = [], False
    for line in text.rstrip("\n").split("\n"):
        quotes = line.count('"""')
        if len(line) > WIDTH and 'r"' not in line:
            out.extend(change(line, inside or quotes > 0))
        else:
            out.append(line.rstrip())
        inside ^= quotes % 2 == 1
    return "\n".join(out) + "\n"


def _folded(line: str) -> list[str]:
    indent = line[: len(line) - len(line.lstrip())]
    words, out, current = line.split(), [], indent
    for word in words:
        if len(current) + len(word) + 1 > WIDTH and current.strip():
            out.append(current.rstrip())
            current = indent
        current += word + " "
    return [*out, current.rstrip()]


def _broken(line: str) -> list[str]:
    """The first layout that keeps the code's meaning; the line itself if none does."""
    indent = line[: len(line) - len(line.lstrip())]
    code = line.strip()
    candidates = []
    if match := re.match(r"(from \S+ import) (.*)$", code):
        candidates = [_broken_call(f"{indent}{match[1]} ({match[2]})")]
    elif match := re.match(r"(return |\w+ = )(.*)$", code):
        candidates = [
            _broken_sum(indent, match[1], match[2], s) for s in ((" + ", " - "), (" * ", " / "))
        ]
    if "(" in code or "{" in code:
        call = _broken_call(line)
        candidates = [call, *candidates] if _is_call(code) else [*candidates, call]
    return next((c for c in candidates if c != [line] and _same(code, c)), [line])


def _is_call(code: str) -> bool:
    return code.startswith("def ") or "runtime" in code or re.match(r"\w+=", code) is not None


def _same(code: str, lines: list[str]) -> bool:
    text = textwrap.dedent("\n".join(lines))
    for frame in ("{}", "call({})", "{} pass"):
        try:
            before = ast.dump(ast.parse(frame.format(code)))
        except SyntaxError:
            continue
        try:
            return before == ast.dump(ast.parse(frame.format(text)))
        except SyntaxError:
            return False
    return False


def _broken_sum(indent: str, head: str, body: str, separators: tuple[str, ...]) -> list[str]:
    pieces = _pieces(body, separators)
    if len(pieces) == 1:
        return [indent + head + body]
    inner = indent + "    "
    return [f"{indent}{head}(", *(x for p in pieces for x in _too_long(inner + p)), f"{indent})"]


def _too_long(line: str) -> list[str]:
    """A piece of a sum: its factors, and what stands in their brackets, on lines of their own."""
    if len(line) <= WIDTH:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    sign = line.strip()[:2] if line.strip()[:2] in ("+ ", "- ", "* ") else ""
    pieces = _pieces(line.strip()[len(sign) :], (" * ",))
    lines = [indent + sign + pieces[0]]
    for piece in pieces[1:]:
        if len(lines[-1]) + len(piece) + 1 <= WIDTH:
            lines[-1] += " " + piece
        else:
            lines.append(indent + piece)
    return [x for one in lines for x in (_opened(one) if len(one) > WIDTH else [one])]


def _opened(line: str) -> list[str]:
    """The longest bracket of a line opened: one term, or factor, or argument a line."""
    opening, closing = max(_brackets(line), key=lambda b: b[1] - b[0], default=(0, 0))
    if closing - opening < WIDTH // 4:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    inner = indent + "    "
    inside = line[opening + 1 : closing]
    splits = (_pieces(inside, s) for s in ((", ",), (" + ", " - "), (" * ",)))
    pieces = next((p for p in splits if len(p) > 1), [inside])
    if _pieces(inside, (", ",))[1:]:
        pieces = [p.rstrip(",") + "," for p in pieces]
    rest = indent + line[closing:]
    return [
        line[: opening + 1],
        *(x for p in pieces for x in _too_long(inner + p)),
        *(_opened(rest) if len(rest) > WIDTH else [rest]),
    ]


def _brackets(line: str) -> list[tuple[int, int]]:
    """Places of the outermost round brackets, those of subscripts left out."""
    found, depth, start = [], 0, 0
    for position, char in enumerate(line):
        if char in "([{":
            start = position if depth == 0 else start
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0 and char == ")":
                found.append((start, position))
    return found


def _broken_call(line: str) -> list[str]:
    """Break after the commas of the outermost call."""
    indent = line[: len(line) - len(line.lstrip())]
    opening = min(i for i in (line.find("("), line.find("{")) if i >= 0)
    closing = max(line.rfind(")"), line.rfind("}"))
    inside = line[opening + 1 : closing]
    pieces = [p.rstrip(",") for p in _pieces(inside, (", ",))]
    lines = [line[: opening + 1]]
    lines += [x for p in pieces if p for x in _argument(f"{indent}    {p},")]
    return [*lines, indent + line[closing:]]


def _argument(line: str) -> list[str]:
    """A long argument of a call: the terms of a sum on lines of their own."""
    if len(line) <= WIDTH:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    first, *others = _pieces(line.strip(), (" + ", " - "))
    return [x for p in (first, *(f"  {o}" for o in others)) for x in _too_long(indent + p)]


def _pieces(text: str, separators: tuple[str, ...]) -> list[str]:
    """Split at separators outside every bracket; operators lead, commas trail."""
    depth, start, out, quote = 0, 0, [], False
    position = 0
    while position < len(text):
        char = text[position]
        quote ^= char == '"'
        depth += (char in "([{") - (char in ")]}")
        hit = next((s for s in separators if text.startswith(s, position)), None)
        if hit and depth == 0 and not quote and position > start:
            if hit == ", ":
                out.append(text[start:position].strip())
                start = position + 2
            else:
                out.append(text[start:position].strip())
                start = position + 1
            position += len(hit) - 1
        position += 1
    out.append(text[start:].strip())
    return out
