# SPDX-License-Identifier: GPL-3.0-or-later
"""A map of pfn space, as lines of text (with or without colour) or as data."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..machine.memory import PAGE_SIZE
from ..p2m.diagnosis import Diagnosis
from ..p2m.leaves import PFNS_PER_LEAF
from ..p2m.ranges import ranges
from . import words
from .map_legend import LOOKS, Look, cells, look_of

__all__ = ["TextMap", "text_map"]


@dataclass(frozen=True)
class TextMap:
    """pfn space in cells of ``size`` pfns each, and ``pages``, the pfns of each look."""

    max_pfn: int
    size: int
    cells: list[Look]
    pages: dict[Look, int]

    @classmethod
    def of(cls, found: Diagnosis, most: int) -> TextMap:
        """Return the map of a p2m in at most ``most`` cells, each of whole leaves.

        :raises ReadError: a leaf cannot be read.
        """
        parts = list(ranges(found))
        max_pfn = found.table.max_pfn
        size = -(-max_pfn // most)
        size = -(-size // PFNS_PER_LEAF) * PFNS_PER_LEAF  # so that lines begin at round numbers
        pages = {look: sum(p.pages for p in parts if look_of(p) is look) for look in LOOKS}
        return cls(max_pfn, size, cells(parts, max_pfn, -(-max_pfn // size)), pages)

    def as_dict(self) -> dict[str, Any]:
        """Return the map as a dictionary, for JSON: a letter for each cell, and a legend."""
        return {
            "max_pfn": self.max_pfn,
            "pages_per_cell": self.size,
            "cells": "".join(look.letter for look in self.cells),
            "legend": [
                {"letter": look.letter, "pages": self.pages[look], "meaning": look.meaning}
                for look in LOOKS
                if self.pages[look]
            ],
        }


def text_map(found: Diagnosis, width: int = 80, height: int = 20, colour: bool = False) -> str:
    """Return a map of pfn space as lines of text, with a legend below.

    :param width: of a line, in characters.
    :param height: the most lines of the map, without its legend.
    :param colour: add the escape sequences that colour a terminal.
    :raises ReadError: a leaf cannot be read.
    """
    from rich.console import Console  # noqa: PLC0415  (takes 0.1 s)
    from rich.text import Text  # noqa: PLC0415

    digits = len(f"{found.table.max_pfn:x}")
    columns = max(8, width - digits - 2)
    shown = TextMap.of(found, columns * height)
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, color_system="standard" if colour else None
    )

    def put(line: Text) -> None:
        console.print(line, no_wrap=True, overflow="ignore", crop=False)

    for start in range(0, len(shown.cells), columns):
        line = Text(f"{start * shown.size:>{digits}x}  ")
        for look, run in groupby(shown.cells[start : start + columns]):
            line.append(look.letter * len(list(run)), look.style)
        put(line)
    console.print()
    for look in LOOKS:
        if shown.pages[look]:
            line = Text(f"{'':>{digits}}  ")
            line.append(look.letter, look.style)
            line.append(f" {shown.pages[look]:>15,}  {look.meaning}")
            put(line)
    scale = f"one character is {shown.size:,} pages, {words.size(shown.size * PAGE_SIZE)}"
    put(Text(f"{'':>{digits}}  {scale}"))
    return stream.getvalue()
