# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a report on dom0's p2m: what ``p2mfix diagnose`` has, and what it means."""

from __future__ import annotations

from collections.abc import Iterator

from ..reports.report import pairs, report_files
from .blocks import Block, Cell, Facts, Paragraph
from .case import Case
from .part import Part

__all__ = ["P2m"]

LOST = (
    "dom0's kernel keeps a list of the frames of its p2m, and crash reads dom0's memory by that"
    " list. Here the list lacks a part of them, most often because it ends too early. So plain"
    " crash cannot read all of dom0's memory, although the memory is in the dump. p2mfix rebuilds"
    " the list; this report does not need it."
)


class P2m(Part):
    """The state of the p2m and of the dump's list."""

    name = "p2m"
    title = "p2m"

    def blocks(self, case: Case) -> Iterator[Block]:
        """Yield the verdict, and the facts of ``p2mfix diagnose``."""
        opened = case.opened
        result, _ = report_files(opened.paths, opened=opened)
        yield Paragraph(f"{result.verdict[:1].upper()}{result.verdict[1:]}.")
        if result.lost:
            yield Paragraph(LOST)
        facts: list[tuple[str, Cell]] = []
        for name, text in pairs(result):
            if name in ("dump", "format", "Xen", "Linux", "verdict"):
                continue
            if not name or (facts and name == facts[-1][0]):
                facts[-1] = facts[-1][0], f"{facts[-1][1]}; {text}"
            else:
                facts.append((name, text))
        yield Facts(facts)
