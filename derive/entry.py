"""A model that a file defines, and the folders of what is registered and built."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """A model that a file defines."""

    name: str
    method: str
    title: str
    file: Path
    function: str = ""
    choice: tuple[str, str] | None = None  # option and value, if not its first

    @property
    def source(self) -> str:
        """The file as banners show it: no folders of this machine."""
        shipped = self.file.parent == theory_folder()
        return f"theory/{self.file.name}" if shipped else self.file.name

    @property
    def argument(self) -> str:
        """What a command line takes for this model."""
        return self.name if self.file.parent == theory_folder() else self.source


def theory_folder() -> Path:
    return Path(str(resources.files("derive.theory"))).resolve()


def generated_folder() -> Path:
    return Path(str(resources.files("derive.generated"))).resolve()
