"""One function of a generated module, before the template writes it out."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Kernel:
    """Signature, docstring, statements, result; `decorators` are lines above it, without the @."""

    name: str
    arguments: str
    doc: str
    body: list[str] = field(default_factory=list)
    result: str = ""
    decorators: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The statements of the function, the last one returns."""
        return [*self.body, f"return {self.result}"]

    @property
    def multiplies(self) -> bool:
        """Whether matrices meet at an `@`, which takes the precision of where it stands."""
        return any(" @ " in line for line in self.lines)
