# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks of a kernel by drgn: how many are in which state, what cpus run, those that are blocked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import drgn

from ..errors import P2mError
from ..limits import late
from .helpers import FAULTS, linux
from .last_moments import log_lines
from .walks import attempt, each, string

__all__ = [
    "Stuck",
    "blocked",
    "counts",
    "every_task",
    "name_of",
    "newest_clock",
    "running",
    "stack",
]

MOST_TASKS = 1 << 18  # more have stacks of over 4 GiB
MOST_STACKS = 500  # of tasks that are blocked; each takes a few ms
MOST_AHEAD = 60.0  # seconds of a run queue's clock from the timekeeper's, which ticks update
PRINTED = re.compile(r"\[ *(\d+\.\d+)\]")  # seconds of the kernel's clock, before a line of its log


@dataclass(frozen=True)
class Stuck:
    """Tasks with one stack: names with PIDs, and for how long the longest has waited.

    ``seconds`` is None where the kernel does not count them.
    """

    tasks: tuple[str, ...]
    seconds: float | None
    stack: tuple[str, ...]


def every_task(prog: drgn.Program, notes: list[str]) -> Iterator[drgn.Object]:
    """Yield the tasks by their PIDs; if some cannot be found so, those on the list of processes."""
    kind = prog["PIDTYPE_PID"].value_()
    seen: set[int] = set()
    lacking: list[str] = []
    for pid in each("PIDs", lacking, MOST_TASKS, linux.for_each_pid, prog):
        what = f"the task of the struct pid at {pid.value_():x}"
        task = attempt(what, lacking, _task_of, pid, kind)
        if task:
            seen.add(task.value_())
            yield task
    notes += lacking
    if lacking and not late():  # what the time ran out for is not damaged
        for task in _listed(prog, notes):
            if task.value_() not in seen:
                yield task


def _task_of(pid: drgn.Object, kind: int) -> drgn.Object:
    """Return the task of a ``struct pid``, or NULL if only a group has that number.

    :raises P2mError: that is no task of this PID.
    """
    task = linux.pid_task(pid, kind)
    if task and task.pid.value_() != pid.numbers[0].nr.value_():
        raise P2mError(f"{task.value_():x}, to which it leads, has another PID")
    return task


def _listed(prog: drgn.Program, notes: list[str]) -> Iterator[drgn.Object]:
    """Yield each process on the kernel's list of them, and its threads."""
    processes = each(
        "processes",
        notes,
        MOST_TASKS,
        linux.list_for_each_entry,
        "struct task_struct",
        prog["init_task"].tasks.address_of_(),
        "tasks",
    )
    for process in processes:
        yield process
        yield from each(
            f"threads of the process at {process.value_():x}",
            notes,
            MOST_TASKS,
            linux.for_each_task_in_group,
            process,
        )


def name_of(task: drgn.Object) -> str:
    """Return the name of a task, with its PID."""
    return f"{string(task.comm)} ({task.pid.value_()})"


def counts(prog: drgn.Program, notes: list[str]) -> dict[str, int]:
    """Return how many tasks are in each state, by its letter as ``ps`` has it."""
    found: Counter[str] = Counter()
    for task in every_task(prog, notes):
        found[_state(task, notes) or "?"] += 1
    return dict(found)


def _state(task: drgn.Object, notes: list[str]) -> str | None:
    what = f"the state of the task at {task.value_():x}"
    state: str | None = attempt(what, notes, linux.task_state_to_char, task)
    return state


