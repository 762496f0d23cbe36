# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a report on dom0's p2m: what ``p2mfix diagnose`` has, and what it means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import printable
from ..p2m.diagnosis import Diagnosis
from ..reports.pictures import drawing
from ..reports.report import Report, pairs, report_files
from .blocks import Block, Cell, Facts, Paragraph, Picture, clean
from .case import Case
from .document import Document
from .page import page
from .part import Part, Result

__all__ = ["P2m", "p2m_page"]

LOST = (
    "dom0's kernel keeps a list of the frames of its p2m, and crash reads dom0's memory by that"
    " list. Here the list lacks a part of them, most often because it ends too early. So plain"
    " crash cannot read all of dom0's memory, although the memory is in the dump. p2mfix rebuilds"
    " the list; this report does not need it."
)
SAID_BEFORE = ("dump", "format", "Xen", "Linux")  # by other parts
PICTURE = "The p2m: pfn space, and where its frames are in machine memory"


class P2m(Part):
    """The state of the p2m and of the dump's list."""

    name = "p2m"
    title = "p2m"

    def blocks(self, case: Case) -> Iterator[Block]:
        """Yield the verdict, and the facts of ``p2mfix diagnose``."""
        opened = case.opened
        result, found = report_files(opened.paths, opened=opened)
        yield from blocks(result, SAID_BEFORE)
        if case.pictures and found is not None:
            svg = case.tried("the picture of the p2m", lambda: drawing(found, "svg"))
            if svg:
                yield picture(svg)


def blocks(result: Report, said_before: Sequence[str] = ()) -> Iterator[Block]:
    """Yield the blocks of a report of ``p2mfix diagnose``.

    :param said_before: names of facts that are left out.
    """
    yield Paragraph(f"Verdict: {result.verdict}.")
    if result.lost:
        yield Paragraph(LOST)
    facts: list[tuple[str, Cell]] = []
    for name, text in pairs(result):
        if name == "verdict" or name in said_before:
            continue
        if not name or (facts and name == facts[-1][0]):
            facts[-1] = facts[-1][0], f"{facts[-1][1]}; {text}"
        else:
            facts.append((name, text))
    yield Facts(facts)


def picture(svg: bytes) -> Picture:
    """Return a drawing of the p2m as a block."""
    text = svg.decode()
    return Picture(PICTURE, text[text.index("<svg") :])


def p2m_page(result: Report, found: Diagnosis | None) -> bytes:
    """Return a report of ``p2mfix diagnose`` as a web page, with a picture if there is a diagnosis.

    :raises P2mError: matplotlib or Jinja2 is not installed.
    """
    part = Result(P2m.name, P2m.title, [clean(block) for block in blocks(result)])
    if found is not None:
        part.blocks.append(picture(drawing(found, "svg")))
    return page(Document(printable(result.dump), [part], result.seconds or 0))
