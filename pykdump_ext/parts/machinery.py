# SPDX-License-Identifier: GPL-3.0-or-later
"""The functions by which a kernel dies, whatever it dies of: they are no answer to "where?"."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["functions_of", "without_machinery"]

# What is at the top of a stack, by what it is for, and the kernel's file that has it
DEATH = (
    # to call Xen: arch/x86/xen/xen-asm.S, enlighten.c; arch/x86/include/asm/xen/hypercall.h
    r"xen_hypercall_\w+|hypercall_page|HYPERVISOR_\w+|_hypercall\d"
    r"|xen_(?:reboot|panic_event|crash_shutdown|emergency_restart)",
    # what panic() calls: kernel/notifier.c, kernel/kexec_core.c, arch/x86/kernel/reboot.c
    r"(?:__)?(?:atomic_)?notifier_call_chain|(?:__)?crash_kexec"
    r"|(?:native_)?machine_(?:crash_shutdown|kexec|emergency_restart)|emergency_restart",
    # kernel/panic.c, lib/dump_stack.c, lib/bug.c
    r"v?panic|nmi_panic|check_panic_on_warn|__stack_chk_fail|__warn(?:_printk)?"
    r"|warn_slowpath_\w+|report_bug|(?:__)?dump_stack(?:_lvl)?",
    # lib/ubsan.c, mm/kasan/report.c and generic.c, mm/kfence/report.c and core.c
    r"ubsan_epilogue|__ubsan_handle_\w+|print_report|kasan_report\w*|kasan_check_range|__asan_\w+"
    r"|kfence_(?:report_error|handle_page_fault)",
    # arch/x86/kernel/dumpstack.c
    r"oops_(?:begin|end)|(?:__)?die(?:_body|_addr|_header)?|show_(?:stack|regs|trace_log_lvl)",
    # arch/x86/mm/fault.c
    r"page_fault_oops|pgtable_bad|no_context|kernelmode_fixup_or_oops|mm_fault_error"
    r"|(?:__)?bad_area(?:_nosemaphore|_access_error)?|do_(?:user|kern)_addr_fault"
    r"|handle_page_fault|(?:__)?do_page_fault",
    # arch/x86/kernel/traps.c: an interrupt and an NMI are no exceptions of what they interrupt
    r"do_trap(?:_no_signal)?|do_error_trap|handle_(?:bug|invalid_op|stack_overflow)|fixup_bug"
    r"|gp_\w+|do_(?:general_protection|invalid_op|divide_error|double_fault|stack_segment|int3)"
    r"|(?:__)?exc_(?!nmi|xen_hypervisor_callback)\w+",
    # arch/x86/entry/entry_64.S, arch/x86/xen/xen-asm.S; before 5.8 without "asm_exc_"
    r"(?:xen_)?asm_(?:xen)?exc_(?!nmi|xen_hypervisor_callback)\w+|error_(?:entry|exit|return)"
    r"|(?:xen_)?(?:page_fault|general_protection|invalid_op|divide_error|double_fault)",
    # kernel/exit.c
    r"rewind_stack_(?:and_make_dead|do_exit)|make_task_dead",
)
WAIT = (
    # kernel/sched/core.c, kernel/time/timer.c, hrtimer.c
    r"context_switch|__schedule|(?:io_)?schedule(?:_timeout|_hrtimeout|_preempt_disabled)?\w*",
)  # fmt: skip
DIES, WAITS = (re.compile("|".join(names)) for names in (DEATH, WAIT))
# Of a line of a stack, as drgn prints it; a function of a module has the module's name after it
FUNCTION = re.compile(r" *#\d+\s+([A-Za-z_]\w*)[\w.]*( \[[\w-]+\])?")


def without_machinery(functions: Iterable[str], waits: bool = False) -> tuple[str, ...]:
    """Return the functions of a stack, innermost first, from the one where the kernel died.

    :param waits: from the one where the task waits, instead.
    """
    found, machine = tuple(functions), WAITS if waits else DIES
    at = next((at for at, name in enumerate(found) if not machine.fullmatch(name)), len(found))
    return found[at:]


def functions_of(stack: Iterable[str]) -> tuple[str, ...]:
    """Return the functions of a stack that drgn printed, line by line."""
    named = (FUNCTION.match(line) for line in stack)
    return tuple(found[1] + (found[2] or "") for found in named if found)
