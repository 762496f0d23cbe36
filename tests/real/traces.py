# SPDX-License-Identifier: GPL-3.0-or-later
"""Stack traces that drgn unwinds: what must be in those of each task."""

from __future__ import annotations

import re
from collections.abc import Sequence

import drgn
from drgn.helpers.linux.printk import get_dmesg


def names(trace: drgn.StackTrace) -> list[str]:
    return [frame.name for frame in trace]


def are_in_order(wanted: Sequence[str], among: Sequence[str]) -> bool:
    rest = iter(among)
    return all(name in rest for name in wanted)


def logged_trace(prog: drgn.Program) -> list[str]:
    """The functions of the panic, as the kernel itself printed them; sure ones only."""
    log = get_dmesg(prog).decode()
    trace = log[log.rindex("Call Trace:") :].partition("</TASK>")[0]
    functions = re.findall(r"^\[[ .\d]+\]  (\w+)[\w.]*\+0x", trace, re.MULTILINE)
    return [name.removesuffix("_after_hwframe") for name in functions if "dump_stack" not in name]


def is_left_from_user_space(found: Sequence[str]) -> bool:
    """Tell whether the outermost frame is user space's, and that of the kernel's entry below it."""
    return len(found) > 1 and found[-2].startswith(("entry_SYSCALL_64", "asm_"))


def is_that_of_a_blocked_task(found: Sequence[str]) -> bool:
    begins = is_left_from_user_space(found) or found[-1].startswith("ret_from_fork")
    return "__schedule" in found and begins


def is_that_of_a_cpu(task: drgn.Object, found: Sequence[str], kernel: str = "6.1") -> bool:
    """Tell whether a trace can be that of the task that a cpu was on when the host crashed.

    Which cpus were idle then, and which the panic had stopped, differs from dump to dump.
    The task is that of the cpu's run queue; the trace begins with the registers that Xen saved.
    """
    if task.pid == 0:
        # 5.10 has no unwind information for Xen's hypercall page
        lost = {"stop_self", "default_idle", "xen_hypercall_sched_op"} & {*found}
        return {"cpu_startup_entry", "do_idle"} <= {*found} or (kernel == "5.10" and bool(lost))
    if task.pid == 1:  # the lab's init, which has written to /proc/sysrq-trigger
        return are_in_order(["panic", "sysrq_handle_crash", "do_syscall_64"], found)
    return is_left_from_user_space(found) or found[-1].startswith("ret_from_fork")
