# SPDX-License-Identifier: GPL-3.0-or-later
"""Cpus and vcpus of a made-up Xen host: Xen's stacks, struct vcpu, struct domain, runstates."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from pykdump_ext.machine.notes import Note
from pykdump_ext.xen.notes import XEN_ELFNOTE_CRASH_REGS
from pykdump_ext.xen.vcpus import NT_PRSTATUS, PR_REG, REGISTERS

from .host import IMAGE, Host
from .machine import PAGE

STACK_MFN = 0x3800  # the first of Xen's stacks, each the last of eight pages
IDLE = 0x7FFF
CS = 17
RUNNING, RUNNABLE, BLOCKED, OFFLINE = range(4)


@dataclass
class Cpus:
    """The cpus of a host, and the vcpus of its domains.

    :param runstate_at: where ``struct vcpu`` has its runstate, in bytes.
    :param segments: words between ``ss`` and the cpu's number in ``struct cpu_info``.
    """

    host: Host
    runstate_at: int = 216
    segments: int = 4
    notes: list[Note] = field(default_factory=list)

    def vcpus(
        self, domain_mfn: int, states: list[tuple[int, ...]], processors: list[int]
    ) -> list[int]:
        """Give a domain vcpus with these runstates, on these processors; return their mfns."""
        machine = self.host.machine
        array = machine.frame()
        machine.put(domain_mfn, 8, self.host.direct(array))
        made = []
        for number, (state, processor) in enumerate(zip(states, processors)):
            vcpu = machine.frame([number | processor << 32, 0, self.host.direct(domain_mfn)])
            for at, word in enumerate(state):
                machine.put(vcpu, self.runstate_at // 8 + at, word)
            machine.put(array, number, self.host.direct(vcpu))
            made.append(vcpu)
        return made

    def idle(self, states: list[tuple[int, ...]]) -> list[int]:
        """Make Xen's own domain, which is on no list, with a vcpu for each cpu."""
        domain = self.host.machine.frame([IDLE])
        self.host.direct(domain)
        return self.vcpus(domain, states, [*range(len(states))])

    def cpu(
        self, vcpu: int, cr3: int, registers: list[int], *, before: int = 0, says: int | None = None
    ) -> None:
        """Add a cpu that runs a vcpu, which entered Xen with these registers.

        :param before: a vcpu that it ran before; Xen's own frames still have it.
        :param says: the number that the cpu has of itself, if it is damaged.
        """
        number = len(self.notes)
        mfn = STACK_MFN + number * 8 + 7
        own_number = (number if says is None else says) | 0xE010 << 32
        stack = [*registers, *[0] * self.segments, own_number]
        stack[CS] |= 1 << 32  # saved_upcall_mask is beside it
        stack += [self.host.direct(vcpu) if vcpu else 0, 0x30E7AFF000, 0x660, 0, 0, 0]
        words = [number, self.host.direct(before) if before else 0, *stack]
        page = bytes(PAGE - len(words) * 8) + struct.pack(f"<{len(words)}Q", *words)
        self.host.machine.pages[mfn] = bytearray(page)
        rsp = self.host.direct(mfn) + 0xF10
        own = [*[0] * 16, IMAGE + 0x21ED72, 0xE008, 0x46, rsp, 0]
        data = bytes(PR_REG) + struct.pack(f"<{REGISTERS}Q", *own) + bytes(48)
        self.notes.append(Note("CORE", NT_PRSTATUS, data))
        self.host.cr3s.append(cr3)

    def all_notes(self) -> list[Note]:
        """Return the notes of the dump, each cpu's before the others."""
        rest = self.host.notes()
        regs = [note for note in rest if note.type == XEN_ELFNOTE_CRASH_REGS]
        assert len(regs) == len(self.notes)
        return [*self.notes, *rest]
