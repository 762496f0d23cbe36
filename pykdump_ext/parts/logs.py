# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a report that are logs: dom0's, and Xen's console."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .blocks import Block, Lines, Paragraph
from .case import Case
from .part import Part

__all__ = ["Dmesg", "XenLog"]

TAIL = 100  # lines of dom0's log
MOST_ALARMS = 40  # lines
# What the kernel prints when something is wrong: kernel/panic.c, kernel/hung_task.c,
# kernel/watchdog.c, kernel/rcu/, arch/x86/kernel/dumpstack.c, mm/oom_kill.c
ALARM = re.compile(
    r"Kernel panic|BUG: |kernel BUG at|Oops: |general protection fault|blocked for more than"
    r"|soft lockup|hard LOCKUP|detected stall|WARNING: |[Oo]ut of memory|invoked oom-killer"
    r"|Hardware Error|I/O error"
)


class Dmesg(Part):
    """The end of dom0's log, and the lines of all of it that report trouble."""

    name = "dmesg"
    title = "dom0's log"
    needs = "vmlinux and drgn"

    def blocks(self, case: Case) -> Iterator[Block]:
        """Yield the lines of trouble, then the end of the log."""
        lines = case.log
        alarms = [line for line in lines if ALARM.search(line)]
        if alarms:
            shown = alarms[-MOST_ALARMS:]
            of = f"the last {len(shown)} of {len(alarms):,}" if alarms != shown else len(shown)
            yield Lines(f"Lines that report trouble: {of}", shown, log=True)
        shown = lines[-TAIL:]
        yield Lines(f"The last {len(shown)} of {len(lines):,} lines", shown, log=True)


class XenLog(Part):
    """Xen's console: all that is left of it."""

    name = "xenlog"
    title = "Xen's console"

    def blocks(self, case: Case) -> Iterator[Block]:
        """Yield how it was found, and its lines."""
        console = case.console
        yield Paragraph(f"{console.found}.")
        yield Lines(f"{len(console.lines):,} lines", console.lines, log=True)
