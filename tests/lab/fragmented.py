# SPDX-License-Identifier: GPL-3.0-or-later
"""Real dumps grown to the memory of large hosts, all of it memory, in scattered frames.

The frames are a hole in the file, but the p2m, the direct map and Xen's m2p have them, and the
dump's list as many leaves as it can name: 512 * 512.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

from pykdump_ext.machine.memory import PAGE_SHIFT, PAGE_SIZE
from pykdump_ext.machine.paging import ENTRIES, PTE_LEVEL
from pykdump_ext.p2m.diagnosis import Diagnosis
from pykdump_ext.p2m.framelist import LEAVES_PER_PAGE
from pykdump_ext.p2m.leaves import PFNS_PER_LEAF
from pykdump_ext.p2m.m2p import MACH2PHYS_VIRT_START

from .broken import DumpFile, copy_of, diagnosis, truncate_list
from .cache import product
from .dump import Dump
from .huge import PRESENT_WRITABLE, Growth, map_p2m, mark, roots_of

OWN_LEAVES = 28 << 10  # so many leaves have frames of their own: 56 GiB
REPEATED_LEAVES = 4095  # the others are these again and again; odd, so that no two pages of the
# p2m's page tables are equal, which p2mfix takes for damage
STEP = 2654435761  # a prime: frame number n of the added memory is frame n * STEP
NAMED = LEAVES_PER_PAGE * LEAVES_PER_PAGE  # leaves that a list can name
WINDOW = 0xFFFFCA0000000000  # vmalloc addresses of WINDOW_PAGES pages all over the own leaves
WINDOW_PAGES = 1024


class Added:
    """The memory that is added: which leaf stands where, and which frames are in it.

    :param first: index of the first leaf that is added.
    :param end: index of the first leaf behind the memory.
    """

    def __init__(self, first: int, end: int) -> None:
        named = min(end, NAMED)
        self.first, self.end = first, end
        self.own = min(OWN_LEAVES, named - first)
        self.own_from = named - self.own
        self.repeated = min(REPEATED_LEAVES, end - first - self.own)
        self.leaves = self.own + self.repeated
        self.frames = self.leaves * PFNS_PER_LEAF

    def number(self, index: int) -> int:
        """Return which of the leaves stands at ``index``."""
        if 0 <= index - self.own_from < self.own:
            return self.repeated + index - self.own_from
        return (index - self.first) % self.repeated

    def index(self, number: int) -> int:
        """Return where leaf ``number`` stands first."""
        own = number - self.repeated
        return self.first + number if own < 0 else self.own_from + own

    def frame(self, number: int) -> int:
        """Return which frame is number ``number``, counted leaf by leaf."""
        return number * STEP % self.frames

    def pfns(self) -> Iterator[int]:
        """Yield the pfn of each frame, where it stands first."""
        back = pow(STEP, -1, self.frames)
        bases = [self.index(n) * PFNS_PER_LEAF for n in range(self.leaves)]
        for frame in range(self.frames):
            leaf, offset = divmod(frame * back % self.frames, PFNS_PER_LEAF)
            yield bases[leaf] + offset


def fragment(dump: Dump, copy: Path, size: int) -> None:
    """Give the kernel in ``copy``, a copy of ``dump``, ``size`` bytes of fragmented memory."""
    found = diagnosis(dump)
    growth = Growth(DumpFile(copy), found.kernel, roots_of(found))
    total = size >> PAGE_SHIFT
    added = Added(len(found.table.leaves), total // PFNS_PER_LEAF)
    base = growth.reserve(added.frames)

    leaves, tables = [], []
    for leaf in range(added.leaves):
        numbers = range(leaf * PFNS_PER_LEAF, (leaf + 1) * PFNS_PER_LEAF)
        mfns = array("Q", (base + added.frame(number) for number in numbers))
        leaves.append(growth.frame(mfns.tobytes()))
        entries = array("Q", (mfn << PAGE_SHIFT | PRESENT_WRITABLE for mfn in mfns))
        tables.append(growth.frame(entries.tobytes()))
    own = dict(enumerate(found.table.leaves))
    direct_map = found.kernel.page_offset()
    for index in range(added.first, added.end):
        own[index] = leaves[added.number(index)]
        vaddr = direct_map + (index * PFNS_PER_LEAF << PAGE_SHIFT)
        growth.map(vaddr, tables[added.number(index)], PTE_LEVEL - 1)
    map_p2m(growth, found, own, total)
    _publish(growth, found, own)
    _map_m2p(growth, base, added)
    _map_window(growth, base, added)
    growth.close()


def _map_window(growth: Growth, base: int, added: Added) -> None:
    """Map the window by page tables in the added memory: crash wants the pfns of table pages."""
    spare = added.repeated * PFNS_PER_LEAF + 1  # behind the window's first page
    pmd, *tables = (
        base + added.frame(spare + number) for number in range(1 + WINDOW_PAGES // ENTRIES)
    )
    entries = array("Q")
    for pfn in window_pfns(added):
        leaf, offset = divmod(pfn, PFNS_PER_LEAF)
        frame = base + added.frame(added.number(leaf) * PFNS_PER_LEAF + offset)
        growth.pages[frame] = bytearray(mark(pfn).ljust(PAGE_SIZE, b"\0"))
        entries.append(frame << PAGE_SHIFT | PRESENT_WRITABLE)
    upper = array("Q", (table << PAGE_SHIFT | PRESENT_WRITABLE for table in tables))
    growth.pages[pmd] = bytearray(upper.tobytes().ljust(PAGE_SIZE, b"\0"))
    for number, table in enumerate(tables):
        part = entries[number * ENTRIES : (number + 1) * ENTRIES]
        growth.pages[table] = bytearray(part.tobytes())
    growth.map(WINDOW, pmd, PTE_LEVEL - 2)


def window_pfns(added: Added) -> range:
    """Return the pfns of the pages at WINDOW."""
    step = added.own * PFNS_PER_LEAF // WINDOW_PAGES - 1  # odd: at all places in a leaf
    first = added.own_from * PFNS_PER_LEAF
    return range(first, first + WINDOW_PAGES * step, step)


def _publish(growth: Growth, found: Diagnosis, own: dict[int, int]) -> None:
    """Have the dump's list name the leaves ``own``, as far as it can."""
    top = found.hints.frame_list_mfn << PAGE_SHIFT
    for number in range(-(-min(len(own), NAMED) // LEAVES_PER_PAGE)):
        first = number * LEAVES_PER_PAGE
        mfns = [own.get(first + leaf, 0) for leaf in range(LEAVES_PER_PAGE)]
        page = growth.frame(struct.pack("<512Q", *mfns))
        growth.file.write(top + number * 8, page.to_bytes(8, "little"))


def _map_m2p(growth: Growth, base: int, added: Added) -> None:
    """Have Xen's m2p know the pfns of the frames from ``base`` on."""
    pfns = added.pfns()
    for first in range(base, base + added.frames, ENTRIES):
        page = growth.frame(struct.pack("<512Q", *(next(pfns) for _ in range(ENTRIES))))
        growth.map(MACH2PHYS_VIRT_START + first * 8, page)
    growth.set_variable("machine_to_phys_nr", base + added.frames)


def fragmented(dump: Dump, size: int) -> tuple[Dump, Dump]:
    """Return a dump grown to ``size`` bytes of fragmented memory, whole and truncated."""

    def make(folder: Path) -> None:
        for name in ("whole", "truncated"):
            (folder / name).mkdir()
        grown = Dump(dump.vmlinux, copy_of(dump, folder / "whole"))
        fragment(dump, grown.vmcore, size)
        truncate_list(grown, copy_of(grown, folder / "truncated"))

    name = f"fragmented-{size >> 30}-{dump.vmlinux.name.removeprefix('vmlinux-')}"
    folder = product(name, (2, str(dump.vmcore)), make)
    whole, broken = (folder / name / "vmcore" for name in ("whole", "truncated"))
    return Dump(dump.vmlinux, whole), Dump(dump.vmlinux, broken)
