# SPDX-License-Identifier: GPL-3.0-or-later
"""The registers of the tasks that were running, put where drgn looks for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress

import drgn
from drgn.helpers.linux.cpumask import for_each_present_cpu
from drgn.helpers.linux.percpu import per_cpu, per_cpu_ptr
from drgn.helpers.linux.sched import cpu_curr

from ..native.dump import prstatus
from ..xen.vcpus import Registers, Vcpu

__all__ = ["add_registers", "saved_notes"]

# Per-cpu pointers to the end of the interrupt stack: Linux 5.1 to 6.1 and since 6.15; 6.2 to
# 6.14; before 5.1.  The pointer is up to 64 bytes below the real end.
IRQ_STACKS = ("hardirq_stack_ptr", "pcpu_hot.hardirq_stack_ptr", "irq_stack_ptr")
IRQ_STACK_MARGIN = 64
# A stub as hypercall_page_initialise_ring3_kernel() of xen/arch/x86/pv/hypercall.c writes it, up
# to the syscall: push %rcx; push %r11; mov $number, %eax; syscall
HYPERCALL_STUB = re.compile(rb"\x51\x41\x53\xb8....\x0f\x05", re.DOTALL)
HYPERCALL_STUB_SIZE = 10


def add_registers(prog: drgn.Program, dom0: Iterable[Vcpu]) -> None:
    """Give drgn the registers of the tasks that were running.

    drgn reads them from the per-cpu variable ``crash_notes``, which a kernel without Xen fills
    when it crashes (``crash_save_cpu()`` of kernel/kexec_core.c).  Under Xen the variable stays
    empty, because Xen stops the cpus; so drgn gets Xen's registers as its content.

    :param dom0: the virtual cpus of dom0, with the registers that Xen has of them.
    """
    for address, note in saved_notes(prog, dom0):
        if note:
            size = drgn.sizeof(prog.type("note_buf_t"))
            content = note.ljust(size, b"\0")
            prog.add_memory_segment(address, size, reader_of(content))


def saved_notes(prog: drgn.Program, dom0: Iterable[Vcpu]) -> list[tuple[int, bytes]]:
    """Return, for each cpu, the address of its ``crash_notes``, and the note that belongs there.

    The note of a cpu whose registers are not known is empty.
    """
    vcpus = {vcpu.number: vcpu for vcpu in dom0}
    found = []
    # A damaged kernel has fewer of them; a kernel without kexec has none
    with suppress(drgn.FaultError, LookupError):
        for cpu in for_each_present_cpu(prog):
            address, note = per_cpu_ptr(prog["crash_notes"], cpu).value_(), b""
            with suppress(drgn.FaultError, LookupError):
                registers = registers_of(prog, cpu, vcpus.get(cpu))
                if registers is not None:
                    note = prstatus(registers, cpu_curr(prog, cpu).pid.value_())
            found.append((address, note))
    return found


def registers_of(prog: drgn.Program, cpu: int, vcpu: Vcpu | None) -> Registers | None:
    """Return the kernel's registers on a cpu, or None where Xen has only others.

    :raises drgn.FaultError: the kernel's data of the cpu cannot be read.
    """
    if vcpu is None:
        return None
    stacks = stacks_of(prog, cpu)
    for registers in vcpu.registers:
        if vcpu.current or any(registers.rsp in stack for stack in stacks):
            return out_of_hypercall(prog, registers)
    return None


def stacks_of(prog: drgn.Program, cpu: int) -> list[range]:
    """Return the addresses of the stacks in use on a cpu: its task's, and for interrupts.

    :raises drgn.FaultError: the task that ran there cannot be read.
    """
    size = int(prog["THREAD_SIZE"])  # of both: IRQ_STACK_SIZE is the same (asm/page_64_types.h)
    task = cpu_curr(prog, cpu).stack.value_()
    stacks = [range(task, task + size)]
    for name in IRQ_STACKS:
        variable, _, member = name.partition(".")
        try:
            end = per_cpu(prog[variable], cpu)
            end = (end.member_(member) if member else end).value_()
        except (LookupError, drgn.FaultError):
            continue
        stacks.append(range(end - size, end + IRQ_STACK_MARGIN))
    return stacks


def out_of_hypercall(prog: drgn.Program, registers: Registers) -> Registers:
    """Return the caller's registers where these are in a stub of the hypercall page, else these.

    Before Linux 6.13 (and before the stable 6.1.120 and others) Xen writes these stubs, so the
    kernel's debug information cannot say how to unwind them.
    """
    try:
        code = prog.read(registers.rip - HYPERCALL_STUB_SIZE, HYPERCALL_STUB_SIZE)
        if not HYPERCALL_STUB.fullmatch(code):
            return registers
        return registers.returned(prog.read_u64(registers.rsp + 16), 24)
    except drgn.FaultError:
        return registers


def reader_of(data: bytes) -> Callable[[int, int, int, bool], bytes]:
    """Return the function by which drgn reads a memory segment that holds ``data``."""
    return lambda address, count, offset, physical: data[offset : offset + count]
