# SPDX-License-Identifier: GPL-3.0-or-later
"""What crash's own tables have: tasks, paths, pages, time, system calls.

But for the system calls, crash has these tables in a full session of a kernel only: elsewhere each
function raises :class:`error`.
"""

from __future__ import annotations

from .guarded import c_text, check, error, ffi, lib, succeeded
from .integers import ALL_BITS

__all__ = [
    "get_NR_syscalls", "get_pathname", "get_task_mem_usage", "get_uptime", "hz", "is_task_active",
    "phys_to_page", "pid_to_task", "task_to_pid",
]  # fmt: skip


def hz() -> int:
    """Return how many jiffies a second has, or 0 before the full session."""
    return int(lib.host_hz())


def get_uptime() -> int:
    """Return how long the kernel had run, in jiffies.

    :raises error: the kernel's count cannot be read.
    """
    jiffies = ffi.new("uint64_t *")
    check(lib.host_uptime(jiffies), "the kernel's count of jiffies cannot be read")
    return int(jiffies[0])


def pid_to_task(pid: int) -> int:
    """Return the address of the ``struct task_struct`` with a pid, or 0."""
    task = ffi.new("uint64_t *")
    return int(task[0]) if succeeded(lib.host_task_of(pid & ALL_BITS, task)) else 0


def task_to_pid(task: int) -> int | None:
    """Return the pid of the ``struct task_struct`` at ``task``, or None where crash has none."""
    pid = ffi.new("uint64_t *")
    return int(pid[0]) if succeeded(lib.host_pid_of(task & ALL_BITS, pid)) else None


def is_task_active(task: int) -> bool:
    """Return True when the task at address ``task`` was on a cpu."""
    active = ffi.new("uint64_t *")
    check(lib.host_task_is_active(task & ALL_BITS, active), "crash does not know what was running")
    return bool(active[0])


def get_task_mem_usage(task: int) -> tuple[int, int]:
    """Return the virtual and the resident size of the task at address ``task``, in KiB.

    They are those of ``ps``; both are 0 for a thread of the kernel, and for what is no task.

    :raises error: the kernel's counts cannot be read.
    """
    total, resident = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    result = lib.host_task_memory(task & ALL_BITS, total, resident)
    check(result, "the counts of the task's memory cannot be read")
    return int(total[0]), int(resident[0])


def phys_to_page(physical: int) -> int:
    """Return the address of the ``struct page`` of a physical address.

    :raises error: the kernel has none.
    """
    page = ffi.new("uint64_t *")
    address = physical & ALL_BITS
    if not succeeded(lib.host_page_of(address, page)):
        raise error(f"physical address {address:x} has no struct page")
    return int(page[0])


def get_pathname(dentry: int, vfsmnt: int) -> str:
    """Return the path of a file, up to the root of the mount or of all mounts.

    :param dentry: the address of its ``struct dentry``.
    :param vfsmnt: the address of the ``struct vfsmount`` that it is in; 0 leaves out what is above.
    :raises error: a dentry or a mount cannot be read.
    """
    path = ffi.new("char **")
    result = lib.host_pathname(dentry & ALL_BITS, vfsmnt & ALL_BITS, path)
    check(result, f"the path of dentry {dentry & ALL_BITS:x} cannot be read")
    return c_text(path[0]) or ""


def get_NR_syscalls() -> int:
    """Return how many entries the kernel's table of system calls has.

    :raises error: the kernel has no ``sys_call_table``.
    """
    count = ffi.new("long *")
    if not succeeded(lib.host_syscalls(count)):
        raise error("the kernel has no sys_call_table")
    return int(count[0])
