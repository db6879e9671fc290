"""The gate: no module is written whose functions are not what was derived."""

from __future__ import annotations

from typing import Any

from derive.dispatch import method as method_of
from derive.errors import CheckFailed
from derive.verify.common.compare import module_of


def require_right(result: Any, text: str, method: str, name: str, argument: str = "") -> None:
    """Raise `CheckFailed` where the text of a module does not run, or differs from its equations.

    `result`: the derivation of `method` that the text was rendered from; `argument`: what a
    command line takes for the model, if not its name.
    """
    try:
        module = module_of(text, name)
        found = method_of(method).gate(result, module)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # whatever the text of a kernel may do
        raise CheckFailed(
            f"the kernel of {name} does not run: {type(problem).__name__}: {problem}. Nothing is "
            f"written; derive show {argument or name} has the equations"
        ) from problem
    wrong = [str(f) for f in found if not f.error <= f.allowed]
    if wrong or not found:
        raise CheckFailed(
            f"the kernel of {name} is not what was derived: {'; '.join(wrong) or 'no functions'}. "
            f"Nothing is written; derive show {argument or name} has the equations"
        )
