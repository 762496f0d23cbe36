# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a report on dom0's memory: totals, the largest users, and how it ran out."""

from __future__ import annotations

from collections.abc import Iterator

from .blocks import Block, Cell, Facts, Lines, Paragraph, Table
from .case import Case
from .oom import last_of_each, shortened
from .part import Part

__all__ = ["Usage"]

MOST = 15  # rows of a table


class Usage(Part):
    """dom0's memory."""

    name = "memory"
    title = "dom0's memory"
    needs = "vmlinux and drgn"

    def blocks(self, case: Case) -> Iterator[Block]:
        """Yield totals, slab caches, processes, and the trace of the last OOM."""
        prog = case.prog
        from ..drgn import usage  # noqa: PLC0415

        totals = case.tried("totals", lambda: usage.totals(prog)) or {}
        yield Facts([(f"{name}, KiB", value) for name, value in totals.items()])
        slabs = case.tried("the slab caches", lambda: usage.largest_slabs(prog, MOST, case.notes))
        if slabs:
            yield Table("Largest slab caches", ("name", "KiB", "objects used", "objects"), slabs)
        processes = case.tried(
            "the processes", lambda: usage.largest_processes(prog, MOST, case.notes)
        )
        if processes:
            columns = ("process", "PID", "resident KiB", "of it shared KiB", "swapped KiB")
            rows: list[list[Cell]] = [[name, str(pid), *kib] for name, pid, *kib in processes]
            yield Table("Largest processes", columns, rows)
        traces = case.tried("whether memory ran out", lambda: last_of_each(case.log))
        for one in traces or ():
            what = (
                "dom0 ran out of memory"
                if one.whose == "dom0"
                else f"a part of dom0 ran out of the memory that it may have: {one.whose}"
            )
            yield Lines(f"The last time that {what}", [*shortened(one.lines)], log=True)
        if traces == []:
            yield Paragraph("dom0's log has no sign that memory ran out.")
