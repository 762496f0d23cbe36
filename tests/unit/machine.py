"""A machine, made up: sparse machine memory with a Xen PV kernel in it.

The tests' own idea of what such memory looks like.  It shares no code with the
package: page tables, p2m and list are written here from their definitions
(Intel SDM volume 3; ``arch/x86/xen/p2m.c``), and what was written is
remembered, so that tests can say what is true without reading it back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.machine.notes import Note
from pykdump_ext.p2m.entries import Kind
from pykdump_ext.xen.hints import DomainHints, hints_from_note
from pykdump_ext.xen.notes import CrashNote

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

KERNEL_MAP = 0xFFFFFFFF80000000
KERNEL_DATA = 0xFFFFFFFF81C00000
DIRECT_MAP = 0xFFFF888000000000
OLD_DIRECT_MAP = 0xFFFF880000000000
KERNEL_MAP = 0xFFFFFFFF80000000
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
        data = b"".join(word.to_bytes(8, "little") for word in words)
        self.pages[mfn] = bytearray(data.ljust(PAGE, b"\0"))
        return mfn

    def put(self, mfn: int, index: int, word: int) -> None:
        struct.pack_into("<Q", self.pages[mfn], index * 8, word)

    def get(self, mfn: int, index: int) -> int:
        return int(struct.unpack_from("<Q", self.pages[mfn], index * 8)[0])

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
        return vaddr // (PAGE, PAGE * 512, PAGE * 512**2, PAGE * 512**3)[PTE - level] % 512

    def table(self, vaddr: int, level: int) -> int:
        """Return the mfn of the table of ``level`` for ``vaddr``, new if need be."""
        table = self.root
        for upper in range(level):
            index = self.index(vaddr, upper)
            if not self.machine.get(table, index):
                self.tables.append(self.machine.frame())
                self.machine.put(table, index, self.tables[-1] * PAGE + FLAGS + 4)
            table = self.machine.get(table, index) // PAGE % 2**40
        return table

    def set(self, vaddr: int, level: int, entry: int) -> None:
        """Write the entry of ``level`` for ``vaddr``, whatever it is."""
        self.machine.put(self.table(vaddr, level), self.index(vaddr, level), entry)

    def map(self, vaddr: int, mfn: int, level: int = PTE, extra: int = 0) -> None:
        """Map a page of 4 KiB, or 2 MiB (PMD), or 1 GiB (PUD)."""
        large = LARGE if level != PTE else 0
        self.set(vaddr, level, mfn * PAGE | FLAGS | large | extra)
        self.mapped[vaddr, SIZES[level]] = mfn * PAGE

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


Cell = tuple[Kind, int]  # the int is an mfn, for memory and foreign frames


def entry_of(cell: Cell, pfn: int) -> int:
    """Return the word that stands in a leaf for ``cell``."""
    kind, mfn = cell
    return {
        Kind.MEMORY: mfn,
        Kind.MISSING: NOTHING,
        Kind.IDENTITY: pfn | IDENTITY_BIT,
        Kind.FOREIGN: mfn | FOREIGN_BIT,
    }[kind]


@dataclass
class P2m:
    """What a p2m says.

    ``own`` has the leaves with a page of their own, 512 cells each.  Those in
    ``identity`` are the shared identity page; all others the missing one.
    """

    max_pfn: int
    own: dict[int, list[Cell]] = field(default_factory=dict)
    identity: frozenset[int] = frozenset()

    @property
    def leaf_total(self) -> int:
        return (self.max_pfn + 511) // 512

    def pfns_in(self, leaf: int) -> int:
        """Return how many pfns below ``max_pfn`` leaf number ``leaf`` has."""
        return min(512, self.max_pfn - leaf * 512)

    def cell(self, pfn: int) -> Cell:
        leaf = pfn // 512
        if leaf in self.own:
            return self.own[leaf][pfn % 512]
        return (Kind.IDENTITY if leaf in self.identity else Kind.MISSING, 0)

    def memory(self) -> dict[int, int]:
        """Return the mfn of every pfn that is memory."""
        return {
            leaf * 512 + i: mfn
            for leaf, cells in self.own.items()
            for i, (kind, mfn) in enumerate(cells[: self.pfns_in(leaf)])
            if kind is Kind.MEMORY
        }

    @property
    def leaves_with_memory(self) -> list[int]:
        return sorted({pfn // 512 for pfn in self.memory()})

    def count(self, kind: Kind) -> int:
        """Return how many pfns are of ``kind``."""
        total = sum(
            1
            for leaf, cells in self.own.items()
            for cell in cells[: self.pfns_in(leaf)]
            if cell[0] is kind
        )
        for leaf in range(self.leaf_total):
            if leaf not in self.own:
                shared = Kind.IDENTITY if leaf in self.identity else Kind.MISSING
                total += self.pfns_in(leaf) if shared is kind else 0
        return total


def random_cells(random: Random, kinds: Sequence[Kind] = tuple(Kind)) -> list[Cell]:
    """Return a leaf's worth of cells of these kinds, in runs, as memory comes."""
    cells: list[Cell] = []
    while len(cells) < 512:
        kind = random.choice(kinds)
        cells += [(kind, random.randrange(2**20, 2**40)) for _ in range(random.randrange(1, 90))]
    return cells[:512]


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


@dataclass
class MadeUpDump:
    """A made-up machine's memory with notes, as a dump has them."""

    memory: PageMemory
    notes: list[Note]
    format: str = "made up"

    def read(self, maddr: int, size: int, what: str) -> bytes:
        return self.memory.read(maddr, size, what)
