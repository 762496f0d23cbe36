# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks of a kernel by drgn: how many are in which state, those that wait, and what for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import drgn

from ..errors import printable
from .helpers import FAULTS, linux

__all__ = ["Stuck", "Waiter", "blocked", "counts", "running", "waiters"]

MOST_STACKS = 500  # of tasks that are blocked; each takes a few ms
MUTEX = ("__mutex_lock", "mutex_lock", "__ww_mutex_lock")  # and their names with a suffix
RWSEM = ("rwsem_down_read_slowpath", "rwsem_down_write_slowpath", "down_read", "down_write")


@dataclass(frozen=True)
class Stuck:
    """Tasks with one stack: names with PIDs, and for how long the longest has waited.

    ``seconds`` is None where the kernel does not count them.
    """

    tasks: tuple[str, ...]
    seconds: float | None
    stack: tuple[str, ...]


@dataclass(frozen=True)
class Waiter:
    """A task that waits for a lock, the lock and its owner, None where that is not known."""

    task: str
    kind: str
    lock: str
    owner: str | None


def name_of(task: drgn.Object) -> str:
    """Return the name of a task, with its PID."""
    return f"{printable(task.comm.string_().decode(errors='replace'))} ({task.pid.value_()})"


def counts(prog: drgn.Program) -> dict[str, int]:
    """Return how many tasks are in each state, by its letter as ``ps`` has it."""
    return dict(Counter(linux.task_state_to_char(task) for task in linux.for_each_task(prog)))


def running(prog: drgn.Program) -> Iterator[tuple[int, str, float | None, int]]:
    """Yield each cpu: its number, the task it was on, for how long, the tasks in its queue."""
    for cpu in linux.for_each_present_cpu(prog):
        task = linux.cpu_curr(prog, cpu)
        yield cpu, name_of(task), waited(task), linux.cpu_rq(prog, cpu).nr_running.value_()


def waited(task: drgn.Object) -> float | None:
    """Return the seconds since a task last began to run, or None where they are not counted."""
    try:
        return float(linux.task_since_last_arrival_ns(task) / 1e9)
    except FAULTS:
        return None


def uninterruptible(prog: drgn.Program) -> Iterator[drgn.Object]:
    """Yield the tasks in state D."""
    for task in linux.for_each_task(prog):
        if linux.task_state_to_char(task) == "D":
            yield task


def blocked(prog: drgn.Program) -> tuple[list[Stuck], int]:
    """Return the tasks in state D by their stacks, the longest wait first, and their number.

    Stacks are equal if their functions are; tasks after the first ``MOST_STACKS`` are left out.
    """
    groups: dict[tuple[str, ...], list[tuple[float | None, str, tuple[str, ...]]]] = {}
    number = 0
    for task in uninterruptible(prog):
        number += 1
        if number <= MOST_STACKS:
            functions, lines = stack(task)
            groups.setdefault(functions, []).append((waited(task), name_of(task), lines))
    found = []
    for members in groups.values():
        members.sort(key=lambda one: -(one[0] or 0))
        found.append(Stuck(tuple(name for _, name, _ in members), members[0][0], members[0][2]))
    return sorted(found, key=lambda one: -(one.seconds or 0)), number


def stack(task: drgn.Object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the functions of a task's stack, and its lines of text."""
    try:
        trace = task.prog_.stack_trace(task)
        functions = tuple(frame.name or f"{frame.pc:x}" for frame in trace)
        return functions, tuple(str(trace).splitlines())
    except FAULTS as error:
        return (), (f"(no stack: {error})",)


def waiters(prog: drgn.Program) -> list[Waiter]:
    """Return the tasks in state D that wait for a mutex or a semaphore that drgn knows."""
    found: list[Waiter] = []
    for number, task in enumerate(uninterruptible(prog)):
        if number >= MOST_STACKS:
            break
        try:
            found += _waits(task, prog.stack_trace(task))
        except FAULTS:
            continue
    return found


def _writer(lock: drgn.Object) -> drgn.Object | None:
    """Return the task that has a rw_semaphore for writing, or None: of readers none is known."""
    if linux.rwsem_locked(lock).name != "WRITE_LOCKED":
        return None
    return linux.rwsem_owner(lock)


def _waits(task: drgn.Object, frames: Iterable[drgn.StackFrame]) -> Iterator[Waiter]:
    """Yield the lock that a task waits for, by the first frame that has it."""
    for frame in frames:
        function = (frame.name or "").partition(".")[0]
        mutex = function in MUTEX
        if not mutex and function not in RWSEM:
            continue
        try:
            lock = frame["lock" if mutex else "sem"]
            kind = "mutex" if mutex else "rw_semaphore"
            place = f"{lock.value_():x}"
        except FAULTS:
            continue  # its caller may still have it
        try:
            owner = linux.mutex_owner(lock) if mutex else _writer(lock)
            yield Waiter(name_of(task), kind, place, name_of(owner) if owner else None)
        except FAULTS:
            yield Waiter(name_of(task), kind, place, None)
        return
