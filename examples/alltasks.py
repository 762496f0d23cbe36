# SPDX-License-Identifier: GPL-3.0-or-later
"""alltasks [COMM]: all processes on the kernel's own list.

An example that follows a list through memory.  ``ps`` of crash 8.0.2 finds few tasks of Linux 6.1;
the list that begins at init_task has them all.
"""

from __future__ import annotations

from collections.abc import Iterator

from pykdump_ext.host import command, crash, printable


def processes() -> Iterator[int]:
    """Yield the address of each process's ``struct task_struct``, init_task first."""
    first = crash.sym2addr("init_task")
    tasks = crash.offsetof("task_struct", "tasks")
    yield first
    yield from crash.read_list(first + tasks, tasks)


@command(
    "alltasks", usage="[comm]", help="show all processes on the kernel's own list", minimal=True
)
def alltasks(words: list[str]) -> None:
    """Print pid, task_struct and name of all processes, or of those named COMM."""
    pid = crash.offsetof("task_struct", "pid")
    comm = crash.offsetof("task_struct", "comm")
    for task in processes():
        name = crash.readmem(task + comm, 16).split(b"\0")[0].decode(errors="replace")
        if not words or name in words:
            print(f"{crash.readInt(task + pid, 4):>7}  {task:x}  {printable(name)}")
