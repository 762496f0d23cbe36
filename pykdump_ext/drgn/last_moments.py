# SPDX-License-Identifier: GPL-3.0-or-later
"""The last moments of a kernel by drgn: its log, its stacks, its clock, the names it had."""

from __future__ import annotations

from datetime import datetime, timezone

import drgn

from ..errors import P2mError
from .helpers import linux
from .walks import string, text

__all__ = [
    "host_name",
    "last_stack",
    "load",
    "log_lines",
    "stack_of_pid",
    "taints",
    "time_of_crash",
    "uptime",
]


def log_lines(prog: drgn.Program) -> list[str]:
    """Return the lines of the kernel's log."""
    return [text(line.expandtabs()) for line in linux.get_dmesg(prog).split(b"\n") if line]


def last_stack(prog: drgn.Program, vcpu: int | None = None) -> tuple[str, list[str]]:
    """Return a name for the task that crashed the kernel, and its stack with source lines.

    :param vcpu: the cpu that it was on, if Xen shows that; else the kernel's own word is taken.
    :raises ValueError: no task crashed it.
    """
    known = prog.crashed_thread().object if vcpu is None else linux.cpu_curr(prog, vcpu)
    return named_stack(prog, known)


def stack_of_pid(prog: drgn.Program, pid: int) -> tuple[str, list[str]]:
    """Return a name for a task, and its stack with source lines.

    :raises P2mError: there is no such task.
    """
    task = linux.find_task(prog, pid)
    if not task:
        raise P2mError(f"there is no task with PID {pid} any more")
    return named_stack(prog, task)


def named_stack(prog: drgn.Program, task: drgn.Object) -> tuple[str, list[str]]:
    """Return a name for a task, and its stack with source lines."""
    comm, pid = string(task.comm), task.pid.value_()
    lines = str(prog.stack_trace(task)).splitlines()
    return f'"{comm}", PID {pid}, cpu {linux.task_cpu(task)}', lines


def time_of_crash(prog: drgn.Program) -> str:
    """Return the time by the kernel's clock, in UTC."""
    seconds = linux.ktime_get_real_seconds(prog).value_()
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def uptime(prog: drgn.Program) -> str:
    """Return how long the kernel ran."""
    return str(linux.uptime_pretty(prog))


def host_name(prog: drgn.Program) -> str:
    """Return the host's name."""
    return string(prog["init_uts_ns"].name.nodename)


def taints(prog: drgn.Program) -> str:
    """Return the letters of the kernel's taints, or ``none``."""
    return " ".join(linux.tainted(prog).split()) or "none"


def load(prog: drgn.Program) -> str:
    """Return the load averages of one, five and fifteen minutes."""
    return ", ".join(f"{value:.2f}" for value in linux.loadavg(prog))
