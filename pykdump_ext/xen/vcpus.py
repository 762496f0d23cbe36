# SPDX-License-Identifier: GPL-3.0-or-later
"""The registers of dom0's vcpus, found where Xen saved them.

The notes of a dump have Xen's registers on each cpu, not those of a kernel. The registers
of the domain that ran on a cpu are at the end of Xen's stack on that cpu, where the entry
to Xen pushed them: ``struct cpu_info`` (xen/arch/x86/include/asm/current.h) begins with
them. When another domain takes the cpu, Xen copies them to ``struct vcpu``
(``arch.user_regs``, xen/arch/x86/domain.c). Xen's debugging information is not needed: the
selectors of a PV kernel show where the registers are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import P2mError, ReadError
from ..machine.memory import PAGE_SIZE, MachineMemory
from ..machine.notes import Note
from ..machine.paging import PageTables
from .notes import read_crash_note
from .vmcoreinfo import read_vmcoreinfo

__all__ = [
    "NT_PRSTATUS",
    "PR_REG",
    "REGISTERS",
    "STACK_SIZE",
    "Registers",
    "Vcpu",
    "Words",
    "cpu_registers",
    "dom0_vcpus",
    "stack_end",
    "vcpu_structs",
]

CORE_NOTE_OWNER = "CORE"
NT_PRSTATUS = 1
PR_REG = 112  # offset of pr_reg in struct elf_prstatus of x86-64

# struct cpu_user_regs (xen/include/public/arch-x86/xen-x86_64.h) up to ss, struct pt_regs and
# the registers of NT_PRSTATUS have the same order, which begins with r15; some of its indices:
R11, RAX, RCX, RDI, RIP, CS, RFLAGS, RSP, SS = 6, 10, 11, 14, 16, 17, 18, 19, 20
REGISTERS = 21
# FLAT_KERNEL_CS and FLAT_KERNEL_SS of xen/include/public/arch-x86/xen-x86_64.h, with or
# without the privilege level that Xen adds
FLAT_CS, FLAT_SS, PRIVILEGE = 0xE030, 0xE028, 3
STACK_SIZE = 8 * PAGE_SIZE  # of Xen on each cpu, aligned: xen/arch/x86/include/asm/config.h
CPU_INFO_WORDS = 64  # sizeof(struct cpu_info) is 240 to 320 bytes
DOMAIN_WORDS = 32  # struct domain.vcpu is among these first ones in every version
VCPU_WORDS = PAGE_SIZE // 8
MOST_VCPUS = MOST_CPUS = 4096  # more than any machine has that runs Xen
# Hypercalls that end in a dump: __HYPERVISOR_sched_op (xen/include/public/xen.h) with
# SCHEDOP_shutdown (sched.h), __HYPERVISOR_kexec_op with KEXEC_CMD_kexec (kexec.h)
FATAL_HYPERCALLS = {(29, 2), (37, 0)}

Words = tuple[int, ...]


@dataclass(frozen=True)
class Registers:
    """A kernel's registers, in the order of ``struct pt_regs``."""

    words: Words

    def returned(self, address: int, popped: int) -> Registers:
        """Return the registers after a return to ``address`` that pops ``popped`` bytes."""
        words = [*self.words]
        words[RIP], words[RSP] = address, self.rsp + popped
        return Registers(tuple(words))

    @property
    def crashed(self) -> bool:
        """True if these are of a PV kernel that called Xen to crash the host, or to shut it down.

        A hypercall is the instruction ``syscall``: the cpu puts the address behind it into rcx,
        and rflags into r11. A program's system call enters Xen in the same way, from below the
        kernel's addresses.
        """
        words = self.words
        called = words[RCX] == self.rip and words[R11] == words[RFLAGS] and self.rip >> 63 == 1
        return called and (words[RAX], words[RDI]) in FATAL_HYPERCALLS

    @property
    def flat(self) -> bool:
        """True if the selectors are those that Xen gives a PV kernel of 64 bits."""
        cs, ss = self.words[CS] & 0xFFFF & ~PRIVILEGE, self.words[SS] & 0xFFFF & ~PRIVILEGE
        return cs == FLAT_CS and ss == FLAT_SS

    @property
    def rip(self) -> int:
        """The instruction pointer."""
        return self.words[RIP]

    @property
    def rsp(self) -> int:
        """The stack pointer."""
        return self.words[RSP]


@dataclass(frozen=True)
class Vcpu:
    """A vcpu of dom0; the PV kernel's cpu has the same number.

    If ``current``, the vcpu was running, and ``registers`` has its registers. Otherwise
    ``registers`` has candidates, the best first: Xen leaves a domain's registers on a cpu's
    stack until another domain runs there.
    """

    number: int
    current: bool
    registers: tuple[Registers, ...]


@dataclass(frozen=True)
class _Cpu:
    """The end of Xen's stack on a cpu: a domain's registers, and the words after them."""

    registers: Registers
    behind: Words


