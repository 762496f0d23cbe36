# SPDX-License-Identifier: GPL-3.0-or-later
"""The looks of pfns in maps and pictures: a letter, two colours, and their meaning."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from ..p2m.entries import Kind
from ..p2m.ranges import Range, Source

__all__ = ["LOOKS", "Look", "cells", "look_of"]


class Look(enum.Enum):
    """The look of a pfn: its letter, its colour in terminals and in pictures, its meaning.

    A cell of a map that stands for several pfns has the first of their looks in this order.
    The colours differ for the colour-blind too (tests/unit/reports/test_map_legend.py).
    """

    LOST = ("!", "bold red", "#d1341f", "memory that the dump's list does not have")
    FOREIGN = ("f", "yellow", "#ffc400", "foreign: another domain's frame")
    MEMORY = ("#", "blue", "#14427a", "memory")
    IDENTITY = ("i", "cyan", "#5aa9e6", "identity: not memory, mfn is pfn")
    EITHER = ("?", "magenta", "#b8a9c9", "missing or identity: only the vmlinux shows which")
    MISSING = (".", "bright_black", "#efefef", "missing: nothing is there")

    def __init__(self, letter: str, style: str, colour: str, meaning: str) -> None:
        self.letter = letter
        self.style = style
        self.colour = colour
        self.meaning = meaning


LOOKS = tuple(Look)
OF_KIND = {
    Kind.FOREIGN: Look.FOREIGN,
    Kind.IDENTITY: Look.IDENTITY,
    Kind.EITHER: Look.EITHER,
    Kind.MISSING: Look.MISSING,
    Kind.MEMORY: Look.MEMORY,
}


def look_of(part: Range) -> Look:
    """Return the look of the pfns in a range."""
    if part.kind is Kind.MEMORY and part.source is Source.TABLES:
        return Look.LOST
    return OF_KIND[part.kind]


def cells(parts: Iterable[Range], max_pfn: int, count: int) -> list[Look]:
    """Return the looks of up to ``count`` cells of pfn space, all of one size but the last.

    :param parts: the ranges of pfn space.
    :param max_pfn: the number of pfns.
    """
    size = -(-max_pfn // count)
    found = [len(LOOKS)] * -(-max_pfn // size)
    for part in parts:
        look = LOOKS.index(look_of(part))
        first, last = part.first // size, part.last // size
        for cell in range(first, last + 1):
            found[cell] = min(found[cell], look)
    return [LOOKS[look] for look in found]
