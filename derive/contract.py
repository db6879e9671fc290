"""What a method is: the one contract between the methods and all that is written for any of them.

A method turns definitions of one kind into equations, kernels and their verification.  Commands,
registry, reports and mutants know it through `Method` and name none.  It is one folder in each
stage (notation, methods, emit, verify, runtime) and one descriptor, an object called `METHOD`:

- of derive itself: in `derive.kinds.WORD`, WORD being the decorator's name;
- of another package: an entry point WORD in the group "derive.methods" that names such an object.

A descriptor imports what it needs inside its functions, so that `derive list` starts at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from derive.errors import RequestError

if TYPE_CHECKING:
    from derive.emit.common.document import Document
    from derive.entry import Entry
    from derive.methods.common.record import Fact, Step
    from derive.mutants.terms import Broken
    from derive.verify.common.compare import Finding
    from derive.verify.common.rung import Rung


class Definition(Protocol):
    """What a decorator makes of a function; a dataclass, since variants replace its name.

    `method`: the decorator's word; `name`: of the model.  Run on symbols it gives a trace, run on
    arrays it is the finite model.
    """

    method: str
    name: str


class Derivation(Protocol):
    """What a method derives: equations by name, findings in words, and the record of the steps.

    Every fact and every step carries its check, or the reason why it has none.
    """

    @property
    def equations(self) -> Mapping[str, Any]: ...
    @property
    def facts(self) -> Sequence[Fact]: ...
    @property
    def steps(self) -> Sequence[Step]: ...


class Simulation(Protocol):
    """What `derive simulate` does for the models of a method; its docstring's first line is the
    help of the command for them."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the method's options; the command itself adds --seed and --out."""

    def run(self, entry: Entry, options: argparse.Namespace) -> int:
        """Write arrays and a picture; the exit code."""


class Matching(Protocol):
    """What `derive match` does for the models of a method."""

    default: str

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options; the command itself adds the model, whose default is `default`."""

    def run(self, entry: Entry, options: argparse.Namespace) -> int:
        """Write the plan and a picture; the exit code."""


class Swept(Protocol):
    """A sweep that is ready to run.

    `tile`: points that are computed together, whose bits do not depend on any others; `identity`:
    what results follow from beside kernel and grid, for JSON; `times` (saves,), with the words
    `clock` for their axis; `quantities`: what a picture can show, with titles, the first by
    default; `share`: the column that it shows beside, with its title.
    """

    tile: int
    identity: Mapping[str, Any]
    times: Any
    clock: str
    quantities: Mapping[str, str]
    share: tuple[str, str]
    caption: str

    def compute(
        self, points: Sequence[Mapping[str, float]], report: Callable[[float], None]
    ) -> Mapping[str, Any]:
        """Columns (points, saves) by name: a quantity has NAME_mean and NAME_q05, ..., or NAME
        alone."""
        ...

    def caution(self, columns: Mapping[str, Any]) -> str:
        """What to know before using the table; empty if there is nothing."""
        ...


class Sweep(Protocol):
    """What `derive sweep` does for the models of a method."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options that are the method's own; kinds may share a name."""

    def prepare(
        self,
        module: ModuleType,
        points: Sequence[Mapping[str, float]],
        options: argparse.Namespace,
    ) -> Swept:
        """Raises RequestError or ValueError where a point makes no sense, before any work.
        `options.t1` is None where the final time is the method's to choose."""
        ...


class Figure(NamedTuple):
    """A picture of `derive figure`: its title, and the module of `derive.figures` that draws it.

    `model`: handed to the module where it draws any of several.
    """

    title: str
    module: str
    model: str = ""


class Method(Protocol):
    """One method.  What has a body here is optional.

    `word`: the decorator's name, which `derive list` shows and `derive new --kind` takes;
    `starter`: text of a definition that derives as it stands, NAME standing for its name;
    `views`: reports beside the equations, with what each shows; `computed`: functions of a kernel
    by the equations that they compute, where the names differ; `simulation`: None where there is
    none, and `instead` says what to do; `sweep` likewise, and `unswept`;
    `matching`: what `derive match` does, None where laws are not sent to targets.
    """

    word: str
    starter: str
    views: Mapping[str, str] = {}
    computed: Mapping[str, str] = {}
    simulation: Simulation | None = None
    sweep: Sweep | None = None
    matching: Matching | None = None

    def trace(self, definition: Any) -> Any:
        """The definition run on symbols.  Raises DefinitionError with the place."""
        ...

    def derive(self, definition: Any) -> Derivation:
        """From the definition to its equations.  Raises DefinitionError, or Refusal with the true
        reason, where the method does not reach."""
        ...

    def render(self, result: Any, source: str, argument: str) -> str:
        """The generated module's text; `source`: the definition's file, `argument`: what the
        command line takes for the model."""
        ...

    def document(self, result: Any, steps: bool = False, view: str = "") -> Document:
        """The report: the equations, the record of the steps, or one of `views`."""
        ...

    def gate(self, result: Any, module: ModuleType) -> Sequence[Finding]:
        """Every function of a rendered module beside its right values, in seconds."""
        ...

    def climb(self, definition: Any, file: Path, level: str) -> Iterator[tuple[Derivation, Rung]]:
        """The ladder: rungs one by one, for the generated module in `file`."""
        ...

    def sharp(self, result: Any, module: ModuleType) -> Iterator[tuple[str, Callable[[], str]]]:
        """Name of a rung of seconds behind the gate, and what it finds wrong: what broken rules
        meet."""
        yield from ()

    def broken_terms(self, result: Any, argument: str) -> Iterator[Broken]:
        """The equations' terms, each broken.  Raises RequestError where there are none to break."""
        raise RequestError(
            f"the terms of a {self.word} model are not broken one by one; rules that it uses: "
            f"derive mutate {argument} --rules"
        )

    def state(self, definition: Any) -> str:
        """In words, what the equations are about: those of two states are not compared."""
        return ""

    def properties(self, result: Any) -> Mapping[str, str]:
        """What tells the models of a kind apart at a glance, in words by name."""
        return {}

    def figures(self) -> Mapping[str, Figure]:
        """What `derive figure` draws of models of this kind."""
        return {}

    def instead(self, name: str) -> str:
        """What to do where `derive simulate` does nothing."""
        return f"From Python: derive.generated.{name}"

    def unswept(self, name: str) -> str:
        """Why `derive sweep` does nothing, and what to do."""
        return f"{name}: a {self.word} model has no sweep. {self.instead(name)}"
