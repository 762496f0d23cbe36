# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up machine with Xen in it: its list of domains, its frame table, what they publish."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.machine.notes import Note
from pykdump_ext.p2m.entries import Kind
from pykdump_ext.xen.domains import Xen, open_xen
from pykdump_ext.xen.notes import XEN_ELFNOTE_CRASH_INFO, XEN_ELFNOTE_CRASH_REGS
from pykdump_ext.xen.shared_info import LIST_INVALID

from .guest import Guest, guest_with
from .machine import P2M_AREA, PAGE, AddressSpace, Machine
from .p2m import P2M, P2m
from .talkative import map_text, talkative

IMAGE = 0xFFFF82D040000000
FRAME_TABLE = 0xFFFF82E000000000
DIRECT_MAP = 0xFFFF830000000000
BIGMEM_DIRECT_MAP = 0xFFFF848000000000
PAGES = 128  # of the frame table
GROUP = 512  # pages of it that are there or are not
TABLE_MFN = 0x100000
ALLOCATED, XEN_HEAP = 1 << 63, 1 << 62
PINNED = 1 << 59
ARCH = 2048 + 1024 + 16
NEXT_AT = 136


@dataclass
class Build:
    """What differs between builds of Xen."""

    version: tuple[int, int] = (4, 17)
    size: int = 32  # of struct page_info
    owner_at: int = 24
    owner_format: str = "<I"
    direct_map: int = DIRECT_MAP
    type_shift: int = 61
    shared_at: int = 16  # in struct domain
    offset: int = 0  # of a frame's number from its index in the frame table


DEFAULT = Build()
BIGMEM = Build(size=48, owner_at=32, owner_format="<Q", direct_map=BIGMEM_DIRECT_MAP)


