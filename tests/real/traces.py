# SPDX-License-Identifier: GPL-3.0-or-later
"""Stack traces that drgn unwinds: what must be in those of each task, by what the dump says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import drgn
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.printk import get_dmesg
from drgn.helpers.linux.sched import cpu_curr

from pykdump_ext.xen.vcpus import Vcpu

# RUNSTATE_... of xen/include/public/vcpu.h
RUNNING, BLOCKED, OFFLINE = 0, 2, 3
# How a vcpu waits for an event: idle, or for a lock
WAITING = {"xen_safe_halt", "xen_poll_irq", "xen_poll_irq_timeout", "xen_qlock_wait"}
CALLS_SCHEDULE = re.compile(
    r"schedule|__schedule_loop|schedule_idle|preempt_schedule\w*|do_task_dead"
)
BEGINNING = re.compile(r"0x.*|kthread|ret_from_fork\w*|entry_\w+|asm_\w+|do_syscall_\w+")


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


def is_from_the_beginning(found: Sequence[str]) -> bool:
    """Tell whether a trace goes back to where a task that is not idle begins."""
    return is_left_from_user_space(found) or found[-1].startswith("ret_from_fork")


def is_that_of_a_blocked_task(found: Sequence[str]) -> bool:
    """Tell whether a trace leads from the scheduler, through its callers, to the beginning."""
    if "__schedule" not in found or not is_from_the_beginning(found):
        return False
    first, *callers = found[found.index("__schedule") + 1 :]
    return bool(CALLS_SCHEDULE.fullmatch(first)) and any(
        not CALLS_SCHEDULE.fullmatch(name) and not BEGINNING.fullmatch(name) for name in callers
    )


def without_hypercall(found: Sequence[str]) -> Sequence[str]:
    """Return a trace without the frames of the hypercall that the cpu is in."""
    calls = ("xen_hypercall_", "HYPERVISOR_")
    return found[next(i for i, name in enumerate(found) if not name.startswith(calls)) :]


def is_lost_in_hypercall_page(found: Sequence[str]) -> bool:
    """Tell whether an interrupt came in Xen's hypercall page, which 5.10 cannot unwind."""
    return any(
        outer.startswith("xen_hypercall_") and outer != "xen_hypercall_pv" and "exc_xen" in inner
        for inner, outer in zip(found, found[1:])
    )


def is_that_of_a_cpu(task: drgn.Object, found: Sequence[str]) -> bool:
    """Tell whether a trace can be that of the task that a cpu was on, whatever it did then."""
    if is_lost_in_hypercall_page(found):
        return True
    if task.pid == 0:
        return are_in_order(["do_idle", "cpu_startup_entry"], found)
    return is_from_the_beginning(found)


def is_stopped(found: Sequence[str]) -> bool:
    """Tell whether a cpu stopped itself: called by an interrupt, or by its idle loop's queue."""
    if "stop_self" not in found:
        return False
    return any("call_function" in name for name in found[found.index("stop_self") :])


def check_cpus(prog: drgn.Program, vcpus: Iterable[Vcpu]) -> None:
    """Check the trace of each cpu by what Xen and the kernel say the cpu did.

    Which cpus were idle when the host crashed, and which the panic had stopped, differs from
    dump to dump.  Xen writes the state of a vcpu into the kernel's ``xen_runstate``, and the
    kernel takes a cpu that stops out of its mask.  Both know of some of the cpus for certain.
    """
    online = {*for_each_online_cpu(prog)}
    crashed = prog.crashed_thread().object
    certain = set()
    for vcpu in vcpus:
        cpu = vcpu.number
        task, state = cpu_curr(prog, cpu), per_cpu(prog["xen_runstate"], cpu).state.value_()
        found = names(prog.stack_trace(task))
        said = (cpu, state, vcpu.current, found)
        assert is_that_of_a_cpu(task, found), said
        # Xen writes it when the vcpu gets or leaves its cpu, unless in user space
        assert vcpu.current or state != RUNNING or found[0].startswith("0x"), said
        if task == crashed:
            panic = ["xen_reboot", "panic", "sysrq_handle_crash", "do_syscall_64"]
            assert without_hypercall(found)[0] == panic[0], said
            assert are_in_order(panic, found), said
            assert vcpu.current and state == RUNNING, said
        elif state == OFFLINE or cpu not in online:
            assert is_stopped(found), said
        elif state == BLOCKED:
            assert without_hypercall(found)[0] in WAITING, said
        else:
            continue
        certain.add(task.value_())
    assert crashed.value_() in certain and len(certain) > 1, certain
