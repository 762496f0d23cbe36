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
from itertools import compress

from ..errors import P2mError, ReadError
from ..machine.memory import PAGE_SHIFT
from ..machine.paging import PageTables, Step
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
WHAT = "Xen's frame table"  # for messages
# By the flags of an entry: 1 if its frame is allocated, and not in Xen's heap
IN_USE = bytes(bool(flags & PGC_ALLOCATED and not flags & PGC_XEN_HEAP) for flags in range(256))
LARGEST_ENTRY = 64  # bytes; struct page_info has 32, with CONFIG_BIGMEM 48
LARGEST_MAX_PAGE = 1 << 36  # 256 TiB
PDX_GROUP = 1 << 21  # bytes (PDX_GROUP_SHIFT); the frame table's holes begin at multiples of it
MOST_EMPTY_GROUPS = 1024  # in a row: 256 GiB of machine memory that nothing ever used
MOST_ROOTS = 1 << 16  # of a domain; each of its processes has one or two
RUN = 512  # entries that are counted together if they have one owner


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
        self.owner_size = 8 if self.entry_size - self.owner_at >= 16 else 4
        self.direct_map = DIRECT_MAP[self.owner_size]
        self.start = tables.word(vmcoreinfo.symbol("frame_table"), "Xen's frame_table")
        self.max_page = tables.word(vmcoreinfo.symbol("max_page"), "Xen's max_page")
        if self.max_page > LARGEST_MAX_PAGE:
            raise P2mError(f"Xen's max_page is {self.max_page:x}: its memory is damaged")
        # Xen commit 1ae4be859b ("x86: limit page type width"), in 4.10, makes the type
        # PG_mask(x, 3); before, it is PG_mask(x, 4)
        self.type_shift = 5 if tuple(map(int, version.split("."))) >= (4, 10) else 4
        # By the type byte of an entry: the level of a page table, if it is of the third or fourth
        levels = (byte >> self.type_shift for byte in range(256))
        self._levels = bytes(level if level in (PGT_L3, PGT_L4) else 0 for level in levels)

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
            return not any(self.tables.read(vaddr, size, WHAT))
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
        in_use = data[self.count_at + FLAGS_BYTE :: size].translate(IN_USE)
        words = owners.tobytes()
        # Memory is given to domains in large pieces, so most runs of entries have one owner:
        # these cost a comparison of bytes, which is fifty times faster than a look at each entry
        for start in range(0, len(owners), RUN):
            count = in_use.count(1, start, start + RUN)
            if not count:
                continue
            run = words[start * 4 : (start + RUN) * 4]
            if run == run[:4] * (len(run) // 4):
                counted = {owners[start]: count}
            else:
                used = slice(start, start + RUN)
                counted = Counter(compress(owners[used], in_use[used]))
            for owner, count in counted.items():
                if owner in found:
                    found[owner].pages += count
        levels = data[self.count_at + 8 + FLAGS_BYTE :: size].translate(self._levels)
        for level in (PGT_L3, PGT_L4):
            index = levels.find(level)
            while index >= 0:
                owned = found.get(owners[index]) if in_use[index] else None
                if owned is not None and level == PGT_L3:
                    owned.threes += 1
                elif owned is not None and len(owned.roots) < MOST_ROOTS:
                    owned.roots.append(self.mfn(first + index))
                index = levels.find(level, index + 1)

    def _groups(self) -> Iterator[tuple[int, bytes]]:
        """Yield each mapped group of the frame table, with its first entry's index.

        Xen maps groups of PDX_GROUP_COUNT entries (xen/include/xen/pdx.h); the others are
        holes.

        :raises ReadError: a part is not in this memory, or the table is damaged.
        """
        part = PDX_GROUP // (self.entry_size & -self.entry_size)
        places: set[int] = set()
        first = empty = 0
        while first < self.max_page:
            start = self.start + first * self.entry_size
            hole_end = self._hole_end(start)
            if hole_end > start:
                first = -(-(hole_end - self.start) // (part * self.entry_size)) * part
                continue
            place = self.tables.translate(start, WHAT)
            data = self._stretch(start, min(part, self.max_page - first) * self.entry_size)
            empty = empty + 1 if data == bytes(len(data)) else 0
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
