# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks of x86-64 page tables in machine memory, which need no p2m.

The entries of a PV kernel's page tables hold machine addresses, so a walk leads from the
root to machine memory directly (Intel SDM volume 3, 4-level paging; Xen
``xen/include/public/arch-x86/xen-x86_64.h``). PV domains use four levels only.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import ReadError
from .memory import PAGE_SHIFT, PAGE_SIZE, MachineMemory, join_pages, read_words

__all__ = [
    "ADDRESS_MASK",
    "ENTRIES",
    "LEVEL_SHIFTS",
    "NOT_MAPPED",
    "PRESENT",
    "PTE_LEVEL",
    "PageTables",
    "Step",
]

PRESENT = 1 << 0
LARGE = 1 << 7  # PSE: a 2 MiB page in a PMD entry, a 1 GiB page in a PUD entry
ADDRESS_MASK = 0x000FFFFFFFFFF000  # bits 12-51
LEVEL_NAMES = ("PGD", "PUD", "PMD", "PTE")
LEVEL_SHIFTS = (39, 30, 21, 12)
PTE_LEVEL = 3
ENTRIES = 512
NOT_MAPPED = 0xFFFFFFFFFFFFFFFF  # in place of an mfn
TABLES_KEPT = 4096  # table pages, 16 MiB; the direct map of 1 TiB has 2 GiB of them


@dataclass(frozen=True)
class Step:
    """One level of a walk: the machine address of its entry, and the entry."""

    level: int
    entry_maddr: int
    entry: int

    @property
    def name(self) -> str:
        """The kernel's name for this level."""
        return LEVEL_NAMES[self.level]

    @property
    def present(self) -> bool:
        """True if the entry leads to a table or to memory."""
        return bool(self.entry & PRESENT)

    @property
    def is_page(self) -> bool:
        """True if the entry maps memory, not a further table."""
        return self.level == PTE_LEVEL or bool(self.level and self.entry & LARGE)

    @property
    def page_size(self) -> int:
        """The number of bytes that one entry of this level maps."""
        return 1 << LEVEL_SHIFTS[self.level]

    def target(self, vaddr: int) -> int:
        """Return the machine address of ``vaddr``; the entry must map memory."""
        offset = vaddr & (self.page_size - 1)
        return self.entry & ADDRESS_MASK & ~(self.page_size - 1) | offset


class PageTables:
    """The page tables below one root; table pages that were read are kept.

    :param root: machine address of the top table, as in cr3 (low bits ignored).
    """

    def __init__(self, memory: MachineMemory, root: int) -> None:
        self.memory = memory
        self.root = root & ADDRESS_MASK
        self._tables: dict[int, array[int]] = {}
        self._mapped: dict[int, array[int]] = {}

    def table(self, maddr: int, level: int) -> array[int]:
        """Return the 512 entries of the table page at ``maddr``.

        :raises ReadError: the page is not in this memory.
        """
        table = self._tables.get(maddr)
        if table is None:
            if len(self._tables) >= TABLES_KEPT:
                self._tables.clear()
            what = f"{LEVEL_NAMES[level]} page"
            table = self._tables[maddr] = read_words(self.memory, maddr >> PAGE_SHIFT, what)
        return table

    def walk(self, vaddr: int) -> Iterator[Step]:
        """Yield each level's entry for ``vaddr``, up to one that maps it or is not present.

        :raises ReadError: a table page is not in this memory.
        """
        maddr = self.root
        for level, shift in enumerate(LEVEL_SHIFTS):
            index = vaddr >> shift & (ENTRIES - 1)
            step = Step(level, maddr + index * 8, self.table(maddr, level)[index])
            yield step
            if not step.present or step.is_page:
                return
            maddr = step.entry & ADDRESS_MASK

    def translate(self, vaddr: int, what: str = "page table walk") -> int:
        """Return the machine address of ``vaddr``.

        :raises ReadError: ``vaddr`` is not mapped, or a table cannot be read.
        """
        *_, last = self.walk(vaddr)
        if not last.present:
            reason = f"{last.name} entry not present"
            raise ReadError("kernel virtual address", vaddr, what, reason)
        return last.target(vaddr)

    def read(self, vaddr: int, size: int, what: str) -> bytes:
        """Return ``size`` bytes from virtual address ``vaddr``.

        :raises ReadError: any of these bytes is not mapped, or not in this memory.
        """
        return join_pages(
            vaddr,
            size,
            lambda start, part: self.memory.read(self.translate(start, what), part, what),
        )

    def word(self, vaddr: int, what: str) -> int:
        """Return the unsigned 64-bit word at virtual address ``vaddr``.

        :raises ReadError: the word is not mapped, or not in this memory.
        """
        return int.from_bytes(self.read(vaddr, 8, what), "little")

    def entries(self, vaddr: int, level: int) -> array[int] | None:
        """Return the 512 entries of the table page of ``level`` on the way to ``vaddr``.

        Return None if there is none: an entry above it is not present, or maps a large page.

        :raises ReadError: a table page is not in this memory.
        """
        maddr = self.root
        for step in self.walk(vaddr):
            if step.level == level:
                return self.table(maddr, level)
            if step.is_page:
                return None
            maddr = step.entry & ADDRESS_MASK
        return None

    def frames(self, vaddr: int, count: int, large: bool = True) -> array[int]:
        """Return the mfn of each of ``count`` pages from ``vaddr`` on, which is page aligned.

        The value for a page that is not mapped is ``NOT_MAPPED``. Time goes with the
        number of table pages that exist: an entry that is not present is one step, and a
        table page that many entries share, as those for missing leaves do, is decoded
        once.

        :raises ReadError: a table page is not in this memory, or ``vaddr`` is
            not page aligned.
        """
        if vaddr % PAGE_SIZE:
            raise ReadError("kernel virtual address", vaddr, "page frames", "not page aligned")
        return self._frames(self.root, 0, vaddr, vaddr + count * PAGE_SIZE, large)

    def _frames(self, table: int, level: int, start: int, end: int, large: bool) -> array[int]:
        if level == PTE_LEVEL:
            mapped = self._mapped.get(table)
            if mapped is None:
                if len(self._mapped) >= TABLES_KEPT:
                    self._mapped.clear()
                mapped = self._mapped[table] = array(
                    "Q",
                    [
                        (entry & ADDRESS_MASK) >> PAGE_SHIFT if entry & PRESENT else NOT_MAPPED
                        for entry in self.table(table, level)
                    ],
                )
            first = start >> PAGE_SHIFT & (ENTRIES - 1)
            return mapped[first : first + (end - start >> PAGE_SHIFT)]
        span = 1 << LEVEL_SHIFTS[level]
        entries = self.table(table, level)
        found = array("Q")
        while start < end:
            stop = min((start & ~(span - 1)) + span, end)
            step = Step(level, 0, entries[start // span & (ENTRIES - 1)])
            if not step.present or (step.is_page and not large):
                found.extend(array("Q", [NOT_MAPPED]) * (stop - start >> PAGE_SHIFT))
            elif step.is_page:
                mfn = step.target(start) >> PAGE_SHIFT
                found.extend(range(mfn, mfn + (stop - start >> PAGE_SHIFT)))
            else:
                below = step.entry & ADDRESS_MASK
                found.extend(self._frames(below, level + 1, start, stop, large))
            start = stop
        return found
