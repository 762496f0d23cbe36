# SPDX-License-Identifier: GPL-3.0-or-later
"""A PV domain's memory as its kernel would have it without Xen.

The address of a byte is pseudo-physical here: its pfn, and its place in the page.  What is left of
Xen is in the page tables, whose entries hold machine addresses: here each entry that is present has
the pseudo-physical address of the page that it maps.  Whoever then walks these tables, or computes
with the addresses in them as the kernel does, needs to know nothing of Xen.

- An entry for a page of the domain gets the address of its pfn.
- An entry for a page that the kernel knows by its machine address stays: identity pages, such as
  the memory of devices.
- Any other page, Xen's or another domain's, gets an address above all memory, :data:`OTHERS` and
  its machine address, so that it is none of the domain's.

Which pages are page tables is known from Xen's frame table, where the dump has it.  Where it does
not, as after ``makedumpfile -X``, it is known from the kernel's direct map: Xen lets a domain map
its page tables read-only only (``get_page_from_l1e()`` of xen/arch/x86/mm.c).  The kernel's text
and constants are read-only as well; they are told by words that lead nowhere.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import P2mError, ReadError
from ..linux.vmcoreinfo import native_vmcoreinfo, swapper
from ..machine.memory import (
    PAGE_SHIFT,
    PAGE_SIZE,
    WORDS_PER_PAGE,
    join_pages,
    read_pages,
    read_words,
)
from ..machine.paging import ADDRESS_MASK, PRESENT, PTE_LEVEL
from ..p2m.diagnosis import Diagnosis
from ..p2m.entries import (
    FOREIGN_FRAME_BIT,
    IDENTITY_FRAME_BIT,
    INVALID_P2M_ENTRY,
    Kind,
    kind_of,
)
from ..p2m.leaves import LEAF, PFNS_PER_LEAF
from ..p2m.m2p import M2P, m2p_start
from ..p2m.ranges import ranges
from ..xen.frame_table import FrameTable

if TYPE_CHECKING:
    from .reverse import Reverse

__all__ = ["OTHERS", "NativeMemory"]

OTHERS = 1 << 45  # 32 TiB, more than a PV domain can have; page-table entries hold 52 bits
MOST_MFNS = 1 << 34  # of 64 TiB, which is above all machine memory that Xen takes
WRITABLE = 1 << 1  # in an entry of a page table
# Zero in entries of PV kernels: bits 53 to 56.  57 and 58 are the kernel's own: _PAGE_DEVMAP, and
# since Linux 6.6 _PAGE_SAVED_DIRTY, which marks a page that was written to and is read-only now
RESERVED = 0xF << 53
# Set by Xen in entries for the kernel's own pages, which it maps for user mode: _PAGE_GUEST_KERNEL
# (xen/arch/x86/include/asm/x86_64/page.h) and _PAGE_USER
GUEST_KERNEL, USER = 1 << 52, 1 << 2
# Xen sets _PAGE_USER in each present entry of a domain (adjust_guest_l1e() and others of
# xen/arch/x86/pv/mm.h), but in its own part of a top table: ROOT_PAGETABLE_FIRST_XEN_SLOT to _LAST_
XENS_SLOTS = range(256, 272)
PAGES_KEPT = 4096  # of each kind, 16 MiB
MANY = 2 * PAGE_SIZE  # bytes; what is larger is read at once, and not kept
READ_ONLY = (("_text", "_etext"), ("__start_rodata", "__end_rodata"))  # symbols of the kernel

NOWHERE = -1


class _Kept:
    """Pages of 512 words by number, the last that were used; a page may be absent."""

    def __init__(self, read: Callable[[int], array[int] | None]) -> None:
        self._read = read
        self._pages: dict[int, array[int] | None] = {}

    def __call__(self, number: int) -> array[int] | None:
        try:
            return self._pages[number]
        except KeyError:
            if len(self._pages) >= PAGES_KEPT:
                self._pages.clear()
            page = self._pages[number] = self._read(number)
            return page


class NativeMemory:
    """A PV domain's memory by pseudo-physical address, in bytes.

    ``direct_map`` is the virtual address at which the kernel maps all of it.

    :param found: the domain's p2m and its kernel.
    :param frames: Xen's frame table, or None where the dump lacks it.
    :raises P2mError: the kernel's direct map cannot be found, or its number of pages cannot be.
    """

    def __init__(self, found: Diagnosis, frames: FrameTable | None) -> None:
        self.found = found
        if found.table.max_pfn > OTHERS >> PAGE_SHIFT:
            raise P2mError(f"the kernel's max_pfn is {found.table.max_pfn:x}: it is damaged")
        self._memory, self._tables = found.kernel.memory, found.kernel.tables
        self.direct_map = found.kernel.page_offset()
        self._frames = frames
        self._found_tables: set[int] | None = None
        self._m2p_at = m2p_start(found.kernel)
        self._leaves = _Kept(self._read_leaf)
        self._m2p = _Kept(self._read_m2p)
        self._pages: dict[int, bytes] = {}
        self._read_only = [*self._constants()]

    # ----------------------------------------------------------------------
    # What there is

    def runs(self) -> Iterator[tuple[int, int]]:
        """Yield the runs of pages that have memory, in order: pseudo-physical address and bytes.

        :raises ReadError: a leaf of the p2m cannot be read.
        """
        first = end = 0
        for found in ranges(self.found):
            if found.kind not in (Kind.MEMORY, Kind.FOREIGN):
                continue
            if found.first != end:
                if end > first:
                    yield first << PAGE_SHIFT, end - first << PAGE_SHIFT
                first = found.first
            end = found.last + 1
        if end > first:
            yield first << PAGE_SHIFT, end - first << PAGE_SHIFT

    def mfn(self, pfn: int) -> int | None:
        """Return the machine frame of a pfn, or None where it has none.

        That of an identity pfn has the same number; that of a foreign one is another domain's.
        """
        entry = self._entry(pfn)
        kind = kind_of(entry)
        if kind is Kind.MISSING:
            return None
        mfn = pfn if kind is Kind.IDENTITY else entry & ~FOREIGN_FRAME_BIT
        return mfn if mfn < MOST_MFNS else None  # else damage made it

    def paddr(self, vaddr: int, what: str) -> int:
        """Return the pseudo-physical address of a virtual address of the kernel.

        :raises ReadError: it is not mapped, or mapped to a page that is not the domain's.
        """
        maddr = self._tables.translate(vaddr, what)
        pfn = self.pfn(maddr >> PAGE_SHIFT)
        if pfn is None:
            raise ReadError("kernel virtual address", vaddr, what, "not in the p2m")
        return pfn << PAGE_SHIFT | maddr % PAGE_SIZE

    def pfn(self, mfn: int) -> int | None:
        """Return the pfn whose memory is a machine frame, or None: it is not the domain's."""
        page = self._m2p(mfn // WORDS_PER_PAGE)
        if page is None:
            return self._reverse.pfn(mfn)
        pfn = page[mfn % WORDS_PER_PAGE]
        return pfn if self._entry(pfn) == mfn else None

    # ----------------------------------------------------------------------
    # Reads

    def read(self, paddr: int, size: int, what: str) -> bytes:
        """Return ``size`` bytes from a pseudo-physical address.

        :param what: what is being read, for the error message.
        :raises ReadError: any of these bytes has no memory, or is not in the dump.
        """
        if paddr >= OTHERS:
            return self._memory.read(paddr - OTHERS, size, what)
        if size > MANY:
            first, last = paddr >> PAGE_SHIFT, paddr + size - 1 >> PAGE_SHIFT
            found = [page for _, page in self.pages(first, last - first + 1)]
            if None not in found:
                return b"".join(page for page in found if page)[paddr % PAGE_SIZE :][:size]
        return join_pages(paddr, size, lambda start, part: self._part(start, part, what))

    def _part(self, paddr: int, size: int, what: str) -> bytes:
        pfn, at = paddr >> PAGE_SHIFT, paddr % PAGE_SIZE
        page = self._pages.get(pfn)
        if page is None:
            mfn = self.mfn(pfn)
            if mfn is None:
                raise ReadError("physical address", paddr, what, "no memory")
            try:
                page = self._memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, what)
            except ReadError:  # the dump may have a part of the page
                return self._memory.read((mfn << PAGE_SHIFT) + at, size, what)
            page = self.turned(pfn, mfn, page)
            if len(self._pages) >= PAGES_KEPT:
                self._pages.clear()
            self._pages[pfn] = page
        return page[at : at + size]

    def machine_page(self, mfn: int, what: str) -> bytes | None:
        """Return the page in a machine frame, as the domain's kernel would have it.

        Return None if the dump lacks a part of it.
        """
        try:
            page = self._memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, what)
        except ReadError:
            return None
        pfn = self.pfn(mfn)
        return page if pfn is None else self.turned(pfn, mfn, page)

    def pages(self, first: int, count: int) -> Iterator[tuple[int, bytes | None]]:
        """Yield pfns from ``first`` on, each with its page, or None where the dump lacks it."""
        for start in range(first, first + count, PFNS_PER_LEAF):
            part = range(start, min(start + PFNS_PER_LEAF, first + count))
            mfns = [self.mfn(pfn) for pfn in part]
            there = read_pages(self._memory, (mfn for mfn in mfns if mfn is not None), "page")
            for pfn, mfn in zip(part, mfns):
                page = None if mfn is None else next(there)
                if mfn is None or not isinstance(page, bytes):
                    yield pfn, None
                else:
                    yield pfn, self.turned(pfn, mfn, page)

    def vmcoreinfo(self, seconds: int) -> bytes:
        """Return the kernel's vmcoreinfo as it finishes it when it crashes.

        :param seconds: the kernel's clock, since 1970.
        :raises P2mError: the kernel has none, or it is damaged.
        """
        kernel = self.found.kernel
        return native_vmcoreinfo(kernel, self.paddr(swapper(kernel), "swapper_pg_dir"), seconds)

    def turned(self, pfn: int, mfn: int, page: bytes) -> bytes:
        """Return a page of the domain as its kernel would have it; others than tables stay."""
        if self._entry(pfn) != mfn:  # another domain's, whose page tables stay as they are
            return page
        known = self._is_table(mfn)
        if known is False or (known is None and not self._may_be_table(pfn)):
            return page
        words = array("Q", page)
        for index, entry in enumerate(words):
            if entry & PRESENT:
                address = self.native_address(entry & ADDRESS_MASK)
                users = entry & USER or index in XENS_SLOTS
                if known is None and (address == NOWHERE or entry & RESERVED or not users):
                    return page
                if address != NOWHERE:
                    xens = GUEST_KERNEL | USER if entry & GUEST_KERNEL else 0
                    words[index] = entry & ~ADDRESS_MASK & ~xens | address
        return words.tobytes()

    def native_address(self, maddr: int) -> int:
        """Return what the kernel would have in a page table for the page at a machine address.

        Return ``NOWHERE``, -1, for one that no machine has.
        """
        mfn = maddr >> PAGE_SHIFT
        if mfn >= MOST_MFNS:
            return NOWHERE
        pfn = self.pfn(mfn)
        if pfn is not None:
            return pfn << PAGE_SHIFT
        return maddr if self._is_identity(mfn) else OTHERS + maddr

    def _is_identity(self, mfn: int) -> bool:
        """Return True if the kernel has a machine frame that is not its own as the same pfn.

        Above its p2m a kernel takes every frame so; what is memory there is another's.
        """
        if mfn < self.found.table.max_pfn:
            return kind_of(self._entry(mfn)) is Kind.IDENTITY
        try:
            self._memory.read(mfn << PAGE_SHIFT, 8, "page")
        except ReadError:
            return True
        return False

    # ----------------------------------------------------------------------
    # Which pages are page tables

    def find_tables(self) -> None:
        """Find all page tables at once, before all pages are read."""
        if self._frames is not None:
            with suppress(ReadError):
                self._found_tables = self._frames.page_tables()

    def _is_table(self, mfn: int) -> bool | None:
        """Return what Xen's frame table says, or None where it says nothing of the frame."""
        if self._found_tables is not None:
            return mfn in self._found_tables
        return self._frames.is_page_table(mfn) if self._frames else None

    def _may_be_table(self, pfn: int) -> bool:
        """Return True if the kernel's direct map has a page read-only, and it is no constant."""
        vaddr = self.direct_map + (pfn << PAGE_SHIFT)
        try:
            *_, last = self._tables.walk(vaddr)
        except ReadError:
            return False
        if last.level != PTE_LEVEL or not last.present or last.entry & WRITABLE:
            return False
        return not any(pfn in pages for pages in self._read_only)

    def _constants(self) -> Iterator[range]:
        """Yield the pfns of the kernel's text and constants."""
        for begin, end in READ_ONLY:
            addresses = [self.found.kernel.symbols.address(name) for name in (begin, end)]
            if None in addresses:
                continue
            first, last = (address or 0 for address in addresses)
            with suppress(ReadError):
                paddr = self.paddr(first, begin)
                yield range(paddr >> PAGE_SHIFT, paddr + last - first + PAGE_SIZE - 1 >> PAGE_SHIFT)

    # ----------------------------------------------------------------------
    # From pfns to machine frames and back

    def _entry(self, pfn: int) -> int:
        """Return the p2m entry of a pfn; above the p2m a kernel takes every pfn for identity."""
        if pfn >= self.found.table.max_pfn:
            return pfn | IDENTITY_FRAME_BIT
        leaf = self._leaves(pfn // PFNS_PER_LEAF)
        if leaf is not None:
            return leaf[pfn % PFNS_PER_LEAF]
        return pfn | IDENTITY_FRAME_BIT if self.found.in_identity_leaf(pfn) else INVALID_P2M_ENTRY

    def _read_leaf(self, index: int) -> array[int] | None:
        mfn = self.found.rebuilt.leaf(index)
        return None if mfn is None else read_words(self._memory, mfn, LEAF)

    def _read_m2p(self, number: int) -> array[int] | None:
        """Return a page of Xen's machine-to-phys table, or None where the dump lacks it."""
        try:
            maddr = self._tables.translate(self._m2p_at + number * PAGE_SIZE)
            return read_words(self._memory, maddr >> PAGE_SHIFT, M2P)
        except ReadError:
            return None

    @cached_property
    def _reverse(self) -> Reverse:
        from .reverse import Reverse  # noqa: PLC0415  (numpy takes 0.1 s)

        return Reverse(self.found)
