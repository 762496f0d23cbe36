# SPDX-License-Identifier: GPL-3.0-or-later
"""Machine memory and page tables, made up.

The tests' own idea of what such memory looks like.  It shares no code with the
package: page tables, p2m and list are written in this folder from their definitions
(Intel SDM volume 3; ``arch/x86/xen/p2m.c``), and what was written is
remembered, so that tests can say what is true without reading it back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from copy import copy

from pykdump_ext.machine.memory import PageMemory

PAGE = 4096
WORDS = 512
NOTHING = 2**64 - 1  # a missing entry of a p2m
IDENTITY_BIT = 2**62
FOREIGN_BIT = 2**63

PRESENT = 0x1
LARGE = 0x80
GLOBAL_PAT = 0x100
FLAGS = 0x63  # present, writable, accessed, dirty
NO_EXECUTE = 2**63
SOFTWARE = 0x7FF << 52  # bits 52-62
PGD, PUD, PMD, PTE = range(4)
SIZES = {PUD: 2**30, PMD: 2**21, PTE: PAGE}
SHIFTS = (39, 30, 21, 12)

KERNEL_MAP = 0xFFFFFFFF80000000
KERNEL_DATA = 0xFFFFFFFF81C00000
DIRECT_MAP = 0xFFFF888000000000
OLD_DIRECT_MAP = 0xFFFF880000000000
P2M_AREA = 0xFFFFC9003FE00000  # 2 MiB below a 1 GiB boundary
BANNER = b"Linux version 5.4.17-test (builder@example) #1 SMP\n"

LAYOUTS = ("flat", "two-level", "three-level", "linear")


class Machine:
    """Machine frames by number; the rest of the machine cannot be read."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self._next = 0x1000

    def frame(self, words: Iterable[int] = ()) -> int:
        """Return the mfn of a new frame that begins with ``words``; no two are neighbours."""
        mfn = self._next
        self._next += 7
        words = tuple(words)
        self.pages[mfn] = bytearray(struct.pack(f"<{len(words)}Q", *words).ljust(PAGE, b"\0"))
        return mfn

    def put(self, mfn: int, index: int, word: int) -> None:
        struct.pack_into("<Q", self.pages[mfn], index * 8, word)

    def get(self, mfn: int, index: int) -> int:
        return int.from_bytes(self.pages[mfn][index * 8 : index * 8 + 8], "little")

    def words(self, mfn: int) -> tuple[int, ...]:
        return struct.unpack("<512Q", self.pages[mfn])

    def copy(self) -> Machine:
        """Return a machine like this one, which can be changed without it."""
        copied = Machine()
        copied.pages = {mfn: bytearray(page) for mfn, page in self.pages.items()}
        copied._next = self._next
        return copied

    def memory(self) -> PageMemory:
        """Return this machine's memory as it is now."""
        return PageMemory({mfn: bytes(page) for mfn, page in self.pages.items()})


class AddressSpace:
    """Page tables, and a record of what they map."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.root = machine.frame()
        self.tables = [self.root]
        self.mapped: dict[tuple[int, int], int] = {}  # (vaddr, bytes) -> maddr

    @staticmethod
    def index(vaddr: int, level: int) -> int:
        """Return which of 512 entries ``vaddr`` has in its table of ``level``."""
        return vaddr >> SHIFTS[level] & WORDS - 1

    def table(self, vaddr: int, level: int) -> int:
        """Return the mfn of the table of ``level`` for ``vaddr``, new if need be."""
        table = self.root
        for upper in range(level):
            index = self.index(vaddr, upper)
            entry = self.machine.get(table, index)
            if not entry:
                self.tables.append(self.machine.frame())
                entry = self.tables[-1] * PAGE + FLAGS + 4
                self.machine.put(table, index, entry)
            table = entry // PAGE % 2**40
        return table

    def set(self, vaddr: int, level: int, entry: int) -> None:
        """Write the entry of ``level`` for ``vaddr``, whatever it is."""
        self.machine.put(self.table(vaddr, level), self.index(vaddr, level), entry)

    def map(self, vaddr: int, mfn: int, level: int = PTE, extra: int = 0) -> None:
        """Map a page of 4 KiB, or 2 MiB (PMD), or 1 GiB (PUD)."""
        large = LARGE if level != PTE else 0
        self.set(vaddr, level, mfn * PAGE | FLAGS | large | extra)
        self.mapped[vaddr, SIZES[level]] = mfn * PAGE

    def copy(self, machine: Machine) -> AddressSpace:
        """Return these page tables in ``machine``, which is a copy of theirs."""
        copied = copy(self)
        copied.machine = machine
        copied.tables, copied.mapped = [*self.tables], {**self.mapped}
        return copied

    def maddr(self, vaddr: int) -> int | None:
        """Return what ``vaddr`` was mapped to, or None."""
        for size in SIZES.values():
            start = vaddr - vaddr % size
            if (start, size) in self.mapped:
                return self.mapped[start, size] + vaddr - start
        return None


class SymbolTable(dict[str, int]):
    """A namelist's symbols."""

    def address(self, name: str) -> int | None:
        return self.get(name)
