"""The domains of a host, in a synthetic Xen: its list, its frame table, what domains publish."""

from __future__ import annotations

import argparse
import json
import struct
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest

from pykdump_ext.cli import domains as cli
from pykdump_ext.cli.p2mfix import main
from pykdump_ext.errors import P2mError
from pykdump_ext.linux.kernel import Root
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.machine.notes import Note
from pykdump_ext.opened import OpenedDump
from pykdump_ext.p2m.diagnosis import diagnose
from pykdump_ext.p2m.entries import Kind
from pykdump_ext.xen.domains import Domain, Xen, open_xen
from pykdump_ext.xen.hints import DomainHints, hints_of_guest
from pykdump_ext.xen.notes import XEN_ELFNOTE_CRASH_INFO, XEN_ELFNOTE_CRASH_REGS
from pykdump_ext.xen.shared_info import LIST_INVALID

from .machine import PAGE, AddressSpace, Guest, Machine, MadeUpDump, P2m, guest_with


def hints_of(memory: PageMemory, notes: list[Note], domain: int) -> DomainHints:
    return OpenedDump(MadeUpDump(memory, notes), domain=domain).hints


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

    def notes(self) -> list[Note]:
        text = "PAGESIZE=4096\n" + "".join(f"{k}={v}\n" for k, v in self.vmcoreinfo.items())
        info = (*self.build.version, 0, 0, 0, 0, 0, 1, self.xen.root * PAGE - 0x7000, 0x99)
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


def two_domains(host: Host) -> tuple[Domain, Domain]:
    first, second = host.open().domains()
    return first, second


# The list


def test_domains_are_found_in_the_order_of_xens_list() -> None:
    host = Host()
    for number in (0, 7, 3):
        host.add(number)
    assert [domain.id for domain in host.open().domains()] == [0, 7, 3]
    assert host.open().domain(3).id == 3
    with pytest.raises(P2mError, match=r"^the Xen host has no domain 4; it has 0, 3, 7$"):
        host.open().domain(4)


@pytest.mark.parametrize("shared_at", [8, 16, 64, 128])
def test_what_a_domain_publishes_is_found_wherever_the_pointer_to_it_is(shared_at: int) -> None:
    host = Host(replace(DEFAULT, shared_at=shared_at))
    host.add(0, (0x8000, 0x1234, 77, 0x5000, 0xFFFFC90000000000))
    host.add(1, (0x4000, LIST_INVALID, 0, 0x6000, 0xFFFFC90000001000))
    first, second = (domain.shared for domain in two_domains(host))
    assert first is not None and second is not None
    assert (first.max_pfn, first.frame_list_mfn, first.p2m_cr3) == (0x8000, 0x1234, 0x5000)
    assert first.has_list and not second.has_list
    assert (second.p2m_cr3, second.p2m_vaddr) == (0x6000, 0xFFFFC90000001000)


def test_a_page_of_another_domain_or_of_the_domains_own_memory_is_not_its_shared_info() -> None:
    host = Host()
    first, second = host.add(0, None), host.add(1)
    others, own = host.machine.frame(), host.machine.frame()
    host.page_info(others, ALLOCATED | XEN_HEAP | 1, 0, second)
    host.give(first, own)
    host.machine.put(host.domains[0], 2, host.direct(others))
    host.machine.put(host.domains[0], 3, host.direct(own))
    host.machine.put(host.domains[0], 4, 0xFFFF82D040400000)  # no page of the direct map
    zero, one = two_domains(host)
    assert zero.shared is None
    assert one.shared is not None


@pytest.mark.parametrize("build", [DEFAULT, BIGMEM, replace(DEFAULT, offset=0x800)])
def test_builds_of_xen(build: Build) -> None:
    """Owners of 4 and of 8 bytes, and frame numbers that are compressed."""
    host = Host(build)
    index = host.add(0, (0x8000, 0x1234))
    frames = [host.machine.frame() for _ in range(5)]
    for number, mfn in enumerate(frames):
        host.give(index, mfn, level=4 if number == 3 else 0)
    xen = host.open()
    found = xen.owned(list(xen.domains()))
    assert (found[0].pages, found[0].roots, found[0].kind) == (5, [frames[3]], "PV")
    shared = xen.domain(0).shared
    assert shared is not None and shared.frame_list_mfn == 0x1234
    assert xen.owner(frames[0] * PAGE) == (None if build.offset else 0)


