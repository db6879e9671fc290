"""Where Gaussian integrals exist: `margin` is compared by the gate like every other function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import odd_closures
import pytest

from derive.derivation import derived, rendered
from derive.errors import CheckFailed, Refusal
from derive.gate import require_right
from derive.methods.gaussian_closure.conditions import U as FREQUENCY
from derive.registry import entries, find

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
    "causal": ONE + DEFINED.replace("(x, y)", "(x, y, s, tau)")
    + "return average(V @ y, exp((Q @ x) @ (K @ y) + (M @ y) @ (M @ y) / 8) * (tau <= s))",
    "causal heads": STACK + DEFINED.replace("(x, y)", "(x, y, s, tau)")
    + "def head(h):\n        return average(V[h] @ y, exp((Q[h] @ x) @ (K[h] @ y) + "
    "(M[h] @ y) @ (M[h] @ y) / 8) * (tau <= s))\n    return sum_over(H, head)",
    "two windows": ONE + DEFINED + "return integral(V @ y, exp((Q @ x) @ (K @ y) + (M @ y) @ "
    "(M @ y) / 8)) + average(y, exp((K @ y) @ (K @ y) / 9))",
}  # fmt: skip


#: what others have in parts: heads, a mask, a window; and distances, as `l2_closure` has them
TOGETHER = ("causal heads", "two windows", "heads", "distance")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in TOGETHER else n for n in BODIES]
)
def test_the_margin_is_what_was_derived_and_a_wrong_one_is_named(tmp_path: Path, name: str) -> None:
    """A mask and a window are tried each by itself; heads, and two at once, are slow."""
    file = tmp_path / "conditioned.py"
    file.write_text(HEAD + BODIES[name] + "\n", encoding="utf-8")
    entry = find(str(file))
    result = derived(entry)
    text = rendered(entry, result)
    require_right(result, text, entry.method, entry.argument)
    assert "def margin" in text
    start = text.index("def margin")
    at = text.index("    return ", start) + len("    return ")
    broken = text[:at] + "1.001 * " + text[at:]
    with pytest.raises(CheckFailed, match="margin: off by 0.001"):
        require_right(result, broken, entry.method, entry.argument)


FOURIER = {
    "causal_sigmoid": "a mask makes the key's covariance a sum over positions",
    "sigmoid_and_gauss": "the window tilts the keys first",
    "growing_sigmoid": "integrable in a part of all laws",
}


#: the mask and the condition on a part of all laws are asked for as slow tests
@pytest.mark.parametrize(
    "name",
    [n if n == "sigmoid_and_gauss" else pytest.param(n, marks=pytest.mark.slow) for n in FOURIER],
)
def test_a_condition_at_every_frequency_is_no_function_of_the_law(
    tmp_path: Path, name: str
) -> None:
    """`margin` once held the frequency as a name that nothing defines."""
    if name == "growing_sigmoid":
        file = tmp_path / f"{name}.py"
        body = "return integral(V @ y, sigmoid((Q @ x) @ (K @ y)) * exp((M @ y) @ (M @ y) / 8))"
        file.write_text(HEAD + ONE + DEFINED.replace("conditioned", name) + body + "\n")
        (entry,) = entries(file)
    else:
        found = entries(Path(odd_closures.__file__))
        (entry,) = [e for e in found if e.name == name]
    result = derived(entry)
    text = rendered(entry, result)
    require_right(result, text, entry.method, entry.argument)
    said = [f for f in result.facts if f.startswith("integrable at every frequency")]
    assert said and all(f.check is not None and f.check.passed for f in said)
    assert ("def margin" in text) == (name == "growing_sigmoid")


def test_a_quadratic_form_of_both_signs_at_a_frequency_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from derive.methods.gaussian_closure import facts as closure_facts

    (entry,) = [e for e in entries(Path(odd_closures.__file__)) if e.name == "sigmoid_and_gauss"]
    plain = closure_facts.instances.at

    def turned(*a: Any, **k: Any) -> Any:
        return -plain(*a, **k)

    result = derived(entry)
    (matrix, _), *_ = [c for c in result.book.conditions if closure_facts._holds(c[0], FREQUENCY)]
    closure_facts.at_every_frequency("M", result, matrix, FREQUENCY)
    monkeypatch.setattr(closure_facts.instances, "at", turned)
    monkeypatch.setattr(closure_facts, "_margins", lambda *a: lambda scale: 1.0)
    with pytest.raises(Refusal, match="diverges for some laws"):
        closure_facts.at_every_frequency("M", result, matrix, FREQUENCY)
