# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of ``make bench-speed``: what may be compared, ratios, and the table of a paper."""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BARE, PLAIN, P2MFIX = "bare", "plain", "p2mfix"
KINDS = (BARE, PLAIN, P2MFIX)
SHORT = 1.0  # seconds on bare metal; what takes longer may take no longer with p2mfix
SHORT_LIMIT, LONG_LIMIT = 1.2, 1.0  # ratios of p2mfix to bare metal that are the target
START_ROW = "start"
RESOLUTION = 0.005  # seconds; ratios of less are noise


class NothingPrinted(Exception):
    """A command printed nothing, or only errors: two such outputs are equal, and prove nothing."""


def digest(command: str, printed: bytes) -> str:
    """Return a hash of what a command printed.

    :raises NothingPrinted: there is no line in it that is not an error of the command.
    """
    error = re.compile(rf"{re.escape(command.split(maxsplit=1)[0])}: ".encode())
    if all(error.match(line) or not line.strip() for line in printed.splitlines()):
        first = printed.partition(b"\n")[0].decode(errors="replace")
        raise NothingPrinted(f"{command} printed {first!r} and no result")
    return hashlib.sha256(printed).hexdigest()


@dataclass
class Figures:
    """What a command cost in one kind of session, seconds of CPU by the number of the run.

    What is slow is not run as often as the rest.  ``digests`` has the hashes of all that it
    printed, ``lines`` their number; ``problem`` says why there are no figures.
    """

    seconds: dict[int, float] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    lines: int = 0
    problem: str = ""

    @property
    def median(self) -> float:
        """The median of the runs."""
        return statistics.median(self.seconds.values())

    def cell(self) -> str:
        """Return the median as the table has it."""
        return self.problem or shown(self.median)


@dataclass
class Row:
    """A command's figures in each kind of session."""

    name: str
    figures: dict[str, Figures] = field(default_factory=dict)

    def of(self, kind: str) -> Figures:
        """Return the figures of a kind of session, which may be new."""
        return self.figures.setdefault(kind, Figures())

    def ratio(self, over: str, under: str) -> float | None:
        """Return the median of the ratios of runs in turn, or None where there is none."""
        kinds = [self.figures.get(kind, Figures(problem="not measured")) for kind in (over, under)]
        if any(figures.problem for figures in kinds):
            return None
        a, b = (figures.seconds for figures in kinds)
        runs = a.keys() & b.keys()
        assert runs, f"{self.name}: no runs of {over} and {under} are in turn"
        if kinds[1].median < RESOLUTION:
            return None
        return statistics.median(a[run] / b[run] for run in runs)

    def differs(self) -> bool:
        """Return True if plain crash and p2mfix, or two runs of one, printed different things."""
        compared = [self.figures[kind] for kind in (PLAIN, P2MFIX) if kind in self.figures]
        printed = [figures.digests for figures in compared if not figures.problem]
        return len(set().union(*printed)) > 1

    def misses_target(self) -> bool:
        """Return True if p2mfix takes longer than the target allows, or longer than plain crash.

        The target is one of commands, not of the start.
        """
        if self.name == START_ROW:
            return False
        bare, plain = self.ratio(P2MFIX, BARE), self.ratio(P2MFIX, PLAIN)
        if plain is not None and plain > SHORT_LIMIT:
            return True
        if bare is None:
            return False
        long = self.figures[BARE].median > SHORT
        return bare > (LONG_LIMIT if long else SHORT_LIMIT)


def kept(sets: Mapping[str, Sequence[Row]]) -> str:
    """Return the figures of sets of dumps as JSON, for :func:`taken_up`."""
    plain = {
        name: {
            row.name: {
                kind: {**vars(figures), "digests": sorted(figures.digests)}
                for kind, figures in row.figures.items()
            }
            for row in rows
        }
        for name, rows in sets.items()
    }
    return json.dumps(plain, indent=1)


def taken_up(text: str) -> dict[str, list[Row]]:
    """Return the figures that :func:`kept` has written."""

    def figures(found: dict[str, Any]) -> Figures:
        seconds = {int(run): value for run, value in found["seconds"].items()}
        return Figures(seconds, set(found["digests"]), found["lines"], found["problem"])

    return {
        name: [
            Row(command, {kind: figures(found) for kind, found in row.items()})
            for command, row in rows.items()
        ]
        for name, rows in json.loads(text).items()
    }


def shown(number: float) -> str:
    """Return a number of seconds, or a ratio, with no more digits than it deserves."""
    if number >= 9.95:
        return f"{number:,.0f}"
    digits = 1 if number >= 0.995 else 2 if number >= 0.0995 else 3 if number >= 0.00095 else 4
    return f"{number:.{digits}f}"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table of Markdown; a ratio that misses the target is bold."""
    lines = [
        "| CPU seconds | bare metal | plain crash | p2mfix | p2mfix / bare | p2mfix / plain |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    notes = []
    for row in rows:
        cells = [row.figures[kind].cell() if kind in row.figures else "" for kind in KINDS]
        for under in (BARE, PLAIN):
            ratio = row.ratio(P2MFIX, under)
            text = "" if ratio is None else shown(ratio) if ratio < 0.995 else f"{ratio:.2f}"
            bold = under == BARE and text and row.misses_target()
            cells.append(f"**{text}**" if bold else text)
        padded = [f" {cell} " if cell else " " for cell in (f"`{row.name}`", *cells)]
        lines.append(f"|{'|'.join(padded)}|")
        if row.differs():
            notes.append(f"`{row.name}`: plain crash and p2mfix printed different things.")
    return "\n".join([*lines, *(f"\n{note}" for note in notes)])


def across(sets: Mapping[str, Sequence[Row]]) -> str:
    """Return what p2mfix costs on each set of dumps, and over bare metal, as a table of Markdown.

    A set without figures of bare metal is compared with those of the first set.
    """
    bare = {row.name: row.figures.get(BARE) for row in next(iter(sets.values()))}
    lines = [f"| p2mfix | {' | '.join(sets)} |", f"| --- |{' --- |' * len(sets)}"]
    found = {name: {row.name: row.figures for row in rows} for name, rows in sets.items()}
    for command in dict.fromkeys(row.name for rows in sets.values() for row in rows):
        cells = []
        for rows in found.values():
            figures = rows.get(command, {})
            mine, other = figures.get(P2MFIX), figures.get(BARE) or bare.get(command)
            cell = mine.cell() if mine else ""
            if mine and other and not mine.problem + other.problem and other.median >= RESOLUTION:
                cell += f" ({shown(mine.median / other.median)})"
            cells.append(f" {cell} " if cell else " ")
        lines.append(f"| `{command}` |{'|'.join(cells)}|")
    return "\n".join(lines)


def written(text: str, tables: Mapping[str, str]) -> str:
    """Return a paper with each table between the two comments that have its name.

    :raises ValueError: the paper has not both comments of a table, once.
    """
    for name, one in tables.items():
        begin, end = f"<!-- bench-speed: {name} -->\n", f"<!-- end of {name} -->\n"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"the paper has not {begin.strip()} and {end.strip()} once each")
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{one}\n\n{end}{after}"
    return text
