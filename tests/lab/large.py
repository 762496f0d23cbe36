# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of made-up hosts as large as the largest: the tables that p2mfix reads, and no memory.

For a dom0 of 1 TiB that is 6 GiB on disk: 8 bytes for each page in the p2m, in the direct map and
in Xen's machine-to-phys table. Of Xen's frame table, 8 GiB, one piece stands for all others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pykdump_ext.p2m.entries import Kind
from pykdump_ext.p2m.m2p import MACH2PHYS_VIRT_START

from ..unit.made_up.core import EHDR, ET_CORE, IDENT_64_LITTLE, PHDR, PT_LOAD, PT_NOTE, note
from ..unit.made_up.host import ALLOCATED, FRAME_TABLE, Host
from ..unit.made_up.machine import (
    DIRECT_MAP,
    FLAGS,
    LARGE,
    P2M_AREA,
    PAGE,
    PMD,
    PTE,
    PUD,
    AddressSpace,
)
from ..unit.made_up.p2m import P2m
from ..unit.made_up.talkative import talkative

__all__ = ["write_large"]

Words = npt.NDArray[np.uint64]

REGION = 1 << 45  # machine address of the tables that are added
FRAMES_AT = 1 << 46  # machine address of the frame table
DATA = 1 << 22  # mfn of the first frame of dom0's memory above its first GiB
LARGE_P2M = 0xFFFFCA0000000000
GIB = 1 << 18  # pages
SCATTER = 0x9E3779B1  # odd, so that multiples of it modulo a power of 2 are all different
GROUP = 1 << 21  # bytes of the frame table
PIECE = 64  # groups that are in the file, and stand for all others
HEADERS = 1 << 20  # bytes of the file before its first page


