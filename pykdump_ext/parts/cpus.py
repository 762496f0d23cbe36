# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a report on the host's cpus: whose vcpu each ran, with which registers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..xen.pcpus import DOMID_XEN, IDLE, DomainVcpu, HostCpus, Pcpu
from ..xen.runstates import STATES
from ..xen.vcpus import Registers
from .blocks import Block, Cell, Lines, Paragraph, Table
from .case import Case
from .part import Part

__all__ = ["Cpus"]

COLUMNS = ("cpu", "ran", "rip", "rsp", "Xen's rip", "cr3", "owner of cr3")
VCPU_COLUMNS = ("domain", "vcpu", "cpu", "state", *STATES, "steal")
# struct pt_regs
NAMES = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs rflags rsp ss"
# What Pcpu.partial leaves out
CPU_HAS = {"rax", "orig_rax", "rip", "cs", "rflags", "rsp", "ss"}


class Cpus(Part):
    """What each physical cpu ran, the states of vcpus, and stacks of dom0's."""

    name = "xenpcpus"
    title = "Physical cpus"

    def blocks(self, case: Case) -> Iterator[Block]:
        """Yield the cpus, the vcpus, registers, and the stacks of what dom0 ran."""
        host = case.host
        case.notes += host.problems
        case.notes += [cpu.problem for cpu in host.cpus if cpu.problem]
        yield Table("What each cpu ran", COLUMNS, [row(cpu) for cpu in host.cpus])
        vcpus = [vcpu for vcpu in host.vcpus if vcpu.domain != IDLE]
        yield Table("Vcpus, and the seconds in each state", VCPU_COLUMNS, vcpu_rows(host, vcpus))
        if host.last_change is not None:
            seconds = host.last_change / 1e9
            yield Paragraph(
                f"The seconds are those up to {seconds:.3f} s after Xen's start, when a vcpu last"
                " changed its state. The dump does not have Xen's time at the crash, which is that"
                " or later. Steal is runnable and offline, as Linux has it."
            )
        for cpu in host.cpus:
            if cpu.registers:
                title = f"Registers of {ran(cpu)}, cpu {cpu.number}"
                if cpu.partial:
                    title += ": the cpu keeps the others of a vcpu that is not known to be PV"
                yield Lines(title, list(register_lines(cpu.registers, cpu.partial)))
        if any(vcpu.domain == 0 and vcpu.cpu is not None for vcpu in host.vcpus):
            yield from stacks(case)


def ran(cpu: Pcpu) -> str:
    """Return what a cpu ran, in words."""
    if cpu.vcpu is None:
        return "unknown"
    if cpu.vcpu.domain == IDLE:
        return "nothing: idle"
    return f"domain {cpu.vcpu.domain}, vcpu {cpu.vcpu.number}"


def row(cpu: Pcpu) -> list[Cell]:
    """Return the row of a cpu."""
    entered = None if cpu.partial else cpu.registers
    return [
        cpu.number,
        ran(cpu),
        f"{entered.rip:x}" if entered else "-",
        f"{entered.rsp:x}" if entered else "-",
        f"{cpu.xen.rip:x}",
        f"{cpu.cr3:x}",
        owner(cpu.owner),
    ]


def owner(domain: int | None) -> str:
    """Return who owns a page table, in words."""
    if domain is None:
        return "not found"
    return "Xen" if domain == DOMID_XEN else f"domain {domain}"


def vcpu_rows(host: HostCpus, vcpus: list[DomainVcpu]) -> list[list[Cell]]:
    """Return the rows of vcpus of a host."""
    rows: list[list[Cell]] = []
    for vcpu in vcpus:
        times: list[Cell] = [None] * (len(STATES) + 1)
        if vcpu.runstate:
            state = vcpu.runstate.until(host.last_change or 0)
            times = [nanoseconds / 1e9 for nanoseconds in (*state.times, state.stolen)]
        state_name = vcpu.runstate.state if vcpu.runstate else None
        rows.append([vcpu.domain, vcpu.number, vcpu.processor, state_name, *times])
    return rows


def register_lines(registers: Registers, partial: bool = False) -> Iterator[str]:
    """Yield registers with their names, four on a line.

    :param partial: only those that Xen has of every vcpu.
    """
    named = [
        f"{name:>9} {word:016x}"
        for name, word in zip(NAMES.split(), registers.words)
        if not partial or name not in CPU_HAS
    ]
    for at in range(0, len(named), 4):
        yield "".join(named[at : at + 4])


def stacks(case: Case) -> Iterator[Block]:
    """Yield the stacks of what dom0's running vcpus were on; one that fails takes no other."""
    ran_dom0 = {vcpu.number: vcpu.cpu for vcpu in case.host.vcpus if vcpu.domain == 0}

    def present() -> list[int]:
        prog = case.prog
        from ..drgn.helpers import linux  # noqa: PLC0415

        return [*linux.for_each_present_cpu(prog)]

    def lines(number: int) -> list[str]:
        from ..drgn.helpers import linux  # noqa: PLC0415
        from ..drgn.stacks import stack_lines  # noqa: PLC0415

        return [*stack_lines(linux.cpu_curr(case.prog, number))]

    for number in case.tried("the stacks of dom0's vcpus", present) or ():
        cpu = ran_dom0.get(number)
        if cpu is not None:
            found = case.tried(f"the stack of dom0's vcpu {number}", partial(lines, number))
            if found:
                yield Lines(f"Stack of dom0's vcpu {number}, cpu {cpu}", found)
