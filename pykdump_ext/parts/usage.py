# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a report on dom0's memory: totals, the largest users, and how it ran out."""

from __future__ import annotations

from collections.abc import Iterator

from .blocks import Block, Cell, Facts, Lines, Paragraph, Table
from .case import Case
from .logs import out_of_memory
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
        from ..drgn.last_moments import log_lines  # noqa: PLC0415

        yield Facts([(f"{name}, KiB", value) for name, value in usage.totals(prog).items()])
        slabs = case.tried("the slab caches", lambda: usage.largest_slabs(prog, MOST))
        if slabs:
            yield Table("Largest slab caches", ("name", "KiB", "objects used", "objects"), slabs)
        processes = case.tried("the processes", lambda: usage.largest_processes(prog, MOST))
        if processes:
            columns = ("process", "PID", "resident KiB", "of it shared KiB", "swapped KiB")
            rows: list[list[Cell]] = [[name, str(pid), *kib] for name, pid, *kib in processes]
            yield Table("Largest processes", columns, rows)
        trace = [*out_of_memory(log_lines(prog))]
        if trace:
            yield Lines("The last time that dom0 ran out of memory", trace)
        else:
            yield Paragraph("dom0's log has no sign that memory ran out.")
