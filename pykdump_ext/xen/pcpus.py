# SPDX-License-Identifier: GPL-3.0-or-later
"""What each cpu of the Xen host ran when it crashed, and the vcpus of all domains.

    xen = open_xen(core, core.notes)
    host = read_cpus(xen, core.notes)
    for cpu in host.cpus:
        print(cpu.number, cpu.vcpu)

Xen's stack on a cpu ends with ``struct cpu_info`` (xen/arch/x86/include/asm/current.h): the
registers of the domain that entered Xen there, the cpu's number, and a pointer to the vcpu
that the cpu runs.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..errors import P2mError, ReadError
from ..machine.memory import PAGE_SIZE
from ..machine.notes import Note
from ..machine.paging import PageTables
from .domains import Xen
from .runstates import RUNSTATE_WORDS, Runstate, find_runstates
from .vcpus import REGISTERS, Registers, Words, cpu_registers, stack_end, vcpu_structs

__all__ = ["DOMID_XEN", "IDLE", "DomainVcpu", "HostCpus", "Pcpu", "read_cpus"]

# Of xen/include/public/xen.h: Xen's own vcpus, one for each cpu; and Xen as the owner of memory
IDLE, DOMID_XEN = 0x7FFF, 0x7FF2
# Words from the registers to current_vcpu: 21 registers, four segments, the cpu's number. Since
# 4.21, Xen commit 3c66a25672 has no segments there, and cb29eed2da two words for FRED
REGISTERS_BEFORE, REGISTERS_BEFORE_4_21 = 24, 26
CS = 17  # its index among the registers; above 16 bits is what Xen keeps beside it
HEAD = 8  # words at the start of struct vcpu that have a pointer to its struct domain
MOST_VCPUS = 1 << 16  # of all domains


@dataclass(frozen=True)
class DomainVcpu:
    """A vcpu of a domain.

    ``vaddr`` is the address of its ``struct vcpu``. ``processor`` is the cpu that Xen's scheduler
    has it on, ``cpu`` the one that ran it at the crash, or None. ``runstate`` is None if it was
    not found.
    """

    domain: int
    number: int
    vaddr: int
    processor: int
    cpu: int | None = None
    runstate: Runstate | None = None


@dataclass(frozen=True)
class Pcpu:
    """A cpu of the Xen host at the crash.

    ``number`` is Xen's, or its place among the notes where Xen's stack does not have it: a cpu
    that was offline has no note.

    ``xen`` are Xen's own registers. ``owner`` is the id of the domain that owns the top page
    table in ``cr3``, ``DOMID_XEN`` if it is Xen's own; None if it was not found. ``vcpu`` is what
    the cpu ran, one of the domain ``IDLE`` if nothing; None if that cannot be found, and
    ``problem`` says why. ``registers`` are those with which that vcpu entered Xen. They are
    ``partial`` if the vcpu is not known to be a PV one: of an HVM one Xen puts the general
    registers there. The cpu keeps the others in the VMCS or VMCB, on AMD rax as well.
    """

    number: int
    xen: Registers
    cr3: int
    owner: int | None
    vcpu: DomainVcpu | None
    registers: Registers | None
    problem: str | None = None
    partial: bool = False


@dataclass(frozen=True)
class HostCpus:
    """The cpus by number, the vcpus by domain and number, and what could not be found."""

    cpus: tuple[Pcpu, ...]
    vcpus: tuple[DomainVcpu, ...]
    problems: tuple[str, ...]

    @property
    def last_change(self) -> int | None:
        """When the last vcpu changed its state, in nanoseconds since Xen's start.

        It is the latest time that the dump has of Xen's: Xen reads its clock, and does not keep it.
        The vcpus of Xen's own domain change theirs whenever a cpu gets idle.
        """
        known = [vcpu.runstate.since for vcpu in self.vcpus if vcpu.runstate]
        return max(known, default=None)


def read_cpus(xen: Xen, notes: Iterable[Note]) -> HostCpus:
    """Return what each cpu of the Xen host ran, and the vcpus of all domains.

    :raises P2mError: Xen's list of domains is damaged.
    """
    problems = []
    structs: dict[int, tuple[DomainVcpu, Words]] = {}
    for domain in xen.domains():
        if len(structs) > MOST_VCPUS:
            raise P2mError(f"Xen's list of domains is damaged: they have over {MOST_VCPUS:,} vcpus")
        try:
            structs |= _structs(xen, domain.vaddr, domain.id)
        except ReadError as error:
            problems.append(f"domain {domain.id}'s vcpus were not found: {error}")
    cpus = [
        _cpu(xen, number, registers, cr3, structs)
        for number, (registers, cr3) in enumerate(zip(cpu_registers(notes), xen.note.cr3s))
    ]
    ran = {cpu.vcpu.vaddr: cpu.number for cpu in cpus if cpu.vcpu}
    runstates = find_runstates(
        [words for _, words in structs.values()], [vaddr in ran for vaddr in structs]
    )
    if runstates is None:
        problems.append("the states of the vcpus were not found in Xen's struct vcpu")
    vcpus = {
        vaddr: replace(vcpu, cpu=ran.get(vaddr), runstate=runstates[at] if runstates else None)
        for at, (vaddr, (vcpu, _)) in enumerate(structs.items())
    }
    known = [replace(cpu, vcpu=vcpus[cpu.vcpu.vaddr]) if cpu.vcpu else cpu for cpu in cpus]
    known.sort(key=lambda cpu: cpu.number)
    ordered = sorted(vcpus.values(), key=lambda vcpu: (vcpu.domain, vcpu.number))
    return HostCpus(tuple(known), tuple(ordered), tuple(problems))


def _structs(xen: Xen, vaddr: int, domain: int) -> dict[int, tuple[DomainVcpu, Words]]:
    """Return the vcpus of a domain with the first page of each, by its address.

    :raises ReadError: they cannot be read.
    """
    return {
        address: (DomainVcpu(domain, number, address, words[0] >> 32), words[:RUNSTATE_WORDS])
        for number, (address, words) in enumerate(vcpu_structs(xen.tables, vaddr))
    }


def _cpu(
    xen: Xen,
    number: int,
    registers: Registers,
    cr3: int,
    structs: dict[int, tuple[DomainVcpu, Words]],
) -> Pcpu:
    """Return a cpu; if it was idle, add Xen's idle vcpus to ``structs``.

    :param number: its place among the notes.
    """
    owner = DOMID_XEN if xen.is_own_root(cr3) else xen.owner(cr3)
    try:
        words = _stack_end(xen, cr3, registers.rsp)
        at = _current(xen, words, structs)
    except ReadError as error:
        return Pcpu(number, registers, cr3, owner, None, None, str(error))
    if at is None:
        problem = f"Xen's stack of cpu note {number} does not end with a vcpu of a known domain"
        return Pcpu(number, registers, cr3, owner, None, None, problem)
    vcpu, _ = structs[words[at]]
    entered = None if vcpu.domain == IDLE else _entered(xen, words, at)
    # An HVM vcpu runs on page tables that are no PV ones, and Xen never sets its selectors
    pv = entered is None or entered.flat or (owner == vcpu.domain and xen.is_top_table(cr3))
    return Pcpu(vcpu.processor, registers, cr3, owner, vcpu, entered, partial=not pv)


def _stack_end(xen: Xen, cr3: int, rsp: int) -> Words:
    """Return the end of Xen's stack; the page tables of that cpu map it, most often all do.

    :raises ReadError: it cannot be read.
    """
    try:
        return stack_end(PageTables(xen.memory, cr3), rsp)
    except ReadError:
        return stack_end(xen.tables, rsp)


def _current(xen: Xen, words: Words, structs: dict[int, tuple[DomainVcpu, Words]]) -> int | None:
    """Return which of the words at the end of a stack is ``current_vcpu``, or None.

    The word before it has the cpu's number in its lower half, which the vcpu has as well.
    """
    for at in range(len(words) - 1, REGISTERS, -1):
        if words[at] not in structs:
            _add_idle(xen, words[at], structs)
        found = structs.get(words[at])
        if found and found[0].processor == words[at - 1] & 0xFFFFFFFF:
            return at
    return None


def _add_idle(xen: Xen, vaddr: int, structs: dict[int, tuple[DomainVcpu, Words]]) -> None:
    """Add Xen's idle vcpus, which are on no list, if there is one of them at this address."""
    pdx = xen.frames.pdx(vaddr)
    if vaddr % PAGE_SIZE or not 0 <= pdx < xen.frames.max_page:
        return
    try:
        for pointer in array("Q", xen.tables.read(vaddr, HEAD * 8, "struct vcpu")):
            if pointer % PAGE_SIZE or not 0 <= xen.frames.pdx(pointer) < xen.frames.max_page:
                continue
            head = xen.tables.read(pointer, xen.id_at + 2, "struct domain")
            if int.from_bytes(head[xen.id_at :], "little") == IDLE:
                structs |= _structs(xen, pointer, IDLE)
                return
    except ReadError:
        return


def _entered(xen: Xen, words: Words, at: int) -> Registers | None:
    """Return the registers with which a domain entered Xen, which are before ``current_vcpu``."""
    new = tuple(map(int, xen.note.version.split("."))) >= (4, 21)
    start = at - (REGISTERS_BEFORE if new else REGISTERS_BEFORE_4_21)
    if start < 0:
        return None
    found = [*words[start : start + REGISTERS]]
    found[CS] &= 0xFFFF
    return Registers(tuple(found))