def dom0_vcpus(memory: MachineMemory, notes: Iterable[Note]) -> list[Vcpu]:
    """Return dom0's vcpus, by number, with the registers that Xen has of them.

    If Xen's list of domains cannot be read, return one vcpu for each cpu, each with the
    registers on all cpus. Registers that are not in the dump are left out.
    """
    notes = list(notes)
    note = read_crash_note(notes)
    stacks = [registers.rsp for registers in cpu_registers(notes)]
    cr3s = note.cr3s[:MOST_CPUS] if note else ()
    cpus = [_cpu(PageTables(memory, cr3), rsp) for rsp, cr3 in zip(stacks, cr3s)]
    everywhere = tuple(cpu.registers for cpu in cpus if cpu)
    try:
        domain_list = read_vmcoreinfo(notes).symbol("domain_list")
    except P2mError:
        cr3s = ()
    for cr3 in cr3s:
        try:
            tables = PageTables(memory, cr3)
            found = vcpu_structs(tables, *_words(tables, domain_list, 1))
        except ReadError:
            continue
        # by each word behind a cpu's registers: struct cpu_info.current_vcpu is one of them
        running = {word: cpu.registers for cpu in reversed(cpus) if cpu for word in cpu.behind}
        return [_vcpu(number, *vcpu, cpus, running) for number, vcpu in enumerate(found)]
    return [Vcpu(number, False, everywhere) for number in range(len(cpus))]


def _vcpu(
    number: int,
    address: int,
    words: Words,
    cpus: list[_Cpu | None],
    running: Mapping[int, Registers],
) -> Vcpu:
    """Return a vcpu, by its ``struct vcpu``."""
    if address in running:
        return Vcpu(number, True, (running[address],))
    # If its cpu was idle since, the registers are still on the stack; if another domain took
    # the cpu, they are in struct vcpu. Other cpus may have older ones, from before it moved.
    processor = words[0] >> 32  # struct vcpu begins with int vcpu_id, processor
    its, others = cpus[processor : processor + 1], [*cpus[:processor], *cpus[processor + 1 :]]
    saved = _find(words)
    possible = [*its, saved and _Cpu(*saved), *others]
    return Vcpu(number, False, tuple(found.registers for found in possible if found))


def _cpu(tables: PageTables, rsp: int) -> _Cpu | None:
    """Return the end of Xen's stack that ``rsp`` is in, or None if it has no registers."""
    try:
        words = stack_end(tables, rsp)
    except ReadError:
        return None
    found = _find(words)
    return found and _Cpu(*found)


def cpu_registers(notes: Iterable[Note]) -> list[Registers]:
    """Return Xen's own registers on each cpu, by number, as the dump's notes have them."""
    size = PR_REG + REGISTERS * 8
    return [
        Registers(struct.unpack_from(f"<{REGISTERS}Q", note.data.ljust(size, b"\0"), PR_REG))
        for note in notes
        if note.owner == CORE_NOTE_OWNER and note.type == NT_PRSTATUS
    ]


def stack_end(tables: PageTables, rsp: int) -> Words:
    """Return the last words of Xen's stack that ``rsp`` is in; ``struct cpu_info`` ends them.

    :raises ReadError: they cannot be read.
    """
    end = (rsp | STACK_SIZE - 1) + 1
    return _words(tables, end - CPU_INFO_WORDS * 8, CPU_INFO_WORDS)


def _find(words: Words) -> tuple[Registers, Words] | None:
    """Return a PV kernel's registers in ``words``, and the words after them, or None."""
    for at in range(CS, len(words) - (SS - CS)):
        cs, ss = words[at] & 0xFFFF, words[at + SS - CS] & 0xFFFF
        if cs & ~PRIVILEGE == FLAT_CS and ss & ~PRIVILEGE == FLAT_SS:
            start = at - CS
            found = [*words[start : start + REGISTERS]]
            found[CS], found[SS] = cs & ~PRIVILEGE, ss
            return Registers(tuple(found)), words[start + REGISTERS :]
    return None


def vcpu_structs(tables: PageTables, domain: int) -> list[tuple[int, Words]]:
    """Return the address and the first page of each ``struct vcpu`` of a domain, by number.

    :param domain: the address of its ``struct domain``.
    :raises ReadError: it cannot be read, or has no vcpus.
    """
    for pointer in _words(tables, domain, DOMAIN_WORDS):
        found: list[tuple[int, Words]] = []
        try:
            while len(found) < MOST_VCPUS:
                (address,) = _words(tables, pointer + len(found) * 8, 1)
                words = _words(tables, address, VCPU_WORDS) if address % PAGE_SIZE == 0 else (0,)
                # vcpu_id, and the pointer to the domain
                if words[0] & 0xFFFFFFFF != len(found) or domain not in words[1:8]:
                    break
                found.append((address, words))
        except ReadError:
            pass
        if found:
            return found
    raise ReadError("kernel virtual address", domain, "struct domain", "it has no vcpus")


def _words(tables: PageTables, vaddr: int, count: int) -> Words:
    """Return ``count`` unsigned 64-bit words from ``vaddr``.

    :raises ReadError: they cannot be read.
    """
    return struct.unpack(f"<{count}Q", tables.read(vaddr, count * 8, "Xen's memory"))
