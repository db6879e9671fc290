"""A model that a file defines, and the folders of what is registered and built."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

OWN = "kernels"  # folder beside a definition of one's own


@dataclass(frozen=True)
class Entry:
    """A model that a file, a session or a notebook cell defines.

    `among`: whether its file defines other models too.  `definition`: the decorated function
    itself, where it is at hand.
    """

    name: str
    method: str
    title: str
    file: Path
    function: str = ""
    choice: tuple[str, str] | None = None  # option and value, if not its first
    among: bool = field(default=False, compare=False)
    definition: Any = field(default=None, compare=False, repr=False)

    @property
    def typed(self) -> bool:
        """Whether it is no file's but a session's, whose cells have no names that last."""
        return self.definition is not None and "__file__" not in _globals(self.definition)

    @property
    def source(self) -> str:
        """The file as banners show it: no folders of this machine."""
        if self.typed:
            return "a session or notebook"
        return f"theory/{self.file.name}" if self.shipped else self.file.name

    @property
    def shipped(self) -> bool:
        """Whether the definition comes with derive."""
        return self.file.parent == theory_folder()

    def kernels(self, given: Path | None = None) -> Path:
        """Where its kernel and certificate lie: in the folder given, else in generated/ for what is
        shipped and in kernels/ beside the definition for one's own."""
        if given is not None:
            return given
        return generated_folder() if self.shipped else self.file.parent / OWN

    @property
    def argument(self) -> str:
        """What a command line takes for this model."""
        if self.typed:
            return f"FILE, once {self.name} stands in one"
        if self.shipped:
            return self.name
        return f"{self.source}:{self.name}" if self.among else self.source


def _globals(definition: Any) -> dict[str, Any]:
    """The names among which a definition was written."""
    return getattr(getattr(definition, "function", None), "__globals__", {})


def theory_folder() -> Path:
    return Path(str(resources.files("derive.theory"))).resolve()


def generated_folder() -> Path:
    return Path(str(resources.files("derive.generated"))).resolve()
