"""The domains of a Xen host, found in Xen's own memory in a dump of it.

Xen needs no debugging information for that.  The dump's VMCOREINFO_XEN note has
the places of ``domain_list`` and ``frame_table`` and a few offsets
(``arch_crash_save_vmcoreinfo()`` and ``kexec.c`` of Xen 4.0 and newer), Xen's own
top page table or any PV domain's maps them, and the frame table tells the rest:
it has the owner of every machine frame, and whether it is in use as a page table.

    xen = open_xen(core, core.notes)
    for domain in xen.domains():
        print(domain.id, domain.shared)
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from .errors import P2mError, ReadError
from .kernel import (
    XEN_ELFNOTE_CRASH_INFO,
    XEN_NOTE_OWNER,
    Root,
    XenInfo,
    xen_info,
)
from .memory import PAGE_SHIFT, PAGE_SIZE, MachineMemory, Note
from .paging import ADDRESS_MASK, NOT_MAPPED, PageTables

XEN_VMCOREINFO = "VMCOREINFO_XEN"  # xen/include/public/kexec.h, VMCOREINFO_NOTE_NAME
DOMID_FIRST_RESERVED = 0x7FF0  # xen/include/public/xen.h
XEN_IMAGE_MASK = (1 << 30) - 1  # the virtual address of Xen's image is 1 GiB aligned

# DIRECTMAP_VIRT_START of xen/arch/x86/include/asm/config.h, by whether a struct page_info
# has its owner in 4 bytes, or in 8: CONFIG_BIGMEM
DIRECT_MAP = {4: 0xFFFF830000000000, 8: 0xFFFF848000000000}

# struct page_info of xen/arch/x86/include/asm/mm.h: u.inuse.type_info is behind count_info.
# Of both, the byte that has the flags.
FLAGS_BYTE = 7
PGC_ALLOCATED = 0x80
PGC_XEN_HEAP = 0x40
PGT_L3, PGT_L4 = 3, 4  # page types
LARGEST_MAX_PAGE = 1 << 36  # 256 TiB
PDX_GROUP = 1 << 21  # bytes; a multiple of it is where the frame table may have holes

# struct shared_info of x86-64, xen/include/public/xen.h: behind 32 vcpu_info of 64 bytes,
# two bitmaps of 512 bytes and 16 bytes of wall clock there is struct arch_shared_info:
# max_pfn, pfn_to_mfn_frame_list_list, nmi_reason, p2m_cr3, p2m_vaddr, p2m_generation.
# p2m_cr3 is zero padding in Xen before 4.6.
ARCH_SHARED_INFO = 32 * 64 + 2 * 512 + 16
ARCH_SHARED_INFO_WORDS = 5
LIST_INVALID = NOT_MAPPED  # pfn_to_mfn_frame_list_list of a domain that keeps no such list


@dataclass(frozen=True)
class SharedInfo:
    """What a domain's kernel has published of its p2m, in its ``shared_info`` page.

    ``frame_list_mfn`` is 0 where the kernel has set none, and ``LIST_INVALID``
    where it keeps none; ``p2m_cr3`` and ``p2m_vaddr`` are 0 where not set.
    """

    mfn: int
    max_pfn: int
    frame_list_mfn: int
    p2m_cr3: int
    p2m_vaddr: int

    @property
    def has_list(self) -> bool:
        """True when the domain publishes a list of its p2m's leaves."""
        return self.frame_list_mfn not in (0, LIST_INVALID)


@dataclass(frozen=True)
class Domain:
    """A domain: its id, the virtual address of its ``struct domain``, what it has published."""

    id: int
    vaddr: int
    shared: SharedInfo | None


@dataclass
class Owned:
    """What the frame table says of one domain's memory.

    ``pages`` are machine frames allocated to it, without those of Xen's own that it
    shares.  ``roots`` are the mfns of its top page tables of four levels, ``threes``
    counts its page tables of the third.
    """

    pages: int = 0
    roots: list[int] = field(default_factory=list)
    threes: int = 0

    @property
    def kind(self) -> str:
        """PV, HVM (PVH too), or unknown: of a domain without memory.

        Xen keeps the type of a PV domain's page tables; what is one to an HVM
        domain, Xen does not know.
        """
        if self.roots:
            return "PV"
        if self.threes:
            return "PV, 32 bits"
        return "HVM" if self.pages else "unknown"


