# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks of a dump, from the kernel's own memory and by drgn; and those that crash prints."""

from __future__ import annotations

import re

import drgn
from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import idle_task

TASK_ROW = re.compile(
    r"^[> ] +(\d+) +(-?\d+) +(\d+) +([0-9a-f]{16}) +(\w\w) .* \[?(\S+?)\]?$", re.M
)
"""A line of crash's ``ps``: pid, parent, cpu, task, state, command."""


def tasks_of(prog: drgn.Program) -> set[int]:
    """Return the address of each task, idle tasks too; the kernel's own count agrees."""
    tasks = {task.value_() for task in for_each_task(prog)}
    idle = {idle_task(prog, cpu).value_() for cpu in for_each_possible_cpu(prog)}
    assert len(tasks) == prog["nr_threads"].value_() > 60
    assert idle.isdisjoint(tasks) and len(idle) == 4
    return tasks | idle


def rows(ps: str) -> list[tuple[str, ...]]:
    """Return what crash's ``ps`` prints, without the columns of memory."""
    found = TASK_ROW.findall(ps)
    assert len(found) == len(ps.splitlines()) - 1, ps
    return found


def shown_tasks(ps: str) -> set[int]:
    """Return the address of each task that crash's ``ps`` prints."""
    found = rows(ps)
    assert len({row[3] for row in found}) == len(found)
    return {int(row[3], 16) for row in found}


def shown_count(sys: str) -> int:
    """Return the number of tasks that crash's ``sys`` prints."""
    found = re.search(r"(?m)^ +TASKS: (\d+)$", sys)
    assert found, sys
    return int(found[1])