def newest_clock(prog: drgn.Program, notes: list[str]) -> float:
    """Return the seconds that the kernel's clock had at the crash, as near as it noted them.

    Each run queue has the clock of its cpu's last tick, so that of an idle cpu may be old; the log
    has the clock of its last line. A run queue's clock that is far beyond the log's and the
    timekeeper's, which a cpu that is stuck may keep from its work, is damaged.

    :raises LookupError: neither can be found.
    """
    clocks: dict[int, float] = {}
    unread: list[str] = []  # of one clock that cannot be read, others are
    for cpu in linux.for_each_present_cpu(prog):
        clock = attempt("", unread, _rq_value, prog, cpu, "clock")
        if clock:
            clocks[cpu] = clock / 1e9
    lines = attempt("", unread, log_lines, prog) or []
    printed = next((match for line in reversed(lines) if (match := PRINTED.match(line))), None)
    found = [float(printed[1])] if printed else []
    uptime = attempt("", unread, linux.uptime, prog)
    known = [*found, *([float(uptime)] if uptime else [])]
    for cpu, seconds in clocks.items():
        if known and seconds > max(known) + MOST_AHEAD:
            notes.append(f"the clock of vcpu {cpu} is damaged: {seconds:,.1f} s")
        else:
            found.append(seconds)
    if not found:
        raise LookupError("neither run queues nor the log have a clock")
    return max(found)


def _rq_value(prog: drgn.Program, cpu: int, member: str) -> int:
    return int(linux.cpu_rq(prog, cpu).member_(member).value_())


def running(
    prog: drgn.Program, now: float | None, notes: list[str]
) -> Iterator[tuple[int, str | None, float | None, int | None]]:
    """Yield each cpu: its number, the task it was on, for how long, the tasks in its queue.

    :param now: the kernel's clock at the crash.
    """
    for cpu in linux.for_each_present_cpu(prog):
        what = f"what vcpu {cpu} was on"
        task = attempt(what, notes, linux.cpu_curr, prog, cpu)
        name = attempt(what, notes, name_of, task) if task else None
        queued = attempt(f"the queue of vcpu {cpu}", notes, _rq_value, prog, cpu, "nr_running")
        yield cpu, name, waited(task, now) if task else None, queued


def waited(task: drgn.Object, now: float | None) -> float | None:
    """Return the seconds since a task last began to run, or None where they are not counted.

    The idle tasks' are not. The task may have run for a while before it was blocked.

    :param now: the kernel's clock at the crash.
    """
    try:
        arrived = task.sched_info.last_arrival.value_() / 1e9
    except FAULTS:
        return None
    return now - arrived if now is not None and 0 < arrived <= now else None


def uninterruptible(prog: drgn.Program, notes: list[str]) -> Iterator[drgn.Object]:
    """Yield the tasks in state D."""
    for task in every_task(prog, notes):
        if _state(task, notes) == "D":
            yield task


def blocked(prog: drgn.Program, now: float | None, notes: list[str]) -> tuple[list[Stuck], int]:
    """Return the tasks in state D by their stacks, the longest wait first, and their number.

    Stacks are equal if their functions are; tasks after the first ``MOST_STACKS`` are left out.

    :param now: the kernel's clock at the crash.
    """
    groups: dict[tuple[str, ...], list[tuple[float | None, str, tuple[str, ...]]]] = {}
    number = 0
    for task in uninterruptible(prog, notes):
        number += 1
        if number <= MOST_STACKS:
            at = f"{task.value_():x}"
            name = attempt(f"the name of the task at {at}", notes, name_of, task)
            found = attempt(f"the stack of the task at {at}", notes, stack, task)
            functions, lines = found or ((), ("(no stack)",))
            member = waited(task, now), name or f"the task at {at}", lines
            groups.setdefault(functions, []).append(member)
    stuck = []
    for members in groups.values():
        members.sort(key=lambda one: -(one[0] or 0))
        stuck.append(Stuck(tuple(name for _, name, _ in members), members[0][0], members[0][2]))
    return sorted(stuck, key=lambda one: -(one.seconds or 0)), number


def stack(task: drgn.Object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the functions of a task's stack, and its lines of text."""
    trace: Iterable[drgn.StackFrame] = task.prog_.stack_trace(task)
    functions = tuple(frame.name or f"{frame.pc:x}" for frame in trace)
    return functions, tuple(str(trace).splitlines())
