# SPDX-License-Identifier: GPL-3.0-or-later
"""The locks that blocked tasks wait for, and who holds them, by drgn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import drgn

from .helpers import FAULTS, linux
from .tasks import MOST_STACKS, name_of, uninterruptible
from .walks import attempt

__all__ = ["Waiter", "waiters"]


@dataclass(frozen=True)
class Waiter:
    """A task that waits for a lock, the lock and its owner, None where that is not known.

    Of a semaphore ``owner`` says who last took it, for others may give it back.
    """

    task: str
    kind: str
    lock: str
    owner: str | None

    @property
    def holder(self) -> str | None:
        """Who has the lock, None where that is not known: who last took a semaphore may not."""
        return None if self.kind == "semaphore" else self.owner


def waiters(prog: drgn.Program, notes: list[str]) -> list[Waiter]:
    """Return the tasks in state D that wait for a mutex or a semaphore that drgn can see."""
    found: list[Waiter] = []
    for number, task in enumerate(uninterruptible(prog, notes)):
        if number >= MOST_STACKS:
            break
        what = f"what the task at {task.value_():x} waits for"
        found += attempt(what, notes, waits, task) or []
    return found


def _mutex(lock: drgn.Object) -> drgn.Object:
    return linux.mutex_owner(lock)


def _rwsem(lock: drgn.Object) -> drgn.Object | None:
    """Return the task that has a rw_semaphore for writing, or None: of readers none is known."""
    if linux.rwsem_locked(lock).name != "WRITE_LOCKED":
        return None
    return linux.rwsem_owner(lock)


def _semaphore(lock: drgn.Object) -> drgn.Object | None:
    """Return the task that last took a semaphore, which others may give back.

    Linux notes it since 6.16 (194a9b9e843b), if it was built with DETECT_HUNG_TASK_BLOCKER.
    """
    try:
        holder = lock.last_holder
    except AttributeError:
        return None
    return drgn.cast("struct task_struct *", holder)


Owner = Callable[[drgn.Object], "drgn.Object | None"]
# Functions that wait, without suffixes: kernel/locking/mutex.c, rwsem.c, semaphore.c. Before 5.3
# those of rw_semaphores end in _failed
KINDS: dict[tuple[str, ...], tuple[str, str, Owner]] = {
    ("__mutex_lock", "mutex_lock", "__ww_mutex_lock", "mutex_lock_killable", "mutex_lock_io"): (
        "mutex", "lock", _mutex,
    ),
    ("rwsem_down_read_slowpath", "rwsem_down_write_slowpath", "down_read", "down_write",
     "down_read_killable", "down_write_killable", "rwsem_down_read_failed",
     "rwsem_down_write_failed"): ("rw_semaphore", "sem", _rwsem),
    ("___down_common", "__down_common", "__down", "__down_killable", "__down_timeout", "down",
     "down_killable", "down_timeout"): ("semaphore", "sem", _semaphore),
}  # fmt: skip
WAITS = {name: found for names, found in KINDS.items() for name in names}


def waits(task: drgn.Object) -> list[Waiter]:
    """Return the lock that a task waits for, by the first frame that has it, if any has."""
    for frame in task.prog_.stack_trace(task):
        found = WAITS.get((frame.name or "").partition(".")[0])
        if found is None:
            continue
        kind, variable, owner_of = found
        try:
            lock = frame[variable]
            place = f"{lock.value_():x}"
        except FAULTS:
            continue  # its caller may still have it
        try:
            owner = owner_of(lock)
            held_by = name_of(owner) if owner else None
            if held_by and kind == "semaphore":
                held_by = f"last taken by {held_by}"
        except FAULTS:
            held_by = None
        return [Waiter(name_of(task), kind, place, held_by)]
    return []
