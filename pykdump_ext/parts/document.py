# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole report: its parts run one by one, and what came out as text and for JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import __version__
from ..errors import printable
from .blocks import as_text
from .case import Case
from .part import SECONDS, Part, Result, run

__all__ = ["Document", "as_lines", "make", "part_lines"]


@dataclass
class Document:
    """A report of a dump."""

    dump: str
    parts: list[Result]
    seconds: float

    @property
    def missing(self) -> list[tuple[str, str]]:
        """What could not be found: the titles of the parts, and why; each reason once."""
        found: dict[str, list[str]] = {}
        problems = {part.problem for part in self.parts if part.problem}
        for part in self.parts:
            for text in filter(None, (part.problem, *part.notes)):
                same = [one for one in problems if text.endswith(f": {one}")]
                found.setdefault(same[0] if same else text, []).append(part.title)
        return [(", ".join(dict.fromkeys(titles)), text) for text, titles in found.items()]

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "dump": self.dump,
            "made_by": f"p2mfix {__version__}",
            "seconds": round(self.seconds, 3),
            "parts": [part.as_dict() for part in self.parts],
            "missing": [{"part": title, "why": why} for title, why in self.missing],
        }


def make(case: Case, parts: Sequence[Part], seconds: float | None = SECONDS) -> Document:
    """Return the report of a dump.

    :param seconds: for each part, or None for no limit.
    """
    start = time.perf_counter()
    results = [run(part, case, seconds) for part in parts]
    dump = printable(" ".join(case.opened.paths))
    return Document(dump, results, time.perf_counter() - start)


def as_lines(document: Document) -> Iterator[str]:
    """Yield a report as lines of text."""
    for part in document.parts:
        yield from (part.title, "=" * len(part.title))
        yield from part_lines(part, notes=False)
        yield ""
    if document.missing:
        title = "What could not be found"
        yield from (title, "=" * len(title))
        yield from (f"{name}: {why}" for name, why in document.missing)
        yield ""


def part_lines(part: Result, notes: bool = True) -> Iterator[str]:
    """Yield a part as lines of text, without its title.

    :param notes: with what it could not find.
    """
    for number, block in enumerate(part.blocks):
        if number:
            yield ""
        yield from as_text(block)
    if part.problem:
        yield f"(not found: {part.problem})"
    if notes:
        yield from (f"(not found: {note})" for note in part.notes)
