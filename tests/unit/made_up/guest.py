# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel in a made-up machine: its data, its p2m as each layout keeps it, its list."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

from pykdump_ext.machine.notes import Note
from pykdump_ext.xen.hints import DomainHints, hints_from_note
from pykdump_ext.xen.notes import (
    XEN_ELFNOTE_CRASH_INFO,
    XEN_ELFNOTE_CRASH_REGS,
    CrashNote,
)

from .machine import (
    BANNER,
    DIRECT_MAP,
    FLAGS,
    GLOBAL_PAT,
    KERNEL_DATA,
    KERNEL_MAP,
    NO_EXECUTE,
    NOTHING,
    OLD_DIRECT_MAP,
    P2M_AREA,
    PAGE,
    PMD,
    PRESENT,
    AddressSpace,
    Machine,
    SymbolTable,
)
from .p2m import P2m, entry_of


@dataclass
class Planted:
    """Where a p2m was put: mfns of its pages, and which frames its tables are in."""

    leaves: dict[int, int]
    missing: int | None = None
    identity: int | None = None
    frames: list[int] = field(default_factory=list)

    def leaf(self, index: int, missing: int) -> int:
        """Return the mfn of leaf ``index`` in a correct list; ``missing`` where nothing is."""
        return self.leaves.get(index, missing)


