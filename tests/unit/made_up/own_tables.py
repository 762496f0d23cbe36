# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up domain whose page tables are in its own memory, as those of a real one are."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import cast

from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.native.memory import USER, NativeMemory
from pykdump_ext.p2m.diagnosis import Diagnosis, diagnose
from pykdump_ext.p2m.entries import Kind
from pykdump_ext.p2m.m2p import MACH2PHYS_VIRT_START
from pykdump_ext.xen.frame_table import FrameTable

from .guest import Guest, guest_with
from .machine import DIRECT_MAP, KERNEL_MAP, NO_EXECUTE, PAGE, PRESENT, PTE, AddressSpace
from .p2m import Cell, P2m

TOP = KERNEL_MAP + 0x1000000
FIRST, STEP = 0x1000, 7  # frames of a made-up machine
OTHER_DOMAIN = 0x500000  # mfn
DEVICE = 0xFEE00  # mfn, above the p2m
READ_ONLY = 0x61  # present, accessed, dirty
LAST = 1024


@dataclass
class Frames:
    """A frame table that knows which frames are page tables."""

    tables: set[int]
    asked: int = 0

    def is_page_table(self, mfn: int) -> bool:
        self.asked += 1
        return mfn in self.tables

    def page_tables(self) -> set[int]:
        return self.tables


class Domain:
    """A domain: its kernel, a process, and what maps to what."""

    def __init__(self, seed: int, m2p: bool) -> None:
        self.random = random = Random(seed)
        frames = [FIRST + STEP * i for i in range(512)]
        random.shuffle(frames)
        cells: list[Cell] = [(Kind.MEMORY, mfn) for mfn in frames]
        more: list[Cell] = [
            random.choice([(Kind.IDENTITY, 0), (Kind.MISSING, 0), (Kind.FOREIGN, OTHER_DOMAIN + i)])
            for i in range(512)
        ]
        self.p2m = P2m(LAST, {0: cells, 1: more})
        self.guest, _ = guest_with("linear", self.p2m, 2)
        self.tell_vmcoreinfo()
        machine = self.guest.machine
        for i in range(512):
            machine.pages[OTHER_DOMAIN + i] = bytearray(b"other %3d" % i).ljust(PAGE, b"\0")
        while machine._next < FIRST + STEP * 250:  # the rest is for tables
            mfn = machine.frame()
            machine.pages[mfn][:] = random.randbytes(PAGE)
        self.process = AddressSpace(machine)
        for _ in range(60):
            self.process.map(random.randrange(1 << 35) * PAGE, self.any_frame(), extra=4)
        if m2p:
            self.write_m2p(frames)
        assert machine._next < FIRST + STEP * 500
        while machine._next < FIRST + STEP * 512:
            machine.frame([random.getrandbits(63) | 1])
        self.tables = {*self.guest.space.tables, *self.process.tables}
        for pfn, mfn in enumerate(frames):
            if mfn in self.tables:
                entry = mfn * PAGE | READ_ONLY | NO_EXECUTE
                self.guest.space.set(DIRECT_MAP + pfn * PAGE, PTE, entry)
        for table in self.tables:  # Xen marks each present entry
            for index, entry in enumerate(machine.words(table)):
                if entry & PRESENT:
                    machine.put(table, index, entry | USER)

    def tell_vmcoreinfo(self) -> None:
        """Let the kernel have what tools want of it: vmcoreinfo, its text, its own top table."""
        guest = self.guest
        guest.space.map(TOP, guest.space.root)
        text = f"OSRELEASE=5.4.17-test\nSYMBOL(swapper_pg_dir)={TOP:x}\nNUMBER(phys_base)=0\n"
        guest.place("vmcoreinfo_data", text.encode())
        guest.variable("vmcoreinfo_size", len(text))
        guest.variable("xen_start_info", 0xFFFF888000001000)
        guest.symbols.update(_text=TOP, _end=TOP + 5 * PAGE)

    def any_frame(self) -> int:
        kind = self.random.randrange(4)
        if kind == 0:
            return OTHER_DOMAIN + self.random.randrange(512)
        if kind == 1:
            return DEVICE
        pfn = self.random.randrange(LAST)
        cell = self.p2m.cell(pfn)
        return pfn if cell[0] is Kind.IDENTITY else cell[1] or DEVICE

    def write_m2p(self, frames: list[int]) -> None:
        """Write Xen's table, which has the pfns of other domains as well."""
        words: dict[int, list[int]] = {}
        for mfn in range(FIRST, FIRST + STEP * 512):
            words.setdefault(mfn // 512, [(1 << 64) - 1] * 512)[mfn % 512] = mfn % 300
        for pfn, mfn in enumerate(frames):
            words[mfn // 512][mfn % 512] = pfn
        for number, page in words.items():
            there = 0x700000 + number
            self.guest.machine.pages[there] = bytearray(
                b"".join(word.to_bytes(8, "little") for word in page)
            )
            self.guest.space.map(MACH2PHYS_VIRT_START + number * PAGE, there)

    def diagnosis(self, memory: PageMemory) -> Diagnosis:
        guest: Guest = self.guest
        return diagnose(memory, guest.symbols, guest.banner, guest.hints(guest.root))

    def native(self, frames: Frames | None, memory: PageMemory | None = None) -> NativeMemory:
        found = self.diagnosis(memory or self.guest.machine.memory())
        return NativeMemory(found, cast("FrameTable | None", frames))
