# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of a report are made of: a few kinds of blocks, and each as text and for JSON.

A block has plain values only: texts, numbers and None, which is "unknown". :func:`clean` makes its
texts such that a terminal can show them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Union

from ..errors import printable

__all__ = [
    "Block",
    "Cell",
    "Facts",
    "Lines",
    "Paragraph",
    "Picture",
    "Table",
    "as_data",
    "as_text",
    "clean",
]

Cell = Union[str, int, float, None]
UNKNOWN = "unknown"
GAP = "  "  # between columns


@dataclass(frozen=True)
class Paragraph:
    """Sentences."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Names, each with a value."""

    facts: Sequence[tuple[str, Cell]]


@dataclass(frozen=True)
class Table:
    """Rows below names of columns; numbers are counts."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Lines:
    """Lines that are shown as they are; the end of a ``log`` is what a reader wants first."""

    title: str
    lines: Sequence[str]
    log: bool = False


@dataclass(frozen=True)
class Picture:
    """A drawing as SVG, made here of numbers; text and JSON have its title only."""

    title: str
    svg: str


Block = Union[Paragraph, Facts, Table, Lines, Picture]


def clean(block: Block) -> Block:
    """Return a block with texts that a terminal can show."""
    if isinstance(block, Paragraph):
        return Paragraph(printable(block.text))
    if isinstance(block, Facts):
        return Facts([(printable(name), _clean(value)) for name, value in block.facts])
    if isinstance(block, Table):
        rows = [[_clean(cell) for cell in row] for row in block.rows]
        return Table(printable(block.title), [*map(printable, block.columns)], rows)
    if isinstance(block, Picture):
        return block
    lines = [printable(line.expandtabs()) for line in block.lines]
    return Lines(printable(block.title), lines, block.log)


def _clean(cell: Cell) -> Cell:
    return printable(cell) if isinstance(cell, str) else cell


def shown(cell: Cell) -> str:
    """Return a value as text: numbers with commas between thousands."""
    if cell is None:
        return UNKNOWN
    if isinstance(cell, float):
        return f"{cell:,.2f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def as_data(block: Block) -> dict[str, Any]:
    """Return a block for JSON: ``kind`` says which keys it has."""
    if isinstance(block, Paragraph):
        return {"kind": "paragraph", "text": block.text}
    if isinstance(block, Facts):
        return {"kind": "facts", "facts": dict(block.facts)}
    if isinstance(block, Table):
        rows = [dict(zip(block.columns, row)) for row in block.rows]
        return {"kind": "table", "title": block.title, "rows": rows}
    if isinstance(block, Picture):
        return {"kind": "picture", "title": block.title}
    return {"kind": "lines", "title": block.title, "lines": [*block.lines]}


def as_text(block: Block) -> Iterator[str]:
    """Yield a block as lines of text."""
    if isinstance(block, Paragraph):
        yield block.text
    elif isinstance(block, Facts):
        width = max((len(name) for name, _ in block.facts), default=0)
        for name, value in block.facts:
            yield f"{name.rjust(width)}: {shown(value)}"
    elif isinstance(block, Table):
        yield f"{block.title}:"
        yield from aligned(block)
    elif isinstance(block, Picture):
        yield f"({block.title}: on the web page)"
    else:
        yield f"{block.title}:"
        yield from (f"{GAP}{line}" for line in block.lines)


def aligned(table: Table) -> Iterator[str]:
    """Yield the rows of a table below its columns; columns of numbers are aligned to the right."""
    rows = [[*table.columns], *([shown(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    right = numeric(table)
    for row in rows:
        cells = (
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right)
        )
        yield (GAP + GAP.join(cells)).rstrip()


def numeric(table: Table) -> list[bool]:
    """Return, for each column, whether all its known values are numbers."""
    return [
        all(isinstance(cell, (int, float)) for cell in column if cell is not None)
        for column in zip(*table.rows)
    ] or [False] * len(table.columns)
