# SPDX-License-Identifier: GPL-3.0-or-later
"""Grant tables of version 1: which domain lets which other use how many of its pages.

A table is in pages of Xen's heap that its domain shares with Xen. ``struct domain`` leads to
``struct grant_table`` (xen/common/grant_table.c), and that to an array of pointers to these pages;
no other array has any of them. They have the layout of xen/include/public/grant_table.h. Linux
takes version 2, which has a second such array, only where frame numbers need more than 32 bits.
While another domain has a page mapped, or copies from or to it, Xen has that noted in the page's
entry.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import P2mError, ReadError
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE, MachineMemory
from .domains import Domain, Xen
from .frame_table import Owned

__all__ = ["GrantTables", "Grants", "read_grants"]

TABLE_WORDS = 16  # of struct grant_table that may point to the array; in Xen 4.17 it is the eighth
TYPE, PERMIT_ACCESS = 3, 1  # GTF_type_mask, GTF_permit_access
IN_USE = 8 | 16  # GTF_reading, GTF_writing
FLAGS = 0x1FF  # all that there are, GTF_sub_page the last
DOMID_SHIFT, DOMID = 16, 0xFFFF
DOMID_MASK = 0x7FFF  # ids of domains are less, those with a meaning among them


@dataclass
class Grants:
    """Pages that a domain grants to another, and how many of them that one uses."""

    pages: int = 0
    in_use: int = 0


class GrantTables:
    """Finds the grant tables of domains.

    :param xen: Xen's memory.
    """

    def __init__(self, xen: Xen) -> None:
        self._xen = xen
        self._places: list[int] = []  # words of struct domain that led to a table before

    def frames(self, domain: Domain, owned: Owned, notes: list[str]) -> list[int]:
        """Return the mfns of a domain's grant table, in their order.

        Those whose pointers are damaged are left out, and a note says how many.

        :param owned: the domain's memory; of Xen's heap it shares the table, its shared_info, and
            an HVM domain on Intel's cpus one page more.
        :raises P2mError: it is not clear which of them.
        """
        mfns = {*owned.shared} - {domain.shared.mfn if domain.shared else -1}
        if not mfns:
            return []
        size = self._xen.domain_size & ~7
        words = array("Q", self._xen.tables.read(domain.vaddr, size, "struct domain"))
        for places in (self._places, range(len(words))):
            found = {place: {*self._arrays(words[place], mfns)} for place in places}
            arrays = set().union(*found.values())
            if len(arrays) == 1:
                self._places = [place for place, those in found.items() if those]
                entries = dict.fromkeys(self._entries(arrays.pop(), mfns))
                table = [mfn for mfn in entries if mfn is not None]
                others = (not owned.kind.startswith("PV")) + (domain.shared is None)
                if len(table) < len(mfns) - others:
                    notes.append(
                        f"grants of domain {domain.id}: {len(table)} pages of its grant table were"
                        f" found, and it has {len(mfns) - others}"
                    )
                return table
        raise P2mError(f"it is not clear which pages are the grant table of domain {domain.id}")

    def _is_heap(self, vaddr: int) -> bool:
        frames = self._xen.frames
        pdx = frames.pdx(vaddr)
        try:
            in_range = vaddr % 8 == 0 and 0 <= pdx < frames.max_page
            return in_range and frames.entry(pdx).is_xen_heap
        except ReadError:
            return False

    def _arrays(self, vaddr: int, mfns: set[int]) -> Iterator[int]:
        """Yield the arrays of pages with these mfns to which what is at an address points."""
        if not self._is_heap(vaddr):
            return
        size = min(TABLE_WORDS * 8, PAGE_SIZE - vaddr % PAGE_SIZE)
        for pointer in array("Q", self._xen.tables.read(vaddr, size, "struct grant_table")):
            if self._is_heap(pointer) and next(self._entries(pointer, mfns)) is not None:
                yield pointer

    def _entries(self, vaddr: int, mfns: set[int]) -> Iterator[int | None]:
        """Yield the mfns of the pages that an array points to, None for any but these."""
        frames = self._xen.frames
        for at in range(vaddr, vaddr + len(mfns) * 8, 8):
            try:
                page = self._xen.tables.word(at, "grant table")
                mfn = frames.mfn(frames.pdx(page)) if self._is_heap(page) else None
            except ReadError:
                page, mfn = 0, None
            yield mfn if mfn in mfns and page % PAGE_SIZE == 0 else None


def read_grants(memory: MachineMemory, mfns: Iterable[int]) -> dict[int, Grants]:
    """Return what a domain grants, by the id of the domain that it is granted to.

    That one may be gone: the grant stays until the domain takes it back.

    :param mfns: the pages of the domain's grant table.
    :raises P2mError: a page cannot be read, or is not of a grant table of version 1.
    """
    found: dict[int, Grants] = {}
    for mfn in mfns:
        entries = array("Q", memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, "grant table"))
        for entry in filter(None, entries):
            domain = entry >> DOMID_SHIFT & DOMID
            if entry & DOMID & ~FLAGS or (entry & TYPE and domain > DOMID_MASK):
                raise P2mError(
                    f"mfn {mfn:x} is not a page of a grant table of version 1, the only one that is"
                    " read"
                )
            if entry & TYPE == PERMIT_ACCESS:
                grants = found.setdefault(domain, Grants())
                grants.pages += 1
                grants.in_use += bool(entry & IN_USE)
    return found
