# SPDX-License-Identifier: GPL-3.0-or-later
"""Stacks of tasks as text, with inlined frames and source lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import drgn
from drgn.helpers.linux.cpumask import for_each_present_cpu
from drgn.helpers.linux.pid import find_task
from drgn.helpers.linux.sched import cpu_curr, idle_task, task_cpu

from ..errors import P2mError
from .walks import string

__all__ = ["crashed_task", "no_faults", "running_tasks", "stack_lines", "task_named"]


@contextmanager
def no_faults() -> Iterator[None]:
    """Make what cannot be read in the block an error for people.

    :raises P2mError: drgn could not read memory.
    """
    try:
        yield
    except drgn.FaultError as error:
        raise P2mError(f"drgn cannot read the kernel's data: {error}") from None


def crashed_task(prog: drgn.Program) -> drgn.Object:
    """Return the task that was running where the kernel crashed.

    :raises P2mError: the kernel has not crashed, or does not say where.
    """
    try:
        return prog.crashed_thread().object
    except (ValueError, LookupError, drgn.FaultError):
        raise P2mError("no task crashed the kernel: name a task, or use -a") from None


def running_tasks(prog: drgn.Program) -> Iterator[tuple[int, drgn.Object]]:
    """Yield each cpu's number, and the task that it was on."""
    for cpu in for_each_present_cpu(prog):
        yield cpu, cpu_curr(prog, cpu)


def task_named(prog: drgn.Program, word: str) -> drgn.Object:
    """Return the task with that PID, a decimal number, or with that address, a hexadecimal one.

    :raises P2mError: there is none.
    """
    try:
        if word.isdecimal():
            task = find_task(prog, int(word))
            if task:
                return task
        else:
            task = drgn.Object(prog, "struct task_struct *", int(word, 16))
            for known in (find_task(prog, task.pid), idle_task(prog, task_cpu(task))):
                if known == task:
                    return task
    except (ValueError, OverflowError, LookupError, drgn.FaultError):
        pass
    raise P2mError(f"{word}: neither the PID nor the address of a task")


def stack_lines(task: drgn.Object) -> Iterator[str]:
    """Yield the lines of a task's stack: first, as crash has it, which task it is."""
    yield (
        f"PID: {task.pid.value_():<8} TASK: {task.value_():x}  CPU: {task_cpu(task):<3}"
        f'  COMMAND: "{string(task.comm)}"'
    )
    try:
        yield from str(task.prog_.stack_trace(task)).splitlines()
    except (ValueError, LookupError, drgn.FaultError) as error:
        yield f"(no stack: {error})"
