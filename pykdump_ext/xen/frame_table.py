# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's frame table: the owner of each machine frame, and which frames are page tables.

It is an array of ``struct page_info`` (``xen/arch/x86/include/asm/mm.h``, before Xen 4.17
``xen/include/asm-x86/mm.h``). The VMCOREINFO_XEN note has the size of that struct and the
offsets of two members; the offsets of the others follow from these.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..errors import P2mError, ReadError
from ..machine.memory import PAGE_SHIFT
from ..machine.paging import PageTables
from .vmcoreinfo import XEN_VMCOREINFO, Vmcoreinfo

__all__ = ["PGT_L4", "FrameTable", "Owned", "PageInfo"]

# DIRECTMAP_VIRT_START of xen/arch/x86/include/asm/config.h, by the size in bytes of the owner
# in struct page_info: 8 with CONFIG_BIGMEM (since Xen commit 10dcec844f, in 4.6), otherwise 4
DIRECT_MAP = {4: 0xFFFF830000000000, 8: 0xFFFF848000000000}

# u.inuse.type_info follows count_info; each has 8 bytes, and its flags are in this one:
FLAGS_BYTE = 7
PGC_ALLOCATED = 0x80
PGC_XEN_HEAP = 0x40
PGT_L3, PGT_L4 = 3, 4  # page types
LARGEST_MAX_PAGE = 1 << 36  # 256 TiB
PDX_GROUP = 1 << 21  # bytes (PDX_GROUP_SHIFT); the frame table's holes begin at multiples of it


@dataclass
class Owned:
    """One domain's memory, by the frame table.

    ``pages`` is the number of machine frames allocated to it, without the pages of Xen's
    heap that it shares. ``roots`` are the mfns of its page tables of the fourth level;
    ``threes`` is the number of its page tables of the third level.
    """

    pages: int = 0
    roots: list[int] = field(default_factory=list)
    threes: int = 0

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


@dataclass(frozen=True)
class PageInfo:
    """One ``struct page_info``; ``owner`` is the index of the owner's ``struct domain``."""

    owner: int
    flags: int
    type: int

    @property
    def is_xen_heap(self) -> bool:
        """True if the frame is in Xen's heap; a domain may share it."""
        return bool(self.flags & PGC_XEN_HEAP)


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
        if self.entry_size % 8 or not self.count_at + 16 <= self.owner_at <= self.entry_size - 4:
            raise P2mError(
                f"the dump's {XEN_VMCOREINFO} note is damaged: its offsets of page_info"
                " contradict each other"
            )
        self.owner_size = 8 if self.entry_size - self.owner_at >= 16 else 4
        self.direct_map = DIRECT_MAP[self.owner_size]
        self.start = tables.word(vmcoreinfo.symbol("frame_table"), "Xen's frame_table")
        self.max_page = tables.word(vmcoreinfo.symbol("max_page"), "Xen's max_page")
        if self.max_page > LARGEST_MAX_PAGE:
            raise P2mError(f"Xen's max_page is {self.max_page:x}: its memory is damaged")
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
        data = self.tables.read(vaddr, self.entry_size, "Xen's frame table")
        return PageInfo(
            int.from_bytes(data[self.owner_at : self.owner_at + self.owner_size], "little"),
            data[self.count_at + FLAGS_BYTE],
            data[self.count_at + 8 + FLAGS_BYTE] >> self.type_shift,
        )

    def entry_of(self, mfn: int) -> PageInfo | None:
        """Return the entry of a machine frame, or None if it cannot be found or read."""
        try:
            return self.entry(mfn) if self.mfn(mfn) == mfn else None
        except ReadError:
            return None

    def unused(self, mfn: int, count: int) -> bool:
        """Return True if the frame table has these frames, and none of them is in use.

        Their entries are then zeros, as those of the crash kernel's memory are; no dump
        holds that memory.
        """
        try:
            size = count * self.entry_size
            vaddr = self.start + mfn * self.entry_size
            return not any(self.tables.read(vaddr, size, "Xen's frame table"))
        except ReadError:
            return False

    def owned(self, domains: Iterable[int]) -> dict[int, Owned]:
        """Return what each domain owns, by the index of its ``struct domain``.

        The whole frame table is read: 8 MiB for 1 GiB of machine memory.

        :raises ReadError: a part of it is not in this memory.
        """
        found = {pdx: Owned() for pdx in domains}
        for first, data in self._groups():
            self._count(first, data, found)
        return found

    def _count(self, first: int, data: bytes, found: dict[int, Owned]) -> None:
        """Add a part of the frame table to ``found``; ``first`` is its first entry's index."""
        size = self.entry_size
        # the owner is aligned; of its 8 bytes with CONFIG_BIGMEM the lower 4 are enough
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
                    found[owner].roots.append(self.mfn(first + index))

    def _groups(self) -> Iterator[tuple[int, bytes]]:
        """Yield each mapped group of the frame table, with its first entry's index.

        Xen maps groups of PDX_GROUP_COUNT entries (xen/include/xen/pdx.h); the others are
        holes.
        """
        part = PDX_GROUP // (self.entry_size & -self.entry_size)
        for first in range(0, self.max_page, part):
            count = min(part, self.max_page - first)
            start = self.start + first * self.entry_size
            try:
                self.tables.translate(start)
            except ReadError:
                continue  # a hole in the machine's memory
            yield first, self.tables.read(start, count * self.entry_size, "Xen's frame table")
