"""What a kernel's docstring says of derivatives where they do not exist."""

from __future__ import annotations

from dataclasses import replace

from derive.emit.common.kernel import Kernel

# words of a kernel's text, and what follows from them
_SIZES = ("of_correlation(", "sqrt(diagonal(", "rows_scaled(")
_ANGLES = "of_correlation("


def with_edges(kernel: Kernel) -> Kernel:
    """The kernel with a sentence where a root of a token's size or an angle enters."""
    text = "\n".join(kernel.lines)
    where = "X" if kernel.arguments.startswith("X") else kernel.arguments.partition(",")[0]
    said = []
    if any(word in text for word in _SIZES):
        said.append(f"none by {where} at a token of size zero")
    if _ANGLES in text:
        said.append("second ones are infinite where two tokens are parallel")
    if not said or kernel.name == "layer":
        return kernel
    return replace(kernel, doc=f"{kernel.doc}\n\nDerivatives at the edge: {'; '.join(said)}.")
