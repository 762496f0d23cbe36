# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's frame table: the owner of each machine frame, and which frames are page tables.

It is an array of ``struct page_info`` (``xen/arch/x86/include/asm/mm.h``, before Xen 4.17
``xen/include/asm-x86/mm.h``). The VMCOREINFO_XEN note has the size of that struct and the
offsets of two members; the offsets of the others follow from these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..errors import P2mError, ReadError
from ..machine.memory import PAGE_SHIFT
from ..machine.paging import PageTables, Step
from ..progress import watched
from .page_info import FLAGS_BYTE, PGT_COUNT, PGT_L1, PGT_L3, PGT_L4, Layout, PageInfo
from .vmcoreinfo import XEN_VMCOREINFO, Vmcoreinfo

__all__ = ["FrameTable", "Owned"]

# DIRECTMAP_VIRT_START of xen/arch/x86/include/asm/config.h, by the size in bytes of the owner
# in struct page_info: 8 with CONFIG_BIGMEM (since Xen commit 10dcec844f, in 4.6), otherwise 4
DIRECT_MAP = {4: 0xFFFF830000000000, 8: 0xFFFF848000000000}

WHAT = "Xen's frame table"  # for messages
LARGEST_ENTRY = 64  # bytes; struct page_info has 32, with CONFIG_BIGMEM 48
LARGEST_MAX_PAGE = 1 << 36  # 256 TiB
PDX_GROUP = 1 << 21  # bytes (PDX_GROUP_SHIFT); the frame table's holes begin at multiples of it
MOST_EMPTY_GROUPS = 1024  # in a row: 256 GiB of machine memory that nothing ever used
TOGETHER = 128  # entries that are read at once where one is asked for
MOST_KEPT = 4096  # of these; 16 MiB of entries of 32 bytes
MOST_SHARED = 1 << 14  # by a domain; its grant table has 64 most often
MOST_ROOTS = 1 << 16  # of a domain; each of its processes has one or two


@dataclass
class Owned:
    """One domain's memory, by the frame table.

    ``pages`` is the number of machine frames allocated to it, without the pages of Xen's
    heap that it shares. ``roots`` are the mfns of its page tables of the fourth level;
    ``threes`` is the number of its page tables of the third level. ``shared`` are the mfns of
    those pages of Xen's heap: its shared_info and its grant table.
    """

    pages: int = 0
    roots: list[int] = field(default_factory=list)
    threes: int = 0
    shared: list[int] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """PV, HVM (also for PVH), or unknown for a domain without memory.

        The frame table marks a PV domain's page tables. Xen does not know which pages an
        HVM domain uses as page tables.
        """
        if self.roots:
            return "PV"
        if self.threes:
            return "PV, 32 bits"
        return "HVM" if self.pages else "unknown"


