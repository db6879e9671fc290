"""A generated module that a command is to run or copy: as `derive build` wrote it, or refused."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from derive.entry import Entry
from derive.errors import RequestError
from derive.files import present, text_in
from derive.registry import as_typed, shown


def kernel_text(file: Path, entry: Entry) -> str:
    """Its text.  Raises RequestError for a file that is missing, damaged or edited by hand."""
    return _checked(file, f"run: derive build {as_typed(entry)}")


def kernel_of(entry: Entry, folder: Path | None = None) -> ModuleType:
    """The module of an entry: as it was built for what is shipped; of a definition of one's own
    derived, gated and kept by content, so that it is the definition's as it stands.

    `folder`: where `derive build` has written it instead.  Raises RequestError for a file there
    that is missing, edited, or not what a definition of one's own gives as it stands.
    """
    from derive.face.kernel import loaded

    file = file_of(entry, folder)
    if folder is not None:
        return kernel(file, as_typed(entry, folder))
    return kernel(file, as_typed(entry)) if entry.shipped else loaded(file, entry.name)


def file_of(entry: Entry, folder: Path | None = None) -> Path:
    """The file of that module."""
    from derive.face.kernel import kernel_file

    if entry.shipped and folder is None:
        return entry.kernels() / f"{entry.name}.py"
    if folder is None:
        return kernel_file(entry)
    file = entry.kernels(folder) / f"{entry.name}.py"
    mend = f"run: derive build {as_typed(entry, folder)}"
    if not entry.shipped and _checked(file, mend) != text_in(kernel_file(entry)):
        raise RequestError(f"{shown(file)} is not what {entry.source} gives as it stands; {mend}")
    return file


def kernel(file: Path, argument: str) -> ModuleType:
    """The module itself; `argument`: what `derive build` takes for it."""
    from derive.verify.common.compare import load_module

    mend = f"run: derive build {argument}"
    _checked(file, mend)
    try:
        return load_module(file)
    except Exception as problem:  # whole, but of another version of the runtime
        raise RequestError(
            f"{shown(file)} cannot be imported ({type(problem).__name__}: {problem}); {mend}"
        ) from problem


def _checked(file: Path, mend: str) -> str:
    from derive.emit.common.rendering import body_is_untouched

    text = text_there(file, mend)
    if not body_is_untouched(text):
        raise RequestError(f"{shown(file)} is not as derive build wrote it; {mend}")
    return text


def text_there(file: Path, mend: str) -> str:
    """Its text, whoever wrote it.  Raises RequestError, with the remedy, if there is none."""
    if not present(file):
        raise RequestError(f"{shown(file)} does not exist; {mend}")
    try:
        return text_in(file)
    except ValueError as problem:
        raise RequestError(f"{shown(file)} {problem}; {mend}") from None
