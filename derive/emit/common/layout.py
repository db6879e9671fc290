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
    """Fold docstrings and break statements that are longer than a line, as deep as it takes."""
    folded = _fold_docstrings(text)
    wrapped = _wrap_code(folded)
    assert ast.dump(ast.parse(wrapped)) == ast.dump(ast.parse(folded)), "layout changed the code"
    return wrapped


def _wrap_code(text: str) -> str:
    """Break statements longer than a line at their operators or commas."""
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
    if match := re.match(r"(return |\w+ = )(.*)$", code):
        candidates = _deep(match[1], match[2], indent)
    elif match := re.match(r"(from \S+ import )(.*)$", code):
        candidates = [[f"{match[1]}(", *(f"    {n}," for n in match[2].split(", ")), ")"]]
    if "(" in code or "{" in code:
        call = _broken_call(line)
        candidates = [call, *candidates] if _is_call(code) else [*candidates, call]
    return next((c for c in candidates if c != [line] and _same(code, c)), [line])


SUMS, PRODUCTS = (" + ", " - "), (" * ", " / ", " @ ")


def _deep(head: str, body: str, indent: str) -> list[list[str]]:
    """Layouts of `head` + `body` in which brackets are opened as deep as it takes."""
    body = _bare(body)
    whole = [f"{indent}{head}(", *_laid(body, indent + "    "), f"{indent})"]
    opened = _opened(f"{head}{body}", indent)
    return [opened, whole] if len(_pieces(body, SUMS)) == 1 and opened else [whole]


def _laid(text: str, indent: str) -> list[str]:
    """An expression inside brackets: a line a term, then a line a factor, deeper as needed."""
    if len(indent) + len(text) <= WIDTH:
        return [indent + text]
    sign = text[:2] if text[:2] in ("+ ", "- ", "* ", "/ ", "@ ") else ""
    for separators in ((", ",), SUMS, PRODUCTS):
        pieces = _pieces(text[len(sign) :], separators)
        if len(pieces) > 1:
            break
    else:
        return _opened(text, indent) or [indent + text]
    pieces[0] = sign + pieces[0]
    if separators == PRODUCTS:
        return _opened(text, indent) or _joined(pieces, indent)
    if separators == SUMS:
        return [line for p in pieces for line in _laid(p, indent)]
    return [line for p in pieces for line in _laid(p.rstrip(",") + ",", indent)]


def _joined(pieces: list[str], indent: str) -> list[str]:
    """As many factors on a line as fit."""
    lines = [indent + pieces[0]]
    for piece in pieces[1:]:
        if _fits(f"{lines[-1]} {piece}"):
            lines[-1] += f" {piece}"
        else:
            lines.append(indent + piece)
    return lines


def _fits(line: str) -> bool:
    return len(line) <= WIDTH


def _opened(text: str, indent: str) -> list[str]:
    """The longest bracket around a factor or arguments opened; nothing if that is no help."""
    spans, starts, quote = [], [], False
    for position, char in enumerate(text):
        quote ^= char == '"'
        if quote:
            continue
        if char in "([{":
            starts.append(position)
        elif char in ")]}":
            start = starts.pop()
            if not starts and char == ")":
                spans.append((start, position))
    if not spans:
        return []
    start, end = max(spans, key=lambda s: s[1] - s[0])
    inside = text[start + 1 : end]
    factor = text[:start] in ("", "-", "return ") or text[:start].endswith(("* ", "= ", "+ ", "- "))
    call = end == len(text.rstrip(",")) - 1 and text[:start].removeprefix("return ")[-1:].isalnum()
    if not inside.strip() or not (factor or call):
        return []
    several = len(_pieces(inside, (", ",))) > 1
    inner = _laid(inside, indent + "    ")
    if several:
        pieces = [p.rstrip(",") + "," for p in _pieces(inside, (", ",))]
        inner = [line for p in pieces for line in _laid(p, indent + "    ")]
    lines = [indent + text[: start + 1], *inner, indent + text[end:]]
    return lines if _fits(lines[0]) and _fits(lines[-1]) else []


def _bare(text: str) -> str:
    """Text without brackets around all of it."""
    if not text.startswith(("(", "{")):
        return text
    depth = 0
    for position, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            return text[1:-1] if position == len(text) - 1 else text
    return text


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


def _broken_call(line: str) -> list[str]:
    """Break after the commas of the outermost call."""
    indent = line[: len(line) - len(line.lstrip())]
    opening = min(i for i in (line.find("("), line.find("{")) if i >= 0)
    closing = max(line.rfind(")"), line.rfind("}"))
    inside = line[opening + 1 : closing]
    if _bare(line[opening : closing + 1]) != inside:  # two brackets, one behind the other
        return [line]
    pieces = [p.rstrip(",") for p in _pieces(inside, (", ",))]
    lines = [line[: opening + 1]]
    lines += [x for p in pieces if p for x in _laid(f"{p},", f"{indent}    ")]
    return [*lines, indent + line[closing:]]


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
