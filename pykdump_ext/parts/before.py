# SPDX-License-Identifier: GPL-3.0-or-later
"""What was wrong with dom0 before it died, in a sentence each: blocked tasks, memory that ran out.

A task in state D waits for a lock, or for what a device or another task does. Of those that hung
the one to look at is at the end of the locks: the task blocked longest, or whoever holds its lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .last_words import HUNG, STAMP
from .machinery import functions_of, without_machinery
from .oom import OutOfMemory, last_of_each

if TYPE_CHECKING:
    from ..drgn.locks import Waiter
    from ..drgn.tasks import Stuck

__all__ = ["LONG", "blocked", "end_of_hang", "out_of_memory", "pid_of"]

LONG = 10.0  # seconds: what a task waits for less says little
MOST_NAMES = 12
MOST_OWNERS = 3
PID = re.compile(r"\((\d+)\)$")  # after the name of a task
SECONDS = re.compile(r"\[ *(\d+\.\d+)\]")  # of the kernel's clock, before a line
# __oom_kill_process() of mm/oom_kill.c; before Linux 2.6.36 the UID was before the name
KILL = re.compile(r"Killed process (\d+)(?:, UID \d+,)? \((.+)\),? (?:total-vm|UID)")
# dump_task() of mm/oom_kill.c: pid, uid, tgid, total_vm, rss, and more numbers before the name
ROW = re.compile(r"\[ *(\d+)\] +\d+ +\d+ +\d+ +(\d+)(?: +-?\d+)+ +(\S.*)$")
PANICKED = re.compile(r"Kernel panic - not syncing: (?:Out of memory|System is deadlocked)")
KIB = 4  # of a page


def pid_of(task: str) -> int | None:
    """Return the PID in the name of a task, such as ``dd (136)``."""
    found = PID.search(task)
    return int(found[1]) if found else None


def end_of_hang(
    groups: Sequence[Stuck], waiters: Sequence[Waiter], lines: Sequence[str]
) -> str | None:
    """Return the task at the end of a hang, or None if none is blocked that the log reports.

    It is the one blocked longest of those that the kernel's log reports as hung, or of all if that
    reports none; where it waits for a lock whose holder is known, that one, and so on.
    """
    texts = (STAMP.sub("", line, count=1) for line in lines)
    reported = {int(found["pid"]) for text in texts if (found := HUNG.match(text))}
    tasks = [task for group in groups for task in group.tasks]
    task = next((task for task in tasks if not reported or pid_of(task) in reported), None)
    owners, seen = _owners(waiters), set()
    while task in owners and task not in seen:
        seen.add(task)
        task = owners[task]
    return task


def _owners(waiters: Sequence[Waiter]) -> dict[str, str]:
    """Return who holds the lock that each task waits for."""
    return {one.task: one.holder for one in waiters if one.holder is not None}


def blocked(groups: Sequence[Stuck], number: int, waiters: Sequence[Waiter]) -> Iterator[str]:
    """Yield a sentence on the tasks in state D, and one on who waits for whom.

    :param groups: tasks with one stack, the longest wait first, as :func:`.tasks.blocked` has them.
    :param number: of all such tasks.
    """
    if not groups:
        return
    tasks = [task for group in groups for task in group.tasks]
    names = _listed(tasks[:MOST_NAMES], number - min(len(tasks), MOST_NAMES))
    longest = groups[0]
    since = "" if longest.seconds is None else f" for up to {longest.seconds:,.1f} s"
    were = "1 task was" if number == 1 else f"{number:,} tasks were"
    where = _where(longest)
    at = f"; {longest.tasks[0]} longest, in {where}" if where and since else ""
    yield f"{were} blocked (state D){since}: {names}{at}."
    owners = _owners(waiters)
    behind: dict[str, list[str]] = {}
    for task, owner in owners.items():
        behind.setdefault(owner, []).append(task)
    places = {task: _where(group) for group in groups for task in group.tasks}
    chains = []
    for owner, those in sorted(behind.items(), key=lambda one: -len(one[1]))[:MOST_OWNERS]:
        names = _listed(those[:MOST_NAMES], len(those) - MOST_NAMES)
        verb = "waits" if len(those) == 1 else "wait"
        its = owners.get(owner)
        then = f"for {its}" if its else f"in {places[owner]}" if places.get(owner) else ""
        chains.append(f"{names} {verb} for {owner}" + (f", which waits {then}" if then else ""))
    if chains:
        yield f"{'; '.join(chains)}."


def _listed(names: Sequence[str], more: int) -> str:
    if more > 0:
        return f"{', '.join(names)} and {more:,} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _where(group: Stuck) -> str | None:
    """Return the function in which tasks with one stack wait."""
    return next(iter(without_machinery(functions_of(group.stack), waits=True)), None)


def out_of_memory(lines: Sequence[str]) -> Iterator[str]:
    """Yield a sentence on the last time that memory ran out, of dom0 and of a control group.

    :param lines: all that is left of the kernel's log, each with its time.
    """
    for one in last_of_each(lines):
        end = next((found for line in reversed(lines) if (found := SECONDS.match(line))), None)
        at = SECONDS.match(one.lines[-1])
        passed = float(end[1]) - float(at[1]) if end and at else None
        when = "" if passed is None else f" {max(passed, 0):,.1f} s before the end of its log"
        killed = KILL.search(one.lines[-1])
        most = _most(one)
        if killed:
            task = f"{killed[2]} ({killed[1]})"
            yield f"{_subject(one.whose)} ran out of memory{when}, and {task} was killed."
        elif PANICKED.search(one.lines[-1]) and most:
            yield f"Of the processes {most[0]} ({most[1]}) had the most memory: {most[2]:,} KiB."


def _subject(whose: str) -> str:
    """Return whose memory ran out, as the beginning of a sentence."""
    if whose.startswith("/"):
        return f"dom0's control group {whose}"
    return whose if whose == "dom0" else f"In dom0 {whose}"


def _most(one: OutOfMemory) -> tuple[str, str, int] | None:
    """Return the process with the most pages in memory: name, PID, KiB; None without a table."""
    rows = [found for line in one.lines if (found := ROW.search(line))]
    if not rows:
        return None
    largest = max(rows, key=lambda row: int(row[2]))
    return largest[3], largest[1], int(largest[2]) * KIB