# The frame table


def test_pages_and_kinds() -> None:
    host = Host()
    kinds = {0: "PV", 1: "HVM", 2: "PV, 32 bits", 3: "unknown"}
    levels = {0: (4, 1), 1: (0, 0, 0, 0, 0, 0), 2: (3, 0, 0, 0, 0), 3: ()}
    for number in kinds:
        index = host.add(number)
        for level in levels[number]:
            host.give(index, host.machine.frame(), level)
    free, freed = host.machine.frame(), host.machine.frame()
    host.page_info(free, 3 << 58, 0, 9)  # its order, and not an owner
    host.page_info(freed, 1, 0, host.domains[0])  # given back, and still mapped somewhere
    xen = host.open()
    found = xen.owned(list(xen.domains()))
    assert {number: one.kind for number, one in found.items()} == kinds
    assert [found[number].pages for number in kinds] == [2, 6, 5, 0]


def test_a_hole_in_the_frame_table_is_passed_over() -> None:
    host = Host()
    host.table = bytearray((2 * GROUP + 1) * PAGE)
    host.holes = {1}
    host.machine.put(host.variables, 2, len(host.table) // 32)
    index = host.add(0)
    host.give(index, host.machine.frame())
    host.give(index, 2 * GROUP * PAGE // 32 + 5)
    xen = host.open()
    assert xen.owned(list(xen.domains()))[0].pages == 2


def test_xen_before_4_10_has_one_bit_more_for_the_type() -> None:
    host = Host(replace(DEFAULT, version=(4, 9), type_shift=60))
    index, root = host.add(0), host.machine.frame()
    host.give(index, root, level=4)
    host.give(index, host.machine.frame(), level=2)
    xen = host.open()
    found = xen.owned(list(xen.domains()))[0]
    assert (found.roots, found.threes) == ([root], 0)


# Damage


def test_a_list_that_comes_back_to_itself_is_damaged() -> None:
    host = Host()
    host.add(0)
    host.add(1)
    host.machine.put(host.domains[1], NEXT_AT // 8, host.direct(host.domains[0]))
    with pytest.raises(P2mError, match=r"^Xen's list of domains is damaged: ffff83"):
        list(host.open().domains())


@pytest.mark.parametrize("word", [1, 0x1000, DIRECT_MAP + 8])
def test_a_list_with_something_else_in_it_is_damaged(word: int) -> None:
    host = Host()
    host.add(0)
    host.machine.put(host.domains[0], NEXT_AT // 8, word)
    with pytest.raises(P2mError, match=f"^Xen's list of domains is damaged: {word:x} is in it$"):
        list(host.open().domains())


def test_a_reserved_id_is_of_no_domain_in_the_list() -> None:
    host = Host()
    host.add(0x7FF2)
    with pytest.raises(P2mError, match="damaged: id 32754 is in it"):
        host.open()


@pytest.mark.parametrize("name", ["SYMBOL(domain_list)", "SIZE(page_info)"])
def test_a_note_that_lacks_something_says_what(name: str) -> None:
    host = Host()
    host.add(0)
    del host.vmcoreinfo[name]
    with pytest.raises(P2mError) as error:
        host.open()
    assert str(error.value) == f"the dump's VMCOREINFO_XEN note has no {name}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIZE(page_info)", "0"),
        ("SIZE(page_info)", "33"),
        ("OFFSET(page_info._domain)", "32"),
        ("OFFSET(page_info.count_info)", "16"),
        ("OFFSET(domain.next_in_list)", "123456"),
    ],
)
def test_offsets_that_cannot_be_are_told(name: str, value: str) -> None:
    host = Host()
    host.add(0)
    host.vmcoreinfo[name] = value
    with pytest.raises(
        P2mError, match=r"note is damaged: its offsets of (page_info|domain) contradict"
    ):
        host.open()


def test_max_page_beyond_any_machine_is_damage() -> None:
    host = Host()
    host.add(0)
    host.machine.put(host.variables, 2, 2**63)
    with pytest.raises(P2mError, match=r"^Xen's max_page is 8000000000000000: "):
        host.open()


def test_a_dump_without_the_notes_has_no_domains() -> None:
    host = Host()
    host.add(0)
    notes = host.notes()
    with pytest.raises(P2mError, match=r"^the dump has no XEN_ELFNOTE_CRASH_INFO note"):
        open_xen(host.memory(), [])
    with pytest.raises(P2mError, match=r"^the dump has no VMCOREINFO_XEN note"):
        open_xen(host.memory(), notes[:-1])


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_damaged_errors_are_ours(seed: int) -> None:
    host, _, _ = guest_on_host()
    pages = dict(host.memory().pages)
    random = Random(seed)
    frames = [host.variables, *host.domains, *host.xen.tables, TABLE_MFN + 40]
    for _ in range(random.randrange(1, 30)):
        mfn = random.choice(frames)
        word = random.choice([random.getrandbits(64), random.getrandbits(12) << 12 | 0x63, 0])
        at = random.choice([0, 8, 16, NEXT_AT, random.randrange(512) * 8])
        pages[mfn] = pages[mfn][:at] + word.to_bytes(8, "little") + pages[mfn][at + 8 :]
    memory = PageMemory(pages)
    for domain in (0, 1):
        with suppress(P2mError):
            hints_of(memory, host.notes(), domain)
    with suppress(P2mError):
        xen = open_xen(memory, host.notes())
        xen.owned(list(xen.domains()))


# Page tables


def test_xen_is_read_through_a_guest_where_its_own_page_table_is_not_there() -> None:
    host = Host()
    host.add(0)
    memory, notes = host.memory(), host.notes()
    nowhere = struct.pack("<10Q", 4, 17, 0, 0, 0, 0, 0, 1, 0x77000, 0x99)
    notes = [replace(n, data=nowhere) if n.type == XEN_ELFNOTE_CRASH_INFO else n for n in notes]
    with pytest.raises(P2mError, match=r"^Xen's memory cannot be read: read error: machine"):
        open_xen(memory, notes)
    regs = [
        Note("Xen", XEN_ELFNOTE_CRASH_REGS, struct.pack("<4Q", 0, 0, cr3, 0))
        for cr3 in (host.variables * PAGE, host.xen.root * PAGE)
    ]
    assert open_xen(memory, [*regs, *notes]).domain(0).id == 0


def guest_on_host() -> tuple[Host, Guest, int]:
    """Return a host with dom0, and domain 1 with a kernel that publishes no list."""
    p2m = P2m(1000, {0: [(Kind.MEMORY, 2**30 + i) for i in range(512)]})
    guest, planted = guest_with("linear", p2m)
    host = Host(machine=guest.machine)
    host.add(0, (0x8000, 0x99))
    index = host.add(1, (1000, LIST_INVALID, 0, guest.root, 0xFFFFC90000000000))
    host.give(index, guest.space.root, level=4)
    return host, guest, planted.leaves[0]


def test_a_guests_p2m_is_rebuilt() -> None:
    host, guest, leaf = guest_on_host()
    memory = host.memory()
    hints = hints_of(memory, host.notes(), 1)
    assert (hints.domain, hints.roots) == (1, (Root(guest.root, "p2m_cr3"),))
    found = diagnose(memory, guest.symbols, guest.banner, hints)
    assert found.rebuilt.leaf(0) == leaf
    assert (found.coverage.memory, found.coverage.covered, found.check.passed) == (512, 0, True)


@pytest.mark.parametrize("wrong", ["not set", "of another domain", "not a top page table"])
def test_a_root_is_found_by_the_frame_table_where_p2m_cr3_is(wrong: str) -> None:
    host, guest, _ = guest_on_host()
    dom0, domain = host.domains
    frame = host.machine.frame()
    if wrong == "of another domain":
        host.give(dom0, frame, level=4)
    else:
        host.give(domain, frame, level=3)
    shared = host.machine.get(domain, 2) - DIRECT_MAP >> 12
    host.machine.put(shared, ARCH // 8 + 3, 0 if wrong == "not set" else frame * PAGE)
    hints = hints_of(host.memory(), host.notes(), 1)
    assert hints.roots == (Root(guest.root, "Xen's frame table"),)


def test_a_domain_without_page_tables_of_a_pv_kernel_cannot_be_opened() -> None:
    host = Host()
    host.give(host.add(0), host.machine.frame())
    xen = host.open()
    with pytest.raises(P2mError, match=r"not a 64-bit PV domain \(its kind is HVM\), so it has no"):
        hints_of_guest(xen, xen.domain(0))


def test_a_cpu_on_another_domains_page_tables_is_none_of_dom0s() -> None:
    host, guest, _ = guest_on_host()
    idle, own = host.machine.frame(), host.machine.frame()
    host.direct(idle)
    host.give(host.domains[0], own, level=4)
    host.cr3s = [guest.root, idle * PAGE, own * PAGE]
    hints = hints_of(host.memory(), host.notes(), 0)
    assert (hints.domain, hints.frame_list_mfn) == (0, 0x99)
    assert hints.roots == (Root(idle * PAGE, "cr3, cpu 1"), Root(own * PAGE, "cr3, cpu 2"))


def test_dom0_is_known_by_its_notes_where_xens_memory_is_damaged() -> None:
    host, guest, _ = guest_on_host()
    host.cr3s = [guest.root]
    host.machine.put(host.variables, 0, 0x1234)
    hints = hints_of(host.memory(), host.notes(), 0)
    assert hints.roots == (Root(guest.root, "cr3, cpu 0"),)
    with pytest.raises(P2mError, match="list of domains is damaged"):
        hints_of(host.memory(), host.notes(), 1)
    with pytest.raises(P2mError, match="not a dump of a Xen host"):
        hints_of(host.memory(), [], 1)


# The command


def printed(host: Host, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    class Core(PageMemory):
        def __init__(self, paths: list[str]) -> None:
            super().__init__(host.memory().pages)
            self.notes = host.notes()

    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "open_dump", Core)
        cli.run(parser.parse_args([*options, "vmcore"]))
    return capsys.readouterr().out


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    host, guest, _ = guest_on_host()
    host.add(5, None)
    host.cr3s = [guest.root]
    lines = [line.split() for line in printed(host, capsys).splitlines()]
    assert lines == [
        ["ID", "KIND", "PAGES", "MAX_PFN", "LIST", "P2M_CR3", "CPUS"],
        ["0", "unknown", "0", "8000", "99", "none", "-"],
        ["1", "PV", "1", "3e8", "none", f"{guest.root:x}", "0"],
        ["5", "unknown", "0", "unknown", "unknown", "unknown", "-"],
    ]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    host, guest, _ = guest_on_host()
    host.add(5, None)
    found = json.loads(printed(host, capsys, "--json"))
    assert found["xen"] == "4.17" and found["problem"] is None
    zero, one, five = found["domains"]
    assert (zero["frame_list"], zero["p2m_cr3"], zero["max_pfn"]) == (0x99, 0, 0x8000)
    assert (one["frame_list"], one["p2m_cr3"], one["kind"]) == (0, guest.root, "PV")
    assert (five["frame_list"], five["shared_info"], five["cpus"]) == (None, None, [])


def test_a_frame_table_that_is_not_whole_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    host, _, _ = guest_on_host()
    host.xen.map(FRAME_TABLE + PAGES * PAGE, 0x777)  # a frame that is not in the dump
    host.machine.put(host.variables, 2, (PAGES + 1) * PAGE // 32)
    lines = printed(host, capsys).splitlines()
    assert [line.split()[:3] for line in lines[1:-1]] == [
        ["0", "unknown", "unknown"],
        ["1", "unknown", "unknown"],
    ]
    assert lines[-1] == (
        "pages and kinds are unknown: read error: machine address: 777000"
        '  type: "Xen\'s frame table"'
    )


def test_errors_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["domains", str(tmp_path / "vmcore")])
    assert capsys.readouterr().err == (f"p2mfix: {tmp_path}/vmcore: No such file or directory\n")
