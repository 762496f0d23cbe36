"""Page tables: what was mapped is found, in every page size."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import ReadError
from pykdump_ext.paging import NOT_MAPPED, PageTables

from .machine import (
    FLAGS,
    GLOBAL_PAT,
    LARGE,
    NO_EXECUTE,
    PAGE,
    PGD,
    PMD,
    PRESENT,
    PTE,
    PUD,
    SIZES,
    SOFTWARE,
    AddressSpace,
    Machine,
)

BASE = 0xFFFFC90000000000


def tables_of(space: AddressSpace) -> PageTables:
    return PageTables(space.machine.memory(), space.root * PAGE)


@st.composite
def spaces(draw: st.DrawFn) -> AddressSpace:
    """Draw page tables with pages of all sizes in 4 GiB of addresses, and holes."""
    space = AddressSpace(Machine())
    random = Random(draw(st.integers(0, 2**32)))
    taken: set[tuple[int, int]] = set()
    for level in draw(st.lists(st.sampled_from([PTE, PTE, PTE, PMD, PMD, PUD]), max_size=24)):
        # two in three next to the start of the range, so that pages are neighbours
        vaddr = BASE + random.choice([random.randrange(2**32), random.randrange(2**23)])
        vaddr -= vaddr % SIZES[level]
        places = {(vaddr // size, size) for size in SIZES.values() if size >= SIZES[level]}
        inside = {page for page, _ in space.mapped if vaddr <= page < vaddr + SIZES[level]}
        if places & taken or inside:
            continue
        taken.add((vaddr // SIZES[level], SIZES[level]))
        mfn = random.randrange(2**40) // (SIZES[level] // PAGE) * (SIZES[level] // PAGE)
        space.map(vaddr, mfn, level, random.choice([0, NO_EXECUTE, SOFTWARE, GLOBAL_PAT]))
    return space


def some_vaddrs(space: AddressSpace, random: Random) -> list[int]:
    """Return addresses in each mapped page, on its edges and just outside."""
    found = [BASE + random.randrange(2**32) for _ in range(5)]
    for start, size in space.mapped:
        found += [start, start + size - 1, start - 1, start + size, start + random.randrange(size)]
    return found


@settings(max_examples=150)
@given(spaces(), st.randoms(use_true_random=False))
def test_an_address_leads_where_it_was_mapped(space: AddressSpace, random: Random) -> None:
    tables = tables_of(space)
    for vaddr in some_vaddrs(space, random):
        expected = space.maddr(vaddr)
        if expected is None:
            with pytest.raises(ReadError, match=f"kernel virtual address: {vaddr:x}  .*present"):
                tables.translate(vaddr)
        else:
            assert tables.translate(vaddr) == expected


@settings(max_examples=150)
@given(spaces(), st.integers(0, 2**20), st.integers(0, 1600))
def test_the_frames_of_a_range_are_those_of_its_pages(
    space: AddressSpace, first: int, count: int
) -> None:
    starts = [BASE + first * PAGE, *(start - first % 700 * PAGE for start, _ in space.mapped)]
    for start in starts[:4]:
        expected = [space.maddr(start + i * PAGE) for i in range(count)]
        assert list(tables_of(space).frames(start, count)) == [
            NOT_MAPPED if maddr is None else maddr // PAGE for maddr in expected
        ]


def test_a_range_over_pages_of_all_sizes_has_every_frame() -> None:
    space = AddressSpace(Machine())
    space.map(BASE + 2**30, 0x40000, PUD)
    space.map(BASE + 2**31, 0x77)
    space.map(BASE + 2**31 + 2**21, 0x200, PMD)
    frames = list(tables_of(space).frames(BASE, 2**20))
    assert frames == [
        *[NOT_MAPPED] * 2**18,
        *range(0x40000, 0x40000 + 2**18),
        0x77,
        *[NOT_MAPPED] * 511,
        *range(0x200, 0x400),
        *[NOT_MAPPED] * (2**19 - 1024),
    ]


def test_frames_begin_at_a_page_boundary() -> None:
    space = AddressSpace(Machine())
    space.map(BASE, 0x100)
    with pytest.raises(ReadError, match="not page aligned"):
        tables_of(space).frames(BASE + 8, 1)


def test_a_read_crosses_pages_that_are_not_neighbours_in_the_machine() -> None:
    machine = Machine()
    space = AddressSpace(machine)
    contents = b""
    for i in range(3):
        mfn = machine.frame([i + 1] * 512)
        space.map(BASE + i * PAGE, mfn)
        contents += bytes(machine.pages[mfn])
    tables = tables_of(space)
    assert tables.read(BASE, 3 * PAGE, "all") == contents
    assert tables.read(BASE + PAGE - 5, 10, "edge") == contents[PAGE - 5 : PAGE + 5]
    assert tables.read(BASE + 7, 2 * PAGE, "most") == contents[7 : 2 * PAGE + 7]


def test_a_read_from_a_large_page_finds_the_frame_inside_it() -> None:
    machine = Machine()
    space = AddressSpace(machine)
    machine.pages[0x40000 + 513] = bytearray(b"in a 1 GiB page".ljust(PAGE))
    machine.pages[0x200 + 511] = bytearray(b"in a 2 MiB page".ljust(PAGE))
    space.map(BASE, 0x40000, PUD)
    space.map(BASE + 2**30, 0x200, PMD)
    tables = tables_of(space)
    assert tables.read(BASE + 513 * PAGE, 15, "x") == b"in a 1 GiB page"
    assert tables.read(BASE + 2**30 + 511 * PAGE + 3, 12, "x") == b"a 2 MiB page"


def test_a_read_that_leaves_what_is_mapped_names_the_address() -> None:
    machine = Machine()
    space = AddressSpace(machine)
    space.map(BASE, machine.frame())
    with pytest.raises(ReadError) as caught:
        tables_of(space).read(BASE + PAGE - 4, 8, "two words")
    assert (caught.value.address, caught.value.what) == (BASE + PAGE, "two words")


def test_a_mapped_frame_that_the_memory_lacks_cannot_be_read() -> None:
    space = AddressSpace(Machine())
    space.map(BASE, 0x999)
    with pytest.raises(ReadError) as caught:
        tables_of(space).read(BASE + 8, 8, "gone")
    assert (caught.value.kind, caught.value.address) == ("machine address", 0x999008)


@pytest.mark.parametrize("extra", [NO_EXECUTE, SOFTWARE, NO_EXECUTE | SOFTWARE, 0xE7E, 0xF9E])
@pytest.mark.parametrize("level", [PUD, PMD, PTE])
def test_only_bits_12_to_51_are_the_address(level: int, extra: int) -> None:
    space = AddressSpace(Machine())
    mfn = (2**40 - 1) // (SIZES[level] // PAGE) * (SIZES[level] // PAGE)
    space.map(BASE, mfn, level, extra)
    tables = tables_of(space)
    assert tables.translate(BASE + 0x123) == mfn * PAGE + 0x123
    assert list(tables.frames(BASE, 1)) == [mfn]


@pytest.mark.parametrize("level", [PUD, PMD])
def test_the_pat_bit_of_a_large_page_is_no_part_of_the_address(level: int) -> None:
    space = AddressSpace(Machine())
    space.map(BASE, 0x40000, level, 1 << 12)
    tables = tables_of(space)
    assert tables.translate(BASE + 0x4123) == 0x40004123
    assert list(tables.frames(BASE, 3)) == [0x40000, 0x40001, 0x40002]


@pytest.mark.parametrize("level", [PGD, PUD, PMD, PTE])
def test_an_entry_without_the_present_bit_maps_nothing(level: int) -> None:
    space = AddressSpace(Machine())
    space.map(BASE, 0x55)
    index = AddressSpace.index(BASE, level)
    table = space.table(BASE, level)
    space.machine.put(table, index, space.machine.get(table, index) & ~PRESENT)
    tables = tables_of(space)
    name = ("PGD", "PUD", "PMD", "PTE")[level]
    with pytest.raises(ReadError, match=f"{name} entry not present"):
        tables.translate(BASE)
    assert list(tables.frames(BASE, 2)) == [NOT_MAPPED] * 2
    assert [step.name for step in tables.walk(BASE)][-1] == name


def test_the_large_bit_means_nothing_in_the_top_table() -> None:
    space = AddressSpace(Machine())
    space.map(BASE, 0x55)
    index = AddressSpace.index(BASE, PGD)
    space.machine.put(space.root, index, space.machine.get(space.root, index) | LARGE)
    tables = tables_of(space)
    assert tables.translate(BASE + 1) == 0x55001
    assert list(tables.frames(BASE, 1)) == [0x55]


def test_the_large_bit_means_nothing_in_the_last_table() -> None:
    space = AddressSpace(Machine())
    space.map(BASE, 0x55, extra=LARGE)  # there it is PAT
    tables = tables_of(space)
    assert tables.translate(BASE + 1) == 0x55001
    assert list(tables.frames(BASE, 1)) == [0x55]


def test_a_walk_tells_where_each_entry_is() -> None:
    space = AddressSpace(Machine())
    space.map(BASE + 5 * PAGE, 0x55)
    steps = list(tables_of(space).walk(BASE + 5 * PAGE + 9))
    assert [step.name for step in steps] == ["PGD", "PUD", "PMD", "PTE"]
    assert [step.entry_maddr for step in steps] == [
        table * PAGE + 8 * AddressSpace.index(BASE + 5 * PAGE, level)
        for level, table in enumerate(space.tables)
    ]
    assert [step.is_page for step in steps] == [False, False, False, True]
    assert steps[-1].entry == 0x55 * PAGE | FLAGS


def test_the_flags_in_the_low_bits_of_cr3_are_ignored() -> None:
    space = AddressSpace(Machine())
    space.map(BASE, 0x55)
    tables = PageTables(space.machine.memory(), space.root * PAGE | 0x18 | 1 << 63)
    assert tables.translate(BASE) == 0x55000


def test_a_table_page_in_many_places_is_right_in_each() -> None:
    machine = Machine()
    space = AddressSpace(machine)
    shared = machine.frame([(0x100 + i) * PAGE | FLAGS if i % 3 else 0 for i in range(512)])
    for i in range(512):
        space.set(BASE + i * 2**21, PMD, shared * PAGE | FLAGS)
    tables = tables_of(space)
    one = [0x100 + i if i % 3 else NOT_MAPPED for i in range(512)]
    assert list(tables.frames(BASE, 512 * 512)) == one * 512
    assert list(tables.frames(BASE + 510 * PAGE, 4)) == [NOT_MAPPED, 0x2FF, NOT_MAPPED, 0x101]
    assert tables.translate(BASE + 77 * 2**21 + 2 * PAGE) == 0x102000


def test_a_table_page_is_read_once() -> None:
    reads: list[int] = []
    space = AddressSpace(Machine())
    for i in range(600):
        space.map(BASE + i * PAGE, i)
    memory = space.machine.memory()

    class Counting:
        def read(self, maddr: int, size: int, what: str) -> bytes:
            reads.append(maddr)
            return memory.read(maddr, size, what)

    tables = PageTables(Counting(), space.root * PAGE)
    tables.frames(BASE, 600)
    for i in range(600):
        tables.translate(BASE + i * PAGE)
    assert sorted(reads) == sorted(table * PAGE for table in space.tables)


@pytest.mark.parametrize("level", [PGD, PUD, PMD, PTE])
def test_a_table_page_that_is_not_there_is_named(level: int) -> None:
    space = AddressSpace(Machine())
    space.map(BASE, 0x55)
    gone = space.table(BASE, level)
    del space.machine.pages[gone]
    tables = tables_of(space)
    for look in (lambda: tables.translate(BASE), lambda: tables.frames(BASE, 1)):
        with pytest.raises(ReadError) as caught:
            look()
        assert caught.value.address == gone * PAGE
        assert caught.value.what == f"{('PGD', 'PUD', 'PMD', 'PTE')[level]} page"


@pytest.mark.parametrize("level", [PGD, PUD, PMD, PTE])
def test_a_table_that_leads_to_itself_ends(level: int) -> None:
    space = AddressSpace(Machine())
    space.map(BASE, 0x55)
    table = space.table(BASE, level)
    for index in range(512):
        space.machine.put(table, index, table * PAGE | FLAGS)
    tables = tables_of(space)
    assert tables.translate(BASE + 0x10) == table * PAGE + 0x10
    assert list(tables.frames(BASE, 2000 if level < PTE else 512)) == [table] * (
        2000 if level < PTE else 512
    )
