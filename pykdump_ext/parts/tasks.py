# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a report on dom0's tasks: those that wait and run, and the locks they wait for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .blocks import Block, Facts, Lines, Paragraph, Table
from .case import Case
from .part import Part

if TYPE_CHECKING:
    from ..drgn.tasks import Stuck

__all__ = ["Locks", "Tasks"]

MOST_GROUPS = 30
MOST_NAMES = 12  # of the tasks of a group
STATES = {"R": "running or ready", "S": "sleeping", "D": "blocked", "I": "idle kernel threads",
          "T": "stopped", "t": "traced", "Z": "zombies", "X": "dead", "P": "parked"}  # fmt: skip


class Tasks(Part):
    """Tasks in state D by equal stacks, what the cpus ran, the load."""

    name = "tasks"
    title = "dom0's tasks"
    needs = "vmlinux and drgn"

    def blocks(self, case: Case) -> Iterator[Block]:
        """Yield the load, the blocked tasks, and what each vcpu was on."""
        prog = case.prog
        from ..drgn import tasks  # noqa: PLC0415
        from ..drgn.last_moments import load  # noqa: PLC0415

        notes = case.notes
        states = case.tried("the states of tasks", lambda: tasks.counts(prog, notes)) or {}
        now = case.clock
        yield Facts(
            [
                ("load", case.tried("the load", lambda: load(prog))),
                ("tasks", sum(states.values()) or None),
                *((f"{STATES.get(name, 'in state')} ({name})", n) for name, n in states.items()),
            ]
        )
        running = case.tried("what vcpus were on", lambda: [*tasks.running(prog, now, notes)])
        if running:
            columns = ("vcpu", "task", "seconds", "tasks in its queue")
            yield Table("What each vcpu was on", columns, running)
        found = case.tried("the blocked tasks", lambda: case.blocked)
        if found:
            yield from shown(*found, notes)


def shown(groups: list[Stuck], number: int, notes: list[str]) -> Iterator[Block]:
    """Yield the stacks of blocked tasks.

    :param number: of blocked tasks; ``groups`` may have fewer.
    """
    if not groups:
        yield Paragraph("No task is blocked (in state D).")
    for group in groups[:MOST_GROUPS]:
        yield Lines(title(group), group.stack)
    if len(groups) > MOST_GROUPS:
        yield Paragraph(f"{len(groups) - MOST_GROUPS:,} more stacks are left out.")
    known = sum(len(group.tasks) for group in groups)
    if known < number:
        notes.append(f"{number - known:,} more blocked tasks are left out")


def title(group: Stuck) -> str:
    """Return the title of blocked tasks with one stack."""
    names = ", ".join(group.tasks[:MOST_NAMES])
    more = len(group.tasks) - MOST_NAMES
    names += f" and {more:,} more" if more > 0 else ""
    count = len(group.tasks)
    since = "" if group.seconds is None else f", for {group.seconds:,.1f} s"
    if count == 1:
        return f"Blocked{since}: {names}"
    return f"{count:,} tasks blocked{since and since + ' at most'}: {names}"


class Locks(Part):
    """The locks that blocked tasks wait for, and who holds them."""

    name = "locks"
    title = "Locks and workqueues"
    needs = "vmlinux and drgn"

    def blocks(self, case: Case) -> Iterator[Block]:
        """Yield who waits for which lock, and the work that no worker has begun."""
        prog = case.prog
        from ..drgn.workqueues import waiting  # noqa: PLC0415

        found = case.tried("locks", lambda: case.waiters)
        if found:
            rows = [(one.task, one.kind, one.lock, one.owner) for one in found]
            yield Table("Who waits for whom", ("task", "waits for", "at", "held by"), rows)
        elif found is not None:
            yield Paragraph("No blocked task waits for a mutex or a semaphore that drgn can see.")
        works = case.tried("workqueues", lambda: [*waiting(prog, case.notes)])
        if works:
            columns = ("workqueue", "pool", "work", "number", "seconds since its pool began any")
            lines = [(w.queue, w.pool, w.function, w.number, w.seconds) for w in works]
            yield Table("Work that waits for a worker", columns, lines)
        elif works is not None:
            yield Paragraph("No work waits in a workqueue.")