class FrameTable:
    """Xen's frame table, read through page tables that map Xen.

    A frame's index (pdx) is its mfn, except on Xen hosts with wide holes in their memory,
    where Xen compresses frame numbers.

    :param version: Xen's version, such as ``4.17``.
    :raises P2mError: the note lacks a value, or its values contradict each other.
    :raises ReadError: these page tables do not map Xen's variables.
    """

    def __init__(self, tables: PageTables, vmcoreinfo: Vmcoreinfo, version: str) -> None:
        self.tables = tables
        self.entry_size = vmcoreinfo.number("SIZE(page_info)")
        self.count_at = vmcoreinfo.number("OFFSET(page_info.count_info)")
        self.owner_at = vmcoreinfo.number("OFFSET(page_info._domain)")
        if (
            self.entry_size % 8
            or self.entry_size > LARGEST_ENTRY
            or self.owner_at % 4
            or not self.count_at + 16 <= self.owner_at <= self.entry_size - 4
        ):
            raise P2mError(
                f"the dump's {XEN_VMCOREINFO} note is damaged: its offsets of page_info"
                " contradict each other"
            )
        self._group = PDX_GROUP // (self.entry_size & -self.entry_size)  # entries
        self.owner_size = 8 if self.entry_size - self.owner_at >= 16 else 4
        self.direct_map = DIRECT_MAP[self.owner_size]
        self.start = tables.word(vmcoreinfo.symbol("frame_table"), "Xen's frame_table")
        self.max_page = tables.word(vmcoreinfo.symbol("max_page"), "Xen's max_page")
        if self.max_page > LARGEST_MAX_PAGE:
            raise P2mError(f"Xen's max_page is {self.max_page:x}: its memory is damaged")
        self._kept: dict[int, bytes] = {}
        # Xen commit 1ae4be859b ("x86: limit page type width"), in 4.10, makes the type
        # PG_mask(x, 3); before, it is PG_mask(x, 4)
        self.type_shift = 5 if tuple(map(int, version.split("."))) >= (4, 10) else 4

    def pdx(self, vaddr: int) -> int:
        """Return the index of the frame at an address in Xen's direct map."""
        return vaddr - self.direct_map >> PAGE_SHIFT

    def mfn(self, pdx: int) -> int:
        """Return the mfn of the frame with that index, by Xen's direct map.

        :raises ReadError: the direct map does not map it.
        """
        vaddr = self.direct_map + (pdx << PAGE_SHIFT)
        return self.tables.translate(vaddr, "Xen's direct map") >> PAGE_SHIFT

    def entry(self, pdx: int) -> PageInfo:
        """Return the entry with that index.

        :raises ReadError: the entry cannot be read.
        """
        vaddr = self.start + pdx * self.entry_size
        data = self.tables.read(vaddr, self.entry_size, WHAT)
        return PageInfo(
            int.from_bytes(data[self.owner_at : self.owner_at + self.owner_size], "little"),
            data[self.count_at + FLAGS_BYTE],
            data[self.count_at + 8 + FLAGS_BYTE] >> self.type_shift,
            int.from_bytes(data[self.count_at + 8 : self.count_at + 16], "little") & PGT_COUNT,
        )

    def is_heap(self, vaddr: int) -> bool:
        """Return True if it is an address in Xen's heap, in a page that no domain owns."""
        pdx = self.pdx(vaddr)
        if vaddr % 8 or not 0 <= pdx < self.max_page:
            return False
        try:
            entry = self.entry(pdx)
        except ReadError:
            return False
        return entry.is_xen_heap and not entry.owner

    def entry_of(self, mfn: int) -> PageInfo | None:
        """Return the entry of a machine frame, or None if it cannot be found or read."""
        try:
            return self.entry(mfn) if self.mfn(mfn) == mfn else None
        except ReadError:
            return None

    def is_page_table(self, mfn: int) -> bool | None:
        """Return True if a machine frame is in use as a page table of a PV domain.

        Return None if that cannot be found or read.
        """
        number, index = divmod(mfn, TOGETHER)
        data = self._kept.get(number)
        if data is None:
            data = self._kept[number] = self._together(number * TOGETHER)
            if len(self._kept) > MOST_KEPT:
                self._kept = {number: data}
        if not data:
            info = self.entry_of(mfn)
            return None if info is None else info.is_page_table
        at = index * self.entry_size + self.count_at + 8
        type_info = int.from_bytes(data[at : at + 8], "little")
        used = type_info & PGT_COUNT > 0
        return used and PGT_L1 <= type_info >> 8 * FLAGS_BYTE + self.type_shift <= PGT_L4

    def _together(self, mfn: int) -> bytes:
        """Return the entries of as many frames as are kept together, or nothing if any lacks.

        Xen compresses frame numbers by groups that are larger (PDX_GROUP_COUNT).
        """
        try:
            vaddr = self.start + mfn * self.entry_size
            same = self.mfn(mfn) == mfn
            return self.tables.read(vaddr, TOGETHER * self.entry_size, WHAT) if same else b""
        except ReadError:
            return b""

    def unused(self, mfn: int, count: int) -> bool:
        """Return True if the frame table has these frames, and none of them is in use.

        Their entries are then zeros, as those of the crash kernel's memory are; no dump
        holds that memory.
        """
        try:
            size = count * self.entry_size
            vaddr = self.start + mfn * self.entry_size
            return not any(self.tables.read(vaddr, size, WHAT))
        except ReadError:
            return False

    def owned(self, domains: Iterable[int]) -> dict[int, Owned]:
        """Return what each domain owns, by the index of its ``struct domain``.

        The whole frame table is read: 8 MiB for 1 GiB of machine memory.

        :raises ReadError: a part of it is not in this memory.
        """
        from .frame_counts import look  # noqa: PLC0415  (numpy takes 0.1 s)

        found = {pdx: Owned() for pdx in domains}
        groups = -(-self.max_page // self._group)
        for first, data in watched(self._groups(), groups, f"reading {WHAT}"):
            owners, tables, heap = look(data, self.layout)
            for owner, count in owners:
                if owner in found:
                    found[owner].pages += count
            for index, owner, level in tables:
                owned = found.get(owner)
                if owned is not None and level == PGT_L3:
                    owned.threes += 1
                elif owned is not None and len(owned.roots) < MOST_ROOTS:
                    owned.roots.append(self.mfn(first + index))
            for index, owner in heap:
                if owner in found and len(found[owner].shared) < MOST_SHARED:
                    found[owner].shared.append(self.mfn(first + index))
        return found

    def page_tables(self) -> set[int]:
        """Return the mfns of all page tables of PV domains that are in use; all of it is read.

        :raises ReadError: a part of the frame table is not in this memory.
        """
        from .frame_counts import tables_in  # noqa: PLC0415  (numpy takes 0.1 s)

        groups = -(-self.max_page // self._group)
        found = watched(self._groups(), groups, f"reading {WHAT}")
        return {
            self.mfn(first + at) for first, data in found for at in tables_in(data, self.layout)
        }

    @property
    def layout(self) -> Layout:
        """Where an entry has what is looked at in many entries at once."""
        flags_at = self.count_at + FLAGS_BYTE
        return Layout(self.entry_size, flags_at, flags_at + 8, self.owner_at, self.type_shift)

    def _groups(self) -> Iterator[tuple[int, bytes]]:
        """Yield each mapped group of the frame table, with its first entry's index.

        Xen maps groups of PDX_GROUP_COUNT entries (xen/include/xen/pdx.h); the others are
        holes.

        :raises ReadError: a part is not in this memory, or the table is damaged.
        """
        part = self._group
        places: set[int] = set()
        nothing = b""
        first = empty = 0
        while first < self.max_page:
            start = self.start + first * self.entry_size
            hole_end = self._hole_end(start)
            if hole_end > start:
                first = -(-(hole_end - self.start) // (part * self.entry_size)) * part
                continue
            place = self.tables.translate(start, WHAT)
            data = self._stretch(start, min(part, self.max_page - first) * self.entry_size)
            if len(nothing) != len(data):
                nothing = bytes(len(data))
            empty = empty + 1 if data == nothing else 0
            if place in places or empty > MOST_EMPTY_GROUPS:
                why = "it is damaged: much of it is empty, or is there twice"
                raise ReadError("kernel virtual address", start, WHAT, why)
            places.add(place)
            yield first, data
            first += part

    def _hole_end(self, vaddr: int) -> int:
        """Return where the hole in the machine's memory that ``vaddr`` is in ends.

        Return ``vaddr`` if it is mapped. One entry of a page table may stand for a hole of 512
        GiB. An entry that leads to a table which is not in this memory is a hole as well.
        """
        last: Step | None = None
        try:
            for step in self.tables.walk(vaddr):
                last = step
            if last is not None and last.present:
                return vaddr
        except ReadError:
            pass
        size = 1 << 64 if last is None else last.page_size  # None: the root cannot be read
        return (vaddr | size - 1) + 1

    def _stretch(self, vaddr: int, size: int) -> bytes:
        """Return ``size`` bytes; a large page, with which Xen maps the table, is read at once.

        :raises ReadError: any of these bytes is not mapped, or not in this memory.
        """
        parts = []
        end = vaddr + size
        while vaddr < end:
            maddr = self.tables.translate(vaddr, WHAT)
            *_, last = self.tables.walk(vaddr)
            length = min(end - vaddr, last.page_size - vaddr % last.page_size)
            parts.append(self.tables.memory.read(maddr, length, WHAT))
            vaddr += length
        return b"".join(parts)
