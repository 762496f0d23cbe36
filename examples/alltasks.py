"""alltasks [COMM]: every process on the kernel's own list of them.

An example that follows a list through memory.  crash 8.0.2 finds few of the
tasks of Linux 6.1 (``ps``); they are all on the list that begins at init_task.
"""

from __future__ import annotations

from collections.abc import Iterator

from pykdump_ext.host import command, crash


def processes() -> Iterator[int]:
    """Yield the address of each process's task_struct, init_task first."""
    first = task = crash.sym2addr("init_task")
    tasks = crash.member_offset("task_struct", "tasks")
    while True:
        yield task
        task = crash.readPtr(task + tasks) - tasks
        if task == first:
            return


@command("alltasks", usage="[comm]", help="every process, by the kernel's own list", minimal=True)
def alltasks(words: list[str]) -> None:
    """Print pid, task_struct and name of each process, or of those with that name."""
    pid = crash.member_offset("task_struct", "pid")
    comm = crash.member_offset("task_struct", "comm")
    for task in processes():
        name = crash.readmem(task + comm, 16).split(b"\0")[0].decode(errors="replace")
        if not words or name in words:
            print(f"{crash.readInt(task + pid, 4):>7}  {task:x}  {name}")
