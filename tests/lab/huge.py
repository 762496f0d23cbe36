# SPDX-License-Identifier: GPL-3.0-or-later
"""Real dumps grown to the memory of the largest hosts, most of it never written."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from elftools.elf.elffile import ELFFile

from pykdump_ext.errors import ReadError
from pykdump_ext.linux.kernel import Kernel
from pykdump_ext.machine.memory import PAGE_SHIFT, PAGE_SIZE
from pykdump_ext.machine.paging import ADDRESS_MASK, ENTRIES, LEVEL_SHIFTS, PTE_LEVEL
from pykdump_ext.p2m.diagnosis import Diagnosis, root_candidates
from pykdump_ext.p2m.leaves import PFNS_PER_LEAF

from .broken import DumpFile, diagnosis
from .dump import Dump

NEW_MEMORY = 1 << 44  # machine address of what is added: above all that the dump has
NEW_P2M = 0xFFFFC98000000000  # in vmalloc space, far above what the kernel has used of it
PRESENT_WRITABLE = 0x63  # accessed and dirty as well, as kernels set them
PHDR = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr


class Growth:
    """New machine frames of a dump, and changes of its page tables that lead to them."""

    def __init__(self, file: DumpFile, kernel: Kernel, roots: list[int]) -> None:
        self.file = file
        self.kernel = kernel
        self.roots = roots
        self.pages: dict[int, bytearray] = {}
        self.frames = 0

    def frame(self, content: bytes = b"") -> int:
        """Return the mfn of a new frame; one without content is a hole in the file."""
        mfn = self.reserve(1)
        if content:
            self.pages[mfn] = bytearray(content.ljust(PAGE_SIZE, b"\0"))
        return mfn

    def reserve(self, count: int) -> int:
        """Return the mfn of the first of ``count`` new frames, which are a hole in the file."""
        first = (NEW_MEMORY >> PAGE_SHIFT) + self.frames
        self.frames += count
        return first

    def entry(self, table: int, index: int) -> int:
        """Return an entry of the table page at that mfn."""
        page = self.pages.get(table)
        if page is None:
            return self.kernel.tables.table(table << PAGE_SHIFT, 0)[index]
        return int(struct.unpack_from("<Q", page, index * 8)[0])

    def set_entry(self, table: int, index: int, entry: int) -> None:
        """Write an entry of the table page at that mfn, new or the dump's own."""
        if table in self.pages:
            struct.pack_into("<Q", self.pages[table], index * 8, entry)
        else:
            self.file.write((table << PAGE_SHIFT) + index * 8, entry.to_bytes(8, "little"))
            self.kernel.tables.table(table << PAGE_SHIFT, 0)[index] = entry

    def map(self, vaddr: int, mfn: int, level: int = PTE_LEVEL) -> None:
        """Have the entry of ``level`` for ``vaddr`` lead to ``mfn``, in every root."""
        below = None
        for root in self.roots:
            table = root >> PAGE_SHIFT
            index = vaddr >> LEVEL_SHIFTS[0] & ENTRIES - 1
            if not self.entry(table, index):
                below = self.frame(bytes(8)) if below is None else below
                self.set_entry(table, index, below << PAGE_SHIFT | PRESENT_WRITABLE)
        table = (self.entry(self.roots[0] >> PAGE_SHIFT, index) & ADDRESS_MASK) >> PAGE_SHIFT
        for upper in range(1, level):
            index = vaddr >> LEVEL_SHIFTS[upper] & ENTRIES - 1
            if not self.entry(table, index):
                new = self.frame(bytes(8))
                self.set_entry(table, index, new << PAGE_SHIFT | PRESENT_WRITABLE)
            table = (self.entry(table, index) & ADDRESS_MASK) >> PAGE_SHIFT
        index = vaddr >> LEVEL_SHIFTS[level] & ENTRIES - 1
        self.set_entry(table, index, mfn << PAGE_SHIFT | PRESENT_WRITABLE)

    def set_variable(self, name: str, value: int) -> None:
        """Write an unsigned 64-bit variable of the kernel."""
        maddr = self.kernel.tables.translate(self.kernel.address(name))
        self.file.write(maddr, value.to_bytes(8, "little"))

    def close(self) -> None:
        """Write the new frames behind the file, as one more PT_LOAD."""
        path = self.file.path
        with path.open("r+b") as file:
            elf = ELFFile(file)
            number, at = elf.num_segments(), elf["e_phoff"]
            end = at + (number + 1) * PHDR.size
            assert end <= elf.get_segment(0)["p_offset"], "no room for a program header"
            offset = -(-path.stat().st_size // PAGE_SIZE) * PAGE_SIZE
            size = self.frames * PAGE_SIZE
            file.seek(at + number * PHDR.size)
            file.write(PHDR.pack(1, 7, offset, 0, NEW_MEMORY, size, size, 0))
            file.seek(56)  # e_phnum
            file.write(struct.pack("<H", number + 1))
            for mfn, page in self.pages.items():
                file.seek(offset + (mfn << PAGE_SHIFT) - NEW_MEMORY)
                file.write(page)
            file.truncate(offset + size)


def mark(pfn: int) -> bytes:
    """Return what the page of this pfn of added memory begins with."""
    return b"pfn %014x\0" % pfn


def grow(dump: Dump, copy: Path, size: int, leaves: int = 64) -> list[int]:
    """Give the kernel in ``copy``, a copy of ``dump``, ``size`` bytes of memory.

    Of what is added ``leaves`` leaves are memory, 2 MiB each, spread evenly and
    the last of them at the very end; the rest is missing, mapped as kernels do
    it: one page of PTEs stands for every 512 leaves.  Return the first pfn of
    each, whose page begins with its :func:`mark`.
    """
    found = diagnosis(dump)
    growth = Growth(DumpFile(copy), found.kernel, roots_of(found))
    old, total = len(found.table.leaves), size >> PAGE_SHIFT
    count = total // PFNS_PER_LEAF
    new = [count - 1 - (count - old) * n // leaves for n in range(leaves)]

    own = dict(enumerate(found.table.leaves))
    base = found.kernel.page_offset()
    firsts = []
    for leaf in new:
        first = leaf * PFNS_PER_LEAF
        mfns = [growth.frame(mark(first)), *(growth.frame() for _ in range(PFNS_PER_LEAF - 1))]
        own[leaf] = growth.frame(struct.pack("<512Q", *mfns))
        for offset, mfn in enumerate(mfns):
            growth.map(base + (first + offset << PAGE_SHIFT), mfn)
        firsts.append(first)

    map_p2m(growth, found, own, total)
    growth.close()
    return firsts


def map_p2m(growth: Growth, found: Diagnosis, own: Mapping[int, int], total: int) -> None:
    """Map a p2m of ``total`` pfns, and have the kernel's variables say so.

    :param own: the mfn of each leaf that is not the missing one, by its index.
    """
    missing = found.table.missing_mfn
    all_missing = growth.frame(struct.pack("<Q", missing << PAGE_SHIFT | 1) * ENTRIES)
    for group in range(-(-total // PFNS_PER_LEAF // ENTRIES)):
        table = all_missing
        numbers = range(group * ENTRIES, (group + 1) * ENTRIES)
        if not own.keys().isdisjoint(numbers):
            entries = [own.get(leaf, missing) << PAGE_SHIFT | PRESENT_WRITABLE for leaf in numbers]
            table = growth.frame(struct.pack("<512Q", *entries))
        growth.map(NEW_P2M + (group * ENTRIES << PAGE_SHIFT), table, PTE_LEVEL - 1)
    growth.set_variable("xen_p2m_addr", NEW_P2M)
    growth.set_variable("xen_p2m_size", total)
    growth.set_variable("max_pfn", total)


def roots_of(found: Diagnosis) -> list[int]:
    """Return the maddr of every top page table that is this kernel's."""
    memory, symbols = found.kernel.memory, found.kernel.symbols
    banner = found.kernel.address("linux_banner")
    wanted = found.kernel.read(banner, 64, "linux_banner")
    roots: list[int] = []
    for root in root_candidates(memory, symbols, found.hints, found.rebuilt):
        maddr = root.maddr & ADDRESS_MASK
        try:
            read = Kernel(memory, symbols, root).read(banner, 64, "linux_banner")
        except ReadError:
            continue
        if read == wanted and maddr not in roots:
            roots.append(maddr)
    return roots