class Vmcoreinfo:
    """The text of a VMCOREINFO note: ``SYMBOL(name)=hex``, ``SIZE(name)=n``, ``OFFSET(a.b)=n``."""

    def __init__(self, text: str) -> None:
        self._values = dict(re.findall(r"^([A-Z]+\([\w.]+\))=(\w+)$", text, re.MULTILINE))

    def number(self, name: str, base: int = 10) -> int:
        """Return the value of ``name``.

        :raises P2mError: the note has none.
        """
        try:
            return int(self._values[name], base)
        except (KeyError, ValueError):
            raise P2mError(f"the dump's {XEN_VMCOREINFO} note has no {name}") from None

    def symbol(self, name: str) -> int:
        """Return the virtual address of a symbol of Xen.

        :raises P2mError: the note has none.
        """
        return self.number(f"SYMBOL({name})", 16)


class Xen:
    """Xen's memory, through page tables that map it.

    :raises P2mError: the note lacks something that is always in it.
    :raises ReadError: these page tables do not map it.
    """

    def __init__(
        self, memory: MachineMemory, vmcoreinfo: Vmcoreinfo, info: XenInfo, root: int
    ) -> None:
        self.memory = memory
        self.info = info
        self.tables = PageTables(memory, root)
        self.domain_list = vmcoreinfo.symbol("domain_list")
        self.id_at = vmcoreinfo.number("OFFSET(domain.domain_id)")
        self.next_at = vmcoreinfo.number("OFFSET(domain.next_in_list)")
        self.page_info_size = vmcoreinfo.number("SIZE(page_info)")
        self.count_at = vmcoreinfo.number("OFFSET(page_info.count_info)")
        self.owner_at = vmcoreinfo.number("OFFSET(page_info._domain)")
        if (
            self.page_info_size % 8
            or not self.count_at + 16 <= self.owner_at <= self.page_info_size - 4
            or not self.id_at < self.next_at <= vmcoreinfo.number("SIZE(domain)") - 8
        ):
            raise P2mError(f"the dump's {XEN_VMCOREINFO} note is damaged: its offsets cannot be")
        self.owner_size = 8 if self.page_info_size - self.owner_at >= 16 else 4
        self.direct_map = DIRECT_MAP[self.owner_size]
        self.frame_table = self._word(vmcoreinfo.symbol("frame_table"), "frame_table")
        self.max_page = self._word(vmcoreinfo.symbol("max_page"), "max_page")
        if self.max_page > LARGEST_MAX_PAGE:
            raise P2mError(f"Xen's max_page is {self.max_page:x}: its memory is damaged")
        # PG_mask(x, 3) since Xen 4.10, PG_mask(x, 4) before
        self.type_shift = 5 if tuple(map(int, info.version.split("."))) >= (4, 10) else 4

    def _word(self, vaddr: int, what: str) -> int:
        return int.from_bytes(self.tables.read(vaddr, 8, f"Xen's {what}"), "little")

    def _pdx(self, vaddr: int) -> int:
        """Return the frame table's index of an address in Xen's direct map."""
        return vaddr - self.direct_map >> PAGE_SHIFT

    def _maddr(self, pdx: int) -> int:
        """Return the machine address of a frame by its index in the frame table.

        Frame numbers are compressed on hosts with wide holes; the direct map knows.
        """
        return self.tables.translate(self.direct_map + (pdx << PAGE_SHIFT), "Xen's direct map")

    def _page_info(self, pdx: int) -> bytes:
        vaddr = self.frame_table + pdx * self.page_info_size
        return self.tables.read(vaddr, self.page_info_size, "Xen's frame table")

    def _owner(self, page_info: bytes) -> int:
        return int.from_bytes(page_info[self.owner_at : self.owner_at + self.owner_size], "little")

    def _type(self, page_info: bytes) -> int:
        return page_info[self.count_at + 8 + FLAGS_BYTE] >> self.type_shift

    def domains(self) -> Iterator[Domain]:
        """Yield every domain in Xen's list, in its order.

        :raises P2mError: what stands in the list is no domain.
        :raises ReadError: one of them cannot be read.
        """
        seen = set()
        vaddr = self._word(self.domain_list, "domain_list")
        while vaddr:
            if vaddr in seen or vaddr % PAGE_SIZE or vaddr < self.direct_map:
                raise P2mError(f"Xen's list of domains is damaged: {vaddr:x} is in it")
            seen.add(vaddr)
            head = self.tables.read(vaddr, self.next_at + 8, "struct domain")
            number = int.from_bytes(head[self.id_at : self.id_at + 2], "little")
            if number >= DOMID_FIRST_RESERVED:
                raise P2mError(f"Xen's list of domains is damaged: id {number} is in it")
            yield Domain(number, vaddr, self._shared_info(vaddr, head[: self.next_at]))
            vaddr = int.from_bytes(head[self.next_at :], "little")

    def domain(self, number: int) -> Domain:
        """Return the domain of that id.

        :raises P2mError: there is none.
        """
        found = {domain.id: domain for domain in self.domains()}
        if number not in found:
            ids = ", ".join(str(known) for known in sorted(found))
            raise P2mError(f"the host has no domain {number}: it has {ids}")
        return found[number]

    def _shared_info(self, vaddr: int, head: bytes) -> SharedInfo | None:
        """Return what is in the shared_info page of a domain, or None: it cannot be told.

        The pointer to it is one of the first of ``struct domain``, and the only one
        to a page of Xen's heap that the frame table has as this domain's.
        """
        for pointer in array("Q", head[: len(head) & ~7]):
            if pointer % PAGE_SIZE or not 0 <= self._pdx(pointer) < self.max_page:
                continue
            try:
                page_info = self._page_info(self._pdx(pointer))
                flags = page_info[self.count_at + FLAGS_BYTE]
                if self._owner(page_info) != self._pdx(vaddr) or not flags & PGC_XEN_HEAP:
                    continue
                maddr = self._maddr(self._pdx(pointer))
                data = self.memory.read(
                    maddr + ARCH_SHARED_INFO, ARCH_SHARED_INFO_WORDS * 8, "shared_info"
                )
            except ReadError:
                continue
            max_pfn, frame_list_mfn, _, p2m_cr3, p2m_vaddr = array("Q", data)
            return SharedInfo(maddr >> PAGE_SHIFT, max_pfn, frame_list_mfn, p2m_cr3, p2m_vaddr)
        return None

    def owned(self, domains: Sequence[Domain]) -> dict[int, Owned]:
        """Return what each of these domains owns, by its id.

        The whole frame table is read: 8 MiB for 1 GiB of machine memory.

        :raises ReadError: a part of it is not in this memory.
        """
        found = {self._pdx(domain.vaddr): Owned() for domain in domains}
        for first, data in self._frame_table():
            self._count(first, data, found)
        return {domain.id: found[self._pdx(domain.vaddr)] for domain in domains}

    def _count(self, first: int, data: bytes, found: dict[int, Owned]) -> None:
        """Add what a part of the frame table says; ``first`` is its first page's index."""
        size = self.page_info_size
        # the owner is aligned; where it has 8 bytes, all domains are told apart by the lower 4
        owners = array("I", data)[self.owner_at // 4 :: size // 4]
        flags = data[self.count_at + FLAGS_BYTE :: size]
        types = data[self.count_at + 8 + FLAGS_BYTE :: size]
        interesting = False
        for (owner, flag, kind), count in Counter(zip(owners, flags, types)).items():
            if owner not in found or not flag & PGC_ALLOCATED or flag & PGC_XEN_HEAP:
                continue
            found[owner].pages += count
            found[owner].threes += count * (kind >> self.type_shift == PGT_L3)
            interesting |= kind >> self.type_shift == PGT_L4
        if interesting:
            for index, (owner, flag, kind) in enumerate(zip(owners, flags, types)):
                if kind >> self.type_shift == PGT_L4 and owner in found and flag & PGC_ALLOCATED:
                    found[owner].roots.append(self._maddr(first + index) >> PAGE_SHIFT)

    def _frame_table(self) -> Iterator[tuple[int, bytes]]:
        """Yield the frame table group by group, each with its first entry's index.

        A group (PDX_GROUP_COUNT of xen/include/xen/pdx.h) is there or is a hole.
        """
        part = PDX_GROUP // (self.page_info_size & -self.page_info_size)
        for first in range(0, self.max_page, part):
            count = min(part, self.max_page - first)
            start = self.frame_table + first * self.page_info_size
            try:
                self.tables.translate(start)
            except ReadError:
                continue  # a hole in the machine's memory
            yield first, self.tables.read(start, count * self.page_info_size, "Xen's frame table")

    def owner(self, mfn: int) -> int | None:
        """Return the id of the domain that owns a machine frame; None: none, or not to be told."""
        try:
            if self._maddr(mfn) >> PAGE_SHIFT != mfn:
                return None  # frame numbers are compressed
            owner = self._owner(self._page_info(mfn))
        except ReadError:
            return None
        return self._ids.get(owner)

    @cached_property
    def _ids(self) -> dict[int, int]:
        """The id of each domain, by the index of its ``struct domain`` in the frame table."""
        return {self._pdx(domain.vaddr): domain.id for domain in self.domains()}

    def info_of(self, domain: Domain) -> XenInfo:
        """Return for a PV domain what Xen's crash notes say for dom0.

        :raises P2mError: it is not a PV domain of 64 bits.
        """
        shared = domain.shared
        if shared is not None and self._is_root(domain, shared.p2m_cr3):
            roots = [Root(shared.p2m_cr3, "p2m_cr3")]
        else:
            owned = self.owned([domain])[domain.id]
            if not owned.roots:
                raise P2mError(
                    f"domain {domain.id} has no page tables of a PV domain of 64 bits"
                    f" (it is {owned.kind}), so there is no p2m of it"
                )
            roots = [Root(mfn << PAGE_SHIFT, "Xen's frame table") for mfn in owned.roots]
        frame_list_mfn = shared.frame_list_mfn if shared and shared.has_list else LIST_INVALID
        return replace(
            self.info, domain=domain.id, frame_list_mfn=frame_list_mfn, cr3s=(), roots=tuple(roots)
        )

    def _is_root(self, domain: Domain, cr3: int) -> bool:
        """True when Xen knows that frame for a top page table of this domain."""
        mfn = (cr3 & ADDRESS_MASK) >> PAGE_SHIFT
        return (
            bool(mfn)
            and self.owner(mfn) == domain.id
            and self._type(self._page_info(mfn)) == PGT_L4
        )


def domain_info(memory: MachineMemory, notes: Iterable[Note], domain: int) -> XenInfo | None:
    """Return what is known of a domain's p2m and page tables, or None: not a dump of a Xen host.

    For dom0 it is what the notes say, without the cpus that ran another domain:
    that may well run the same kernel, and only Xen knows them apart.

    :raises P2mError: another domain than dom0 is wanted, and cannot be found.
    """
    notes = list(notes)
    info = xen_info(notes)
    if info is None:
        return None
    try:
        xen = open_xen(memory, notes)
        if domain:
            return xen.info_of(xen.domain(domain))
        own = [
            Root(cr3, f"cr3, cpu {cpu}")
            for cpu, cr3 in enumerate(info.cr3s)
            if xen.owner((cr3 & ADDRESS_MASK) >> PAGE_SHIFT) in (0, None)
        ]
        shared = xen.domain(0).shared
        told = (shared.p2m_cr3, shared.p2m_vaddr, shared.max_pfn) if shared else None
        return replace(info, cr3s=(), roots=tuple(own), shared_info=told)
    except P2mError:
        if domain:
            raise
        return info  # as much as there is


def open_xen(memory: MachineMemory, notes: Iterable[Note]) -> Xen:
    """Return Xen's memory in a dump of its host, by the dump's notes.

    Its own top page table is tried first, then what the cpus ran on: each has Xen
    in it.  Proof is that a list of domains is read through it.

    :raises P2mError: the dump is not one of a Xen host, or Xen's memory is not in it.
    """
    notes = list(notes)
    info = xen_info(notes)
    text = next((note.data for note in notes if note.owner == XEN_VMCOREINFO), None)
    if info is None or text is None:
        what = "XEN_ELFNOTE_CRASH_INFO" if info is None else XEN_VMCOREINFO
        raise P2mError(f"the dump has no {what} note, so its domains cannot be found")
    vmcoreinfo = Vmcoreinfo(text.decode("latin-1"))
    problem = P2mError("no page table maps Xen")
    for root in dict.fromkeys(_roots(notes, vmcoreinfo, info)):
        try:
            xen = Xen(memory, vmcoreinfo, info, root)
            if any(xen.domains()):
                return xen
        except ReadError as error:
            problem = P2mError(f"Xen's memory cannot be read: {error}")
    raise problem


def _roots(notes: Iterable[Note], vmcoreinfo: Vmcoreinfo, info: XenInfo) -> Iterator[int]:
    """Yield the machine addresses of page tables that should map Xen."""
    for note in notes:
        if note.owner == XEN_NOTE_OWNER and note.type == XEN_ELFNOTE_CRASH_INFO:
            xen_phys_start = int.from_bytes(note.data[-16:-8], "little")
            yield xen_phys_start + (vmcoreinfo.symbol("pgd_l4") & XEN_IMAGE_MASK)
    yield from info.cr3s
