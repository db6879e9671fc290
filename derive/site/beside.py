"""What a page or an appendix shows beside a derivation's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Beside:
    """What a page shows beside the report; all of it text, empty where there is none.

    `definition`: the file; `kernel`, `certificate`; `rules`: the table of broken rules;
    `notation`: sizes and parameters with what they are; `computed`: functions of the kernel by
    equations of another name; `properties`: for the head; `figures`: titles and where pictures
    lie; `links`: the way to other pages.
    """

    source: str = ""
    definition: str = ""
    kernel: str = ""
    certificate: str = ""
    rules: str = ""
    method: str = ""
    command: str = ""
    notation: Sequence[tuple[str, str]] = ()
    computed: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[tuple[str, str]] = ()
    links: Sequence[tuple[str, str]] = ()
