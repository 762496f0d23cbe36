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
    "cut",
]

Cell = Union[str, int, float, None]
UNKNOWN = "unknown"
GAP = "  "  # between columns
IDS = frozenset(
    ("domain", "with", "to", "vcpu", "cpu")
)  # columns of numbers that name something: no commas
# What a damaged dump can make of a text or a list, a page must not have whole
LONGEST = 4000  # characters of a text; a line of dom0's log has about 1,000 at most
LONGEST_CELL = 500
LARGEST = 1 << 64
MOST_ROWS = 10_000  # of a table
MOST_CHARACTERS = 4 << 20  # of lines, about 50,000 of them


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
    """Return a block with texts that a terminal can show, and no more than a page can have."""
    if isinstance(block, Paragraph):
        return Paragraph(_text(block.text))
    if isinstance(block, Facts):
        return Facts([(_text(name), _clean(value)) for name, value in block.facts])
    if isinstance(block, Table):
        title, rows = _text(block.title), block.rows
        if len(rows) > MOST_ROWS:
            title += f": the first {MOST_ROWS:,} of {len(rows):,}"
        clean_rows = [[_clean(cell) for cell in row] for row in rows[:MOST_ROWS]]
        return Table(title, [*map(_text, block.columns)], clean_rows)
    if isinstance(block, Picture):
        return block
    return Lines(_text(block.title), _last_lines(block.lines), block.log)


def cut(text: str, longest: int = LONGEST) -> str:
    """Return a text, or the beginning of one that has too many characters."""
    more = len(text) - longest
    return text if more <= 0 else f"{text[:longest]} ... and {more:,} more characters"


def _text(text: str) -> str:
    return printable(cut(text))


def _clean(cell: Cell) -> Cell:
    """Return a value that a page can have: a number that no machine has is not known."""
    if isinstance(cell, str):
        return printable(cut(cell, LONGEST_CELL))
    return cell if cell is not None and abs(cell) < LARGEST else None


def _last_lines(lines: Sequence[str]) -> list[str]:
    """Return lines, each cut; of more than a page can have, the last."""
    found: list[str] = []
    size = 0
    for line in reversed(lines):
        found.append(printable(cut(line).expandtabs()))
        size += len(found[-1]) + 1
        if size > MOST_CHARACTERS:
            found.append(f"({len(lines) - len(found):,} lines before these are left out)")
            break
    return found[::-1]


def shown(cell: Cell, column: str = "") -> str:
    """Return a value as text: numbers with commas between thousands, unless they are ids."""
    if cell is None:
        return UNKNOWN
    if isinstance(cell, float):
        return f"{cell:,.2f}"
    return f"{cell:,}" if isinstance(cell, int) and column not in IDS else str(cell)


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
    values = ([*map(shown, row, table.columns)] for row in table.rows)
    rows = [[*table.columns], *values]
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