class Region:
    """New frames of the machine, written to a file as they are made."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self.file = file
        self.offset = offset
        self.frames = 0

    def add(self, words: Words) -> int:
        """Write whole pages; return the mfn of the first."""
        mfn = REGION // PAGE + self.frames
        self.file.seek(self.offset + self.frames * PAGE)
        self.file.write(words.tobytes())
        self.frames += len(words) // 512
        return mfn

    def tables(self, entries: Words) -> Words:
        """Write page tables with these entries; return the entries that lead to them."""
        padded = np.zeros(-(-len(entries) // 512) * 512, np.uint64)
        padded[: len(entries)] = entries
        first = self.add(padded)
        return entries_of(np.arange(first, first + len(padded) // 512, dtype=np.uint64))


def entries_of(mfns: Words, flags: int = FLAGS) -> Words:
    return mfns << np.uint64(12) | np.uint64(flags)


def scattered(numbers: Words, count: int, back: bool = False) -> Words:
    """Return these numbers below ``count``, a power of 2, each far from its neighbours."""
    factor = pow(SCATTER, -1, count) if back else SCATTER
    return numbers * np.uint64(factor) & np.uint64(count - 1)


def parts(count: int) -> Iterator[Words]:
    """Yield the numbers below ``count``, 512 at a time."""
    for first in range(0, count, 512):
        yield np.arange(first, first + 512, dtype=np.uint64)


def of_pages(numbers: Words) -> Words:
    """Return the numbers of the 512 things of each of these pages."""
    words: Words = numbers.repeat(512) << np.uint64(9) | np.tile(
        np.arange(512, dtype=np.uint64), len(numbers)
    )
    return words


def hang(space: AddressSpace, vaddr: int, level: int, entries: Words) -> None:
    """Put entries of a level, for consecutive addresses from ``vaddr`` on, into page tables."""
    size = 1 << (30 if level == PUD else 21)
    for index, entry in enumerate(entries):
        space.set(vaddr + index * size, level, int(entry))


class Dom0:
    """A dom0 of ``count`` pages, and where each is: its first GiB as made up, the rest added."""

    def __init__(self, count: int, fragmented: bool) -> None:
        self.count = count
        self.fragmented = fragmented
        cells = [(Kind.MEMORY, (1 << 21) + i) for i in range(512)]
        self.guest = talkative(P2m(512, {0: cells}))
        self.space = self.guest.space

    def places(self, numbers: Words, count: int, back: bool = False) -> Words:
        """Return where these of ``count`` things are, or with ``back`` which things are there."""
        return scattered(numbers, count, back) if self.fragmented else numbers

    def pages(self, region: Region, flags: int | None = None) -> Words:
        """Add a page for every 512 pfns: the mfns, or with ``flags`` page-table entries.

        Return the mfn of each of these pages above the first GiB.
        """
        leaves = self.count // 512
        first = REGION // PAGE + region.frames
        for places in parts(leaves):
            pfns = of_pages(self.places(places, leaves, back=True))
            mfns = self.places(pfns, self.count) + np.uint64(DATA)
            region.add(mfns if flags is None else entries_of(mfns, flags))
        return self.places(np.arange(512, leaves, dtype=np.uint64), leaves) + np.uint64(first)

    def add_p2m(self, region: Region) -> int:
        """Add the p2m and a list of its first 512 GiB; return the mfn of the list."""
        leaves = self.pages(region)
        old = self.space.table(P2M_AREA, PTE)
        first = entries_of(np.array([old], np.uint64))
        pages = np.concatenate([first, region.tables(entries_of(leaves))])
        hang(self.space, LARGE_P2M, PMD, pages)
        listed = np.array(self.space.machine.words(old), np.uint64) << np.uint64(12)
        listed = np.concatenate([listed >> np.uint64(24), leaves])[: 512 * 512]
        tops = region.tables(listed) >> np.uint64(12)
        return int(region.tables(tops)[0] >> np.uint64(12))

    def add_direct_map(self, region: Region) -> None:
        """Add the direct map above the first GiB."""
        tables = entries_of(self.pages(region, FLAGS))
        hang(self.space, DIRECT_MAP + (GIB << 12), PUD, region.tables(tables))

    def add_m2p(self, region: Region) -> None:
        """Add the machine-to-phys table, in pages of 2 MiB, as Xen maps it."""
        first = -(-region.frames // 512) * 512
        region.frames = first
        for numbers in parts(self.count // 512):
            region.add(self.places(of_pages(numbers), self.count, back=True))
        mfns = np.arange(first, region.frames, 512, dtype=np.uint64) + np.uint64(REGION // PAGE)
        hang(self.space, MACH2PHYS_VIRT_START + DATA * 8, PMD, entries_of(mfns, FLAGS | LARGE))


def write_large(path: Path, size: int, fragmented: bool, machine: int = 0) -> None:
    """Write the dump of a host whose dom0 has ``size`` bytes, a power of 2 of at least 2 GiB.

    :param fragmented: pages that are neighbours in pfn space are not so in the machine, and
        neither are the leaves of the p2m and the page tables of the direct map.
    :param machine: the bytes of a machine whose frame table is in the dump as well: dom0 owns every
        frame of it, or, if it is fragmented, every second one.
    """
    dom0 = Dom0(size // PAGE, fragmented)
    host = Host(machine=dom0.guest.machine)
    with path.open("wb") as file:
        region = Region(file, HEADERS)
        host.list_mfn = dom0.add_p2m(region)
        dom0.add_direct_map(region)
        dom0.add_m2p(region)
        host.cr3s = [dom0.guest.root]
        owner = host.add(0, (dom0.count, host.list_mfn, 0, dom0.guest.root, LARGE_P2M))
        host.give(owner, dom0.space.root, level=4)
        loads = [(REGION, HEADERS, region.frames * PAGE)]
        end = HEADERS + region.frames * PAGE
        if machine:
            loads += add_frame_table(file, end, host, owner, machine // PAGE, fragmented)
            end += PIECE * GROUP
        for mfn, page in sorted(host.memory().pages.items()):
            file.seek(end)
            file.write(page)
            loads.append((mfn * PAGE, end, PAGE))
            end += PAGE
        write_headers(file, end, loads, host)


def add_frame_table(
    file: BinaryIO, at: int, host: Host, owner: int, frames: int, fragmented: bool
) -> list[tuple[int, int, int]]:
    """Write a piece of the frame table, map all of it, and return the segments that show it."""
    entries = np.zeros((PIECE * GROUP // 32, 4), np.uint64)
    entries[:, 1] = ALLOCATED | 1
    entries[:, 3] = owner
    if fragmented:
        entries[::2, 3] = 0
    file.seek(at)
    file.write(entries.tobytes())
    host.table = bytearray(host.table.ljust(GROUP, b"\0"))
    host.machine.put(host.variables, 2, frames)
    first, last = DATA * 32 // GROUP, frames * 32 // GROUP
    mfns = np.arange(first, last, dtype=np.uint64) * np.uint64(512) + np.uint64(FRAMES_AT // PAGE)
    hang(host.xen, FRAME_TABLE + first * GROUP, PMD, entries_of(mfns, FLAGS | LARGE))
    return [
        (FRAMES_AT + group * GROUP, at, min(PIECE, last - group) * GROUP)
        for group in range(first, last, PIECE)
    ]


def write_headers(file: BinaryIO, end: int, loads: list[tuple[int, int, int]], host: Host) -> None:
    """Write the notes behind a core file, and its headers at its begin."""
    notes = b"".join(note(one.owner.encode(), one.type, one.data) for one in host.notes())
    count = len(loads) + 1
    assert EHDR.size + count * PHDR.size <= HEADERS
    file.seek(end)
    file.write(notes)
    file.seek(0)
    file.write(
        EHDR.pack(IDENT_64_LITTLE, ET_CORE, 62, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size,
                  count, 0, 0, 0)
    )  # fmt: skip
    file.write(PHDR.pack(PT_NOTE, 4, end, 0, 0, len(notes), len(notes), 0))
    for maddr, offset, size in loads:
        file.write(PHDR.pack(PT_LOAD, 4, offset, 0, maddr, size, size, 0))


if __name__ == "__main__":  # PATH GIB_OF_DOM0 GIB_OF_THE_MACHINE [fragmented]
    path, size, machine, *how = sys.argv[1:]
    write_large(Path(path), int(size) << 30, "fragmented" in how, int(machine) << 30)
