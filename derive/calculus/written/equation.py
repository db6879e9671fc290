"""An equation as a reader sees it: both sides and what its symbols stand for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Written:
    """`left`; `right` in lines; `where`: what symbols stand for, each after all that use it."""

    left: str
    right: tuple[str, ...]
    where: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line of text."""
        where = f", where {'; '.join(self.where)}" if self.where else ""
        return f"{self.left} = {' '.join(' '.join(self.right).split())}{where}"

    @property
    def latex(self) -> str:
        where = r",\quad \text{where } " + r",\; ".join(self.where) if self.where else ""
        return f"{self.left} = {' '.join(self.right)}{where}"

    @property
    def rows(self) -> list[str]:
        """Lines of text, a definition on each."""
        first, *others = self.right
        where = [f"    {'     ' if k else 'where'} {row}" for k, row in enumerate(self.where)]
        return [f"{self.left} = {first}", *(f"    {row}" for row in others), *where]

    @property
    def display(self) -> list[str]:
        """The right side as rows of a display in LaTeX."""
        where = r"\text{where } " + r",\quad ".join(self.where)
        return [*self.right, where] if self.where else list(self.right)