class Guest:
    """A kernel in a machine: page tables, data, symbols."""

    def __init__(self, machine: Machine, banner: bytes = BANNER) -> None:
        self.machine = machine
        self.space = AddressSpace(machine)
        self.symbols = SymbolTable()
        self.banner = banner
        self.list_mfn = 0
        self._data = KERNEL_DATA
        self.place("linux_banner", banner + b"\0", PAGE - 20)  # across two pages

    def copy(self) -> Guest:
        """Return a guest like this one, which can be changed without it."""
        copied = copy(self)
        copied.machine = self.machine.copy()
        copied.space = self.space.copy(copied.machine)
        copied.symbols = SymbolTable(self.symbols)
        return copied

    @property
    def root(self) -> int:
        """The machine address of the top page table."""
        return self.space.root * PAGE

    def place(self, name: str, data: bytes, offset: int = 0) -> int:
        """Put ``data`` in new pages of kernel data and return its address."""
        vaddr = self._data + offset
        for at in range(0, offset + len(data), PAGE):
            mfn = self.machine.frame()
            start = offset if at == 0 else 0
            part = data[at + start - offset : at + PAGE - offset]
            self.machine.pages[mfn][start : start + len(part)] = part
            self.space.map(self._data, mfn)
            self._data += PAGE
        self._data += PAGE  # a hole
        self.symbols[name] = vaddr
        return vaddr

    def variable(self, name: str, value: int) -> None:
        self.place(name, struct.pack("<Q", value), 0x7F8)

    def page(self, words: Sequence[int]) -> tuple[int, int]:
        """Return the address and the mfn of a new page of kernel data without a symbol."""
        vaddr = self.place("", struct.pack(f"<{len(words)}Q", *words).ljust(PAGE, b"\0"))
        del self.symbols[""]
        return vaddr, (self.space.maddr(vaddr) or 0) // PAGE

    def plant(self, layout: str, p2m: P2m, max_pfn_name: str = "max_pfn") -> Planted:
        """Put ``p2m`` in this kernel, as kernels with ``layout`` keep it."""
        self.variable(max_pfn_name, p2m.max_pfn)
        plant = {
            "flat": self._plant_flat,
            "two-level": self._plant_two_levels,
            "three-level": self._plant_three_levels,
            "linear": self._plant_linear,
        }[layout]
        return plant(p2m)

    @staticmethod
    def _words(p2m: P2m, leaf: int) -> list[int]:
        return [entry_of(cell, leaf * 512 + i) for i, cell in enumerate(p2m.own[leaf])]

    def _plant_flat(self, p2m: P2m) -> Planted:
        """Every leaf is one of its own."""
        self.variable("phys_to_machine_mapping", P2M_AREA)
        planted = Planted({})
        for leaf in range(p2m.leaf_total):
            planted.leaves[leaf] = self.machine.frame(self._words(p2m, leaf))
            self.space.map(P2M_AREA + leaf * PAGE, planted.leaves[leaf])
        return planted

    def _plant_two_levels(self, p2m: P2m) -> Planted:
        missing = self.place("p2m_missing", struct.pack("<Q", NOTHING) * 512)
        planted = Planted({}, (self.space.maddr(missing) or 0) // PAGE)
        pointers = [missing] * p2m.leaf_total
        for leaf in p2m.own:
            pointers[leaf], planted.leaves[leaf] = self.page(self._words(p2m, leaf))
        top = self.place("p2m_top", struct.pack(f"<{len(pointers)}Q", *pointers))
        planted.frames = [
            (self.space.maddr(top + at) or 0) // PAGE for at in range(0, len(pointers) * 8, PAGE)
        ]
        return planted

    def _plant_three_levels(self, p2m: P2m) -> Planted:
        missing, missing_mfn = self.page([NOTHING] * 512)
        identity, identity_mfn = self.page([NOTHING] * 512)
        mid_missing, mid_missing_mfn = self.page([missing] * 512)
        planted = Planted({}, missing_mfn, identity_mfn, [mid_missing_mfn])
        top = [mid_missing] * 512
        for mid in sorted({leaf // 512 for leaf in (*p2m.own, *p2m.identity)}):
            pointers = [missing] * 512
            for i in range(512):
                leaf = mid * 512 + i
                if leaf in p2m.own:
                    pointers[i], planted.leaves[leaf] = self.page(self._words(p2m, leaf))
                elif leaf in p2m.identity:
                    pointers[i] = identity
            top[mid], mfn = self.page(pointers)
            planted.frames.append(mfn)
        top_vaddr, mfn = self.page(top)
        planted.frames.append(mfn)
        self.variable("p2m_top", top_vaddr)
        self.variable("p2m_mid_missing", mid_missing)
        self.variable("p2m_missing", missing)
        self.variable("p2m_identity", identity)
        return planted

    def _plant_linear(self, p2m: P2m) -> Planted:
        missing, missing_mfn = self.page([NOTHING] * 512)
        identity, identity_mfn = self.page([NOTHING] * 512)
        planted = Planted({}, missing_mfn, identity_mfn)
        all_missing = self.machine.frame([missing_mfn * PAGE | PRESENT | NO_EXECUTE] * 512)
        all_identity = self.machine.frame([identity_mfn * PAGE | PRESENT | NO_EXECUTE] * 512)
        planted.frames = [all_missing, all_identity]
        wanted = {leaf // 512 for leaf in (*p2m.own, *p2m.identity)}
        for group in range((p2m.leaf_total + 511) // 512):
            leaves = range(group * 512, group * 512 + 512)
            vaddr = P2M_AREA + group * 512 * PAGE
            if group not in wanted:
                self.space.set(vaddr, PMD, all_missing * PAGE | FLAGS)
            elif p2m.identity.issuperset(leaves):
                self.space.set(vaddr, PMD, all_identity * PAGE | FLAGS)
            else:
                for i, leaf in enumerate(leaves):
                    shared = identity_mfn if leaf in p2m.identity else missing_mfn
                    if leaf in p2m.own:
                        planted.leaves[leaf] = self.machine.frame(self._words(p2m, leaf))
                    mfn = planted.leaves.get(leaf, shared)
                    self.space.map(vaddr + i * PAGE, mfn, extra=NO_EXECUTE | GLOBAL_PAT)
        self.variable("xen_p2m_addr", P2M_AREA)
        self.variable("xen_p2m_size", (p2m.leaf_total + 511) // 512 * 512 * 512)
        self.variable("p2m_missing", missing)
        self.variable("p2m_identity", identity)
        return planted

    def direct_map(self, memory: Mapping[int, int], base: int = DIRECT_MAP) -> None:
        """Map every pfn of ``memory`` (pfn to mfn) where the kernel has its direct map."""
        if base != OLD_DIRECT_MAP:
            self.variable("page_offset_base", base)
        else:  # a kernel without the variable is known by its text in the map
            text = self.symbols["linux_banner"]
            text_mfn = (self.space.maddr(text) or 0) // PAGE
            self.space.map(base + (text - KERNEL_MAP) // PAGE * PAGE, text_mfn)
        for pfn, mfn in memory.items():
            self.space.map(base + pfn * PAGE, mfn, extra=NO_EXECUTE)

    def publish(self, p2m: P2m, planted: Planted, leaves: int | None = None) -> list[int]:
        """Publish the list, of the first ``leaves`` leaves only if told so.

        What follows is missing, as it is in the page that a kernel begins with.
        The mfns of the pages that were written are returned; the first is the
        one to tell crash.
        """
        count = p2m.leaf_total if leaves is None else leaves
        missing = planted.missing or 0
        mid_missing = self.machine.frame([missing] * 512) if planted.missing else 0
        tops = [mid_missing] * 512
        for top in range(min(512, (count + 511) // 512)):
            numbers = range(top * 512, top * 512 + 512)
            words = [planted.leaf(n, missing) if n < count else missing for n in numbers]
            tops[top] = self.machine.frame(words)
        self.list_mfn = self.machine.frame(tops)
        return [self.list_mfn, *tops[: (count + 511) // 512]]

    def notes(self, *cr3s: int) -> list[Note]:
        """Return Xen's notes of a dump; by default one cpu ran this kernel."""
        regs = [struct.pack("<4Q", 0, 0, cr3, 0) for cr3 in cr3s or (self.root,)]
        info = struct.pack("<10Q", 4, 17, *[0] * 7, self.list_mfn)
        return [
            *(Note("Xen", XEN_ELFNOTE_CRASH_REGS, words) for words in regs),
            Note("Xen", XEN_ELFNOTE_CRASH_INFO, info),
        ]

    def hints(self, *cr3s: int) -> DomainHints:
        """Return the hints that Xen's notes would give; by default one cpu ran this kernel."""
        return hints_from_note(CrashNote("4.17", self.list_mfn, cr3s or (self.root,), 0))


def guest_with(layout: str, p2m: P2m, leaves_published: int | None = None) -> tuple[Guest, Planted]:
    """Return a whole guest: kernel, p2m, direct map, list."""
    guest = Guest(Machine())
    planted = guest.plant(layout, p2m)
    old = layout in ("flat", "two-level")
    guest.direct_map(p2m.memory(), OLD_DIRECT_MAP if old else DIRECT_MAP)
    guest.publish(p2m, planted, leaves_published)
    return guest, planted
