"""Where Gaussian integrals exist: `margin` is compared by the gate like every other function."""

from __future__ import annotations

from pathlib import Path

import pytest

from derive.commands.build_command import text_of
from derive.derivation import derived
from derive.errors import CheckFailed
from derive.gate import require_right
from derive.registry import find

HEAD = '''"""A definition for a test."""
from derive.notation import *
d, k, H = dims("d: dimension", "k: key width", "H: heads")
'''
ONE = "Q, K, V, M = matrices(Q=(k, d), K=(k, d), V=(d, d), M=(k, d))\n"
STACK = "Q, K, V, M = matrices(Q=(H, k, d), K=(H, k, d), V=(H, d, d), M=(H, k, d))\n"
DEFINED = '@gaussian_closure(state="x[d]")\ndef conditioned(x, y):\n    '
BODIES = {
    "window": ONE + DEFINED + "return integral(V @ y, exp((Q @ x) @ (K @ y) - (M @ y) @ (M @ y)))",
    "growing": ONE + DEFINED + "return average(V @ y, exp((Q @ x) @ (K @ y) + (M @ y) @ (M @ y)))",
    "distance": ONE + DEFINED
    + "return integral(V @ y, exp(-(Q @ x - K @ y) @ (Q @ x - K @ y)))",
    "heads": STACK + DEFINED + "def head(h):\n        return average(V[h] @ y, exp((Q[h] @ x) @ "
    "(K[h] @ y) + (M[h] @ y) @ (M[h] @ y) / 2))\n    return sum_over(H, head)",
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_the_margin_is_what_was_derived_and_a_wrong_one_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / "conditioned.py"
    file.write_text(HEAD + BODIES[name] + "\n", encoding="utf-8")
    entry = find(str(file))
    result, text = derived(entry), text_of(entry)
    require_right(result, text, entry.method, entry.argument)
    assert "def margin" in text
    start = text.index("def margin")
    at = text.index("    return ", start) + len("    return ")
    broken = text[:at] + "1.001 * " + text[at:]
    with pytest.raises(CheckFailed, match="margin: off by 0.001"):
        require_right(result, broken, entry.method, entry.argument)
