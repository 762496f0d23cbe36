# SPDX-License-Identifier: GPL-3.0-or-later
"""The domains of a Xen host, found in Xen's memory in a dump.

Xen's debugging information is not needed. The dump's VMCOREINFO_XEN note has the
addresses of ``domain_list`` and ``frame_table`` and a few offsets; Xen's own top page
table, or that of any PV domain, maps them; and the frame table has the owner of every
machine frame::

    xen = open_xen(core, core.notes)
    for domain in xen.domains():
        print(domain.id, domain.shared)
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import P2mError, ReadError
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE, MachineMemory
from ..machine.notes import Note
from ..machine.paging import ADDRESS_MASK, PageTables
from .frame_table import FrameTable, Owned
from .notes import CrashNote, read_crash_note
from .page_info import PGT_L4
from .shared_info import SharedInfo, read_shared_info
from .vmcoreinfo import XEN_VMCOREINFO, Vmcoreinfo, read_vmcoreinfo

__all__ = ["Domain", "Xen", "open_xen"]

DOMID_FIRST_RESERVED = 0x7FF0  # xen/include/public/xen.h
LARGEST_DOMAIN = 16 * PAGE_SIZE  # bytes; struct domain has one page, in old versions a few
MOST_DOMAINS = 8192  # a Xen host runs a thousand at most
SHARED_INFO_WORDS = 64  # struct domain.shared_info is among these first ones in every version
XEN_IMAGE_MASK = (1 << 30) - 1  # the virtual address of Xen's image is 1 GiB aligned


@dataclass(frozen=True)
class Domain:
    """A domain: its id, the address of its ``struct domain`` in Xen, and its shared_info."""

    id: int
    vaddr: int
    shared: SharedInfo | None


class Xen:
    """Xen's memory, read through page tables that map it.

    :raises P2mError: the VMCOREINFO_XEN note lacks a value, or its values contradict each other.
    :raises ReadError: these page tables do not map Xen.
    """

    def __init__(
        self, memory: MachineMemory, vmcoreinfo: Vmcoreinfo, note: CrashNote, root: int
    ) -> None:
        self.memory = memory
        self.note = note
        self.tables = PageTables(memory, root)
        self.frames = FrameTable(self.tables, vmcoreinfo, note.version)
        pgd_l4 = vmcoreinfo.symbol("pgd_l4")
        self.image = pgd_l4 & ~XEN_IMAGE_MASK
        self.own_root = note.xen_phys_start + (pgd_l4 & XEN_IMAGE_MASK)
        self.domain_list = vmcoreinfo.symbol("domain_list")
        self.id_at = vmcoreinfo.number("OFFSET(domain.domain_id)")
        self.next_at = vmcoreinfo.number("OFFSET(domain.next_in_list)")
        self.domain_size = min(vmcoreinfo.number("SIZE(domain)"), LARGEST_DOMAIN)
        if not self.id_at < self.next_at <= self.domain_size - 8:
            raise P2mError(
                f"the dump's {XEN_VMCOREINFO} note is damaged: its offsets of domain"
                " contradict each other"
            )

    def domains(self) -> Iterator[Domain]:
        """Yield every domain, in the order of Xen's list.

        :raises P2mError: an entry of the list is not a domain.
        :raises ReadError: an entry cannot be read.
        """
        seen = set()
        vaddr = self.tables.word(self.domain_list, "Xen's domain_list")
        while vaddr:
            if vaddr in seen or vaddr % PAGE_SIZE or vaddr < self.frames.direct_map:
                raise P2mError(f"Xen's list of domains is damaged: {vaddr:x} is in it")
            seen.add(vaddr)
            if len(seen) > MOST_DOMAINS:
                raise P2mError(f"Xen's list of domains is damaged: it has over {MOST_DOMAINS:,}")
            head = self.tables.read(vaddr, self.next_at + 8, "struct domain")
            number = int.from_bytes(head[self.id_at : self.id_at + 2], "little")
            if number >= DOMID_FIRST_RESERVED:
                raise P2mError(f"Xen's list of domains is damaged: id {number} is in it")
            yield Domain(number, vaddr, self._shared_info(vaddr, head[: self.next_at]))
            vaddr = int.from_bytes(head[self.next_at :], "little")

    def domain(self, number: int) -> Domain:
        """Return the domain with id ``number``.

        :raises P2mError: the Xen host has no such domain.
        """
        found = {domain.id: domain for domain in self.domains()}
        if number not in found:
            ids = ", ".join(str(known) for known in sorted(found))
            raise P2mError(f"the Xen host has no domain {number}; it has {ids}")
        return found[number]

    def _shared_info(self, vaddr: int, head: bytes) -> SharedInfo | None:
        """Return the contents of a domain's shared_info, or None if it cannot be found.

        The pointer to it is near the start of ``struct domain``. Only this pointer leads to
        a page of Xen's heap whose owner in the frame table is the domain.
        """
        frames = self.frames
        for pointer in array("Q", head[: min(len(head) & ~7, SHARED_INFO_WORDS * 8)]):
            pdx = frames.pdx(pointer)
            if pointer % PAGE_SIZE or not 0 <= pdx < frames.max_page:
                continue
            try:
                entry = frames.entry(pdx)
                if entry.owner == frames.pdx(vaddr) and entry.is_xen_heap:
                    return read_shared_info(self.memory, frames.mfn(pdx))
            except ReadError:
                continue
        return None

    def owned(self, domains: Sequence[Domain]) -> dict[int, Owned]:
        """Return what each of these domains owns, by domain id.

        :raises ReadError: a part of the frame table is not in this memory.
        """
        pdxs = {self.frames.pdx(domain.vaddr): domain.id for domain in domains}
        return {pdxs[pdx]: owned for pdx, owned in self.frames.owned(pdxs).items()}

    def owner(self, maddr: int) -> int | None:
        """Return the id of the domain that owns the frame of a machine address.

        Return None if no domain owns it, or its owner cannot be found.
        """
        entry = self.frames.entry_of((maddr & ADDRESS_MASK) >> PAGE_SHIFT)
        return None if entry is None else self._ids.get(entry.owner)

    @cached_property
    def _ids(self) -> dict[int, int]:
        """The id of each domain, by the index of its ``struct domain`` in the frame table."""
        return {self.frames.pdx(domain.vaddr): domain.id for domain in self.domains()}

    def is_root(self, domain: Domain, cr3: int) -> bool:
        """Return True if the frame table has ``cr3`` as a top page table of this domain."""
        return self.owner(cr3) == domain.id and self.is_top_table(cr3)

    def is_top_table(self, cr3: int) -> bool:
        """Return True if the frame table has ``cr3`` as a top page table of a PV domain."""
        mfn = (cr3 & ADDRESS_MASK) >> PAGE_SHIFT
        entry = self.frames.entry_of(mfn) if mfn else None
        return entry is not None and entry.type == PGT_L4

    def is_own_root(self, cr3: int) -> bool:
        """Return True if ``cr3`` is Xen's own top page table, ``idle_pg_table``."""
        return cr3 & ADDRESS_MASK == self.own_root


def open_xen(memory: MachineMemory, notes: Iterable[Note]) -> Xen:
    """Return Xen's memory in a dump of a Xen host.

    Xen's own top page table is tried first, then the cr3 of each cpu: each maps Xen. The
    first one through which Xen's list of domains can be read is used.

    :param notes: the dump's notes.
    :raises P2mError: the dump is not of a Xen host, or Xen's memory is not in it.
    """
    notes = list(notes)
    note = read_crash_note(notes)
    if note is None:
        raise P2mError(
            "the dump has no XEN_ELFNOTE_CRASH_INFO note, so its domains cannot be found"
        )
    vmcoreinfo = read_vmcoreinfo(notes)
    problem = P2mError("no page table maps Xen")
    own = note.xen_phys_start + (vmcoreinfo.symbol("pgd_l4") & XEN_IMAGE_MASK)
    for root in dict.fromkeys([own, *note.cr3s]):
        try:
            xen = Xen(memory, vmcoreinfo, note, root)
            if any(xen.domains()):
                return xen
        except ReadError as error:
            problem = P2mError(f"Xen's memory cannot be read: {error}")
    raise problem
