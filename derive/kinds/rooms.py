"""A method whose parts lie in the rooms of the stages, under the names that all give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from derive.contract import Method


class InRooms(Method):
    """Everything but what is its own: words, starter, trace, pictures."""

    def _in(self, stage: str, module: str) -> Any:
        return import_module(f"derive.{stage}.{self.word}.{module}")

    def derive(self, definition: Any) -> Any:
        return self._in("methods", "derivation").derive(definition)

    def render(self, result: Any, source: str, argument: str) -> str:
        return str(self._in("emit", "module").render(result, source, argument))

    def document(self, result: Any, steps: bool = False, view: str = "") -> Any:
        """A view lies in a module of its name beside the report."""
        if view:
            return self._in("emit", f"{view.replace('-', '_')}_report").document(result)
        return self._in("emit", "report").document(result, steps)

    def gate(self, result: Any, module: ModuleType) -> Sequence[Any]:
        found: Sequence[Any] = self._in("verify", "ladder").gate(result, module)
        return found

    def climb(self, definition: Any, file: Path, level: str) -> Iterator[Any]:
        yield from self._in("verify", "ladder").climb(definition, file, level)

    def sharp(self, result: Any, module: ModuleType) -> Iterator[tuple[str, Callable[[], str]]]:
        yield from self._in("verify", "ladder").sharp(result, module)