@dataclass
class Host:
    """A machine with Xen in it, and domains."""

    build: Build = field(default_factory=Build)
    machine: Machine = field(default_factory=Machine)
    list_mfn: int = 0x99  # of dom0's list, in Xen's note

    def __post_init__(self) -> None:
        self.xen = AddressSpace(self.machine)
        self.variables = self.machine.frame()
        self.xen.map(IMAGE + 0x5000, self.variables)
        self.table = bytearray(PAGES * PAGE)
        self.holes: set[int] = set()
        self.domains: list[int] = []
        self.cr3s: list[int] = []
        self.vmcoreinfo = {
            "SYMBOL(domain_list)": f"{IMAGE + 0x5000:x}",
            "SYMBOL(frame_table)": f"{IMAGE + 0x5008:x}",
            "SYMBOL(max_page)": f"{IMAGE + 0x5010:x}",
            "SYMBOL(pgd_l4)": f"{IMAGE + 0x7000:x}",
            "SIZE(page_info)": str(self.build.size),
            "SIZE(domain)": "2304",
            "OFFSET(page_info.count_info)": str(self.build.owner_at - 16),
            "OFFSET(page_info._domain)": str(self.build.owner_at),
            "OFFSET(domain.domain_id)": "0",
            "OFFSET(domain.next_in_list)": str(NEXT_AT),
        }
        self.machine.put(self.variables, 1, FRAME_TABLE)
        self.machine.put(self.variables, 2, len(self.table) // self.build.size)

    def direct(self, mfn: int) -> int:
        """Map a frame where Xen has it, and return the address."""
        vaddr = self.build.direct_map + (mfn - self.build.offset) * PAGE
        self.xen.map(vaddr, mfn)
        return vaddr

    def page_info(self, mfn: int, count_info: int, type_info: int, owner: int) -> None:
        at = (mfn - self.build.offset) * self.build.size
        struct.pack_into("<QQ", self.table, at + self.build.owner_at - 16, count_info, type_info)
        struct.pack_into(self.build.owner_format, self.table, at + self.build.owner_at, owner)

    def add(self, number: int, shared: tuple[int, ...] | None = ()) -> int:
        """Add a domain to the end of the list; return its index in the frame table."""
        mfn = self.machine.frame()
        vaddr = self.direct(mfn)
        self.machine.pages[mfn][:2] = number.to_bytes(2, "little")
        if self.domains:
            self.machine.put(self.domains[-1], NEXT_AT // 8, vaddr)
        else:
            self.machine.put(self.variables, 0, vaddr)
        self.domains.append(mfn)
        index = mfn - self.build.offset
        if shared is not None:
            page = self.machine.frame()
            struct.pack_into(f"<{len(shared)}Q", self.machine.pages[page], ARCH, *shared)
            self.page_info(page, ALLOCATED | XEN_HEAP | 2, 0, index)
            self.machine.put(mfn, self.build.shared_at // 8, self.direct(page))
        return index

    def give(self, owner: int, mfn: int, level: int = 0) -> None:
        """Let a domain own a frame, which may be a page table of it."""
        kind = level << self.build.type_shift | (PINNED | 1 if level else 0)
        self.page_info(mfn, ALLOCATED | 1, kind, owner)
        self.direct(mfn)

    def heap(self, owner: int | None = None) -> int:
        """Return the mfn of a new page of Xen's heap.

        :param owner: the index of a domain that shares it; without one PFN_ORDER is there.
        """
        mfn = self.machine.frame()
        shared = 0 if owner is None else 2
        self.page_info(mfn, ALLOCATED | XEN_HEAP | shared, 0, 1 if owner is None else owner)
        self.direct(mfn)
        return mfn

    def notes(self) -> list[Note]:
        text = "PAGESIZE=4096\n" + "".join(f"{k}={v}\n" for k, v in self.vmcoreinfo.items())
        info = (*self.build.version, 0, 0, 0, 0, 0, 1, self.xen.root * PAGE - 0x7000, self.list_mfn)
        return [
            *(
                Note("Xen", XEN_ELFNOTE_CRASH_REGS, struct.pack("<4Q", 0, 0, cr3, 0))
                for cr3 in self.cr3s
            ),
            Note("Xen", XEN_ELFNOTE_CRASH_INFO, struct.pack("<10Q", *info)),
            Note("VMCOREINFO_XEN", 0, text.encode().ljust(4068, b"\0")),
        ]

    def memory(self) -> PageMemory:
        """Return the machine's memory, the frame table in it."""
        for page in range(len(self.table) // PAGE):
            part = self.table[page * PAGE : page * PAGE + PAGE]
            if page // GROUP not in self.holes:
                self.machine.pages[TABLE_MFN + page] = part
                self.xen.map(FRAME_TABLE + page * PAGE, TABLE_MFN + page)
        return self.machine.memory()

    def open(self) -> Xen:
        return open_xen(self.memory(), self.notes())


def dom0_on_host() -> tuple[Host, Guest, Guest]:
    """Return a host, its dom0, whose list ends early, and its domain 1, which has no list.

    Of two cpus the first ran domain 1.
    """
    dom0 = talkative(P2M)
    host = Host(machine=dom0.machine, list_mfn=dom0.list_mfn)
    guest = Guest(host.machine, b"Linux version 6.6.6-guest (builder@example)\n")
    own = {0: [(Kind.MEMORY, 2**30 + i) for i in range(512)]}
    guest.plant("linear", P2m(1000, own))
    guest.direct_map(P2m(1000, own).memory())
    map_text(guest)
    for number, kernel, max_pfn, list_mfn in (
        (0, dom0, 512, dom0.list_mfn),
        (1, guest, 1000, LIST_INVALID),
    ):
        index = host.add(number, (max_pfn, list_mfn, 0, kernel.root, P2M_AREA))
        host.give(index, kernel.space.root, level=4)
    host.cr3s = [guest.root, dom0.root]
    return host, dom0, guest


def guest_on_host() -> tuple[Host, Guest, int]:
    """Return a host with dom0, and domain 1 with a kernel that publishes no list."""
    p2m = P2m(1000, {0: [(Kind.MEMORY, 2**30 + i) for i in range(512)]})
    guest, planted = guest_with("linear", p2m)
    host = Host(machine=guest.machine)
    host.add(0, (0x8000, 0x99))
    index = host.add(1, (1000, LIST_INVALID, 0, guest.root, 0xFFFFC90000000000))
    host.give(index, guest.space.root, level=4)
    return host, guest, planted.leaves[0]
