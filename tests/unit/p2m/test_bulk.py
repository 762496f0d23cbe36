# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with many pages at once, against the same done page by page, on damaged machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError, ReadError
from pykdump_ext.linux.kernel import Kernel, Root
from pykdump_ext.machine.memory import PageMemory, read_pages
from pykdump_ext.machine.vectors import np
from pykdump_ext.p2m import verify as verify_module
from pykdump_ext.p2m.coverage import survey
from pykdump_ext.p2m.diagnosis import Diagnosis, diagnose
from pykdump_ext.p2m.entries import Kind, kind_of
from pykdump_ext.p2m.framelist import read_list
from pykdump_ext.p2m.layouts import P2mTable, read_table
from pykdump_ext.p2m.m2p import M2P, MACH2PHYS_VIRT_START
from pykdump_ext.p2m.ranges import Range, Source, ranges
from pykdump_ext.p2m.verify import (
    DIRECT_MAP,
    Disagreement,
    sample,
    verify,
)

from ..made_up.damage import Target, frames_of, small_guest
from ..made_up.guest import Guest, guest_with
from ..made_up.machine import DIRECT_MAP as MAP_AT
from ..made_up.machine import LAYOUTS, NOTHING, PAGE, PMD, PTE
from ..made_up.p2m import P2m
from ..made_up.strategies import times

PARTS = ("list", "leaves", "tables", "m2p", "everything")


def plant_m2p(guest: Guest, memory: dict[int, int]) -> list[int]:
    """Give the guest Xen's table, as far as it tells of ``memory``; return its frames."""
    pages: dict[int, int] = {}
    for pfn, mfn in memory.items():
        if mfn // 512 not in pages:
            pages[mfn // 512] = guest.machine.frame()
            guest.space.map(MACH2PHYS_VIRT_START + mfn // 512 * PAGE, pages[mfn // 512])
        guest.machine.put(pages[mfn // 512], mfn % 512, pfn)
    return [*pages.values()]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Guest, PageMemory]:
    """Draw a guest with a machine-to-phys table, and its memory after some damage."""
    layout = draw(st.sampled_from(LAYOUTS))
    guest, planted = small_guest(layout, draw(st.integers(0, 2)))
    kernel = Kernel(guest.machine.memory(), guest.symbols, Root(guest.root, "here"))
    memory = dict(memory_of(kernel, read_table(kernel)))
    m2p = plant_m2p(guest, {pfn: mfn for pfn, mfn in memory.items() if pfn % 3})
    part = draw(st.sampled_from(PARTS))
    frames = m2p if part == "m2p" else frames_of(guest, planted, part)
    strokes = draw(st.lists(st.binary(min_size=8, max_size=8), max_size=12))
    return guest, Target.of(guest, frames).damaged(b"".join(strokes))


def memory_of(kernel: Kernel, table: P2mTable) -> Iterator[tuple[int, int]]:
    """Yield pfn and entry of every page that is memory."""
    for index, mfn in table.own_leaves():
        for pfn in range(index * 512, min(index * 512 + 512, table.max_pfn)):
            data = kernel.memory.read(mfn * PAGE + pfn % 512 * 8, 8, "p2m leaf")
            entry = int.from_bytes(data, "little")
            if kind_of(entry) is Kind.MEMORY:
                yield pfn, entry


def diagnosed(guest: Guest, memory: PageMemory) -> Diagnosis:
    try:
        return diagnose(memory, guest.symbols, guest.banner, guest.hints())
    except P2mError:
        assume(False)
        raise


# verify


def mapped(kernel: Kernel, vaddr: int) -> int | None:
    """Return the mfn behind a virtual address, or None."""
    try:
        return kernel.mfn_at(vaddr, "simply")
    except ReadError:
        return None


def direct_map_simply(found: Diagnosis, pfn: int) -> int | None:
    """Return the mfn that the direct map has; if a table of it cannot be read, it has none."""
    try:
        base = found.kernel.page_offset()
    except P2mError:
        return None
    return None if base % PAGE else mapped(found.kernel, base + pfn * PAGE)


def m2p_simply(found: Diagnosis, mfn: int) -> int | None:
    if mfn >= 1 << 40:  # no machine address has more than 52 bits
        return None
    vaddr = MACH2PHYS_VIRT_START + mfn * 8
    frame = mapped(found.kernel, vaddr - vaddr % PAGE)
    try:
        if frame is None:
            return None
        data = found.kernel.memory.read(frame * PAGE, PAGE, "simply")
    except ReadError:
        return None
    return int.from_bytes(data[vaddr % PAGE :][:8], "little")


def verified_simply(found: Diagnosis) -> tuple[dict[str, Counter[str]], list[Disagreement]]:
    """Return what agrees, differs and is absent in each table, and the disagreements."""
    tallies: dict[str, Counter[str]] = {DIRECT_MAP: Counter(), M2P: Counter()}
    wrong: dict[str, list[Disagreement]] = {DIRECT_MAP: [], M2P: []}
    for pfn, entry in memory_of(found.kernel, found.table):
        for table, wanted, other in (
            (DIRECT_MAP, entry, direct_map_simply(found, pfn)),
            (M2P, pfn, m2p_simply(found, entry)),
        ):
            how = "absent" if other is None else "agree" if other == wanted else "differ"
            tallies[table][how] += 1
            if other is None or other == wanted:
                continue
            ranges = wrong[table]
            if ranges and ranges[-1].last == pfn - 1:
                before = ranges.pop()
                ranges.append(Disagreement(table, before.first, pfn, before.p2m, before.other))
            else:
                ranges.append(Disagreement(table, pfn, pfn, entry, other))
    return tallies, sorted([*wrong[DIRECT_MAP], *wrong[M2P]], key=lambda one: one.first)


@settings(max_examples=times(2))
@given(damaged(), st.sampled_from([11, 24]), st.integers(1, 3))
def test_verify_counts_what_is_counted_page_by_page(
    made: tuple[Guest, PageMemory], bits: int, leaves: int
) -> None:
    found = diagnosed(*made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify_module, "MOST_PAGES", 1 << bits)  # those of 4 leaves
        patch.setattr(verify_module, "LEAVES_AT_ONCE", leaves)
        done = verify(found, sample(found, 2**62))
    tallies, disagreements = verified_simply(found)
    for table, tally in ((DIRECT_MAP, done.direct_map), (M2P, done.m2p)):
        assert Counter(vars(tally)) == tallies[table]
        assert done.pages == sum(tallies[table].values())
    assert [*done.disagreements()] == disagreements


def test_large_pages_of_the_direct_map_and_a_table_that_is_missing() -> None:
    p2m = P2m(
        512 * 4, {i: [(Kind.MEMORY, i * 512 + 2**21 + k) for k in range(512)] for i in range(4)}
    )
    guest, _ = guest_with("linear", p2m)
    guest.space.map(MAP_AT + 512 * PAGE, 2**21 + 512, PMD)
    guest.space.set(MAP_AT + 1024 * PAGE, PMD, 0)
    gone = guest.space.table(MAP_AT + 1536 * PAGE, 3)
    plant_m2p(guest, p2m.memory())
    del guest.machine.pages[gone]
    found = diagnosed(guest, guest.machine.memory())
    done = verify(found, sample(found, 2**62))
    assert vars(done.direct_map) == {"agree": 1024, "differ": 0, "absent": 1024}
    assert vars(done.m2p) == {"agree": 2048, "differ": 0, "absent": 0}


@pytest.mark.parametrize("how", ["not mapped", "not in the dump"])
def test_pages_of_the_m2p_between_others_are_missing(how: str) -> None:
    p2m = P2m(
        512 * 8, {i: [(Kind.MEMORY, i * 512 + 2**21 + k) for k in range(512)] for i in range(8)}
    )
    guest, _ = guest_with("linear", p2m)
    frames = plant_m2p(guest, p2m.memory())
    if how == "not mapped":
        guest.space.set(MACH2PHYS_VIRT_START + (2**21 // 512 + 3) * PAGE, PTE, 0)
    else:
        del guest.machine.pages[frames[3]]
    guest.machine.put(frames[5], 7, 0x1234)
    found = diagnosed(guest, guest.machine.memory())
    done = verify(found, sample(found, 2**62))
    assert vars(done.m2p) == {"agree": 7 * 512 - 1, "differ": 1, "absent": 512}
    wrong = 5 * 512 + 7
    assert [*done.disagreements()] == [Disagreement(M2P, wrong, wrong, 2**21 + wrong, 0x1234)]


@settings(max_examples=times(1))
@given(st.lists(st.integers(0, 40), max_size=40))
def test_ranges_that_go_on_in_the_next_part_are_one(pfns: list[int]) -> None:
    pfns = sorted(set(pfns))
    found = verify_module.Ranges()
    for start in range(0, len(pfns), 3):
        part = np.array(pfns[start : start + 3], np.uint64)
        found.add(part, part + 100, part + 200)
    runs = [
        [pfn for _, pfn in run]
        for _, run in groupby(enumerate(pfns), lambda pair: pair[1] - pair[0])
    ]
    assert [*found.of("here")] == [
        Disagreement("here", run[0], run[-1], run[0] + 100, run[0] + 200) for run in runs
    ]


# The list, the ranges, the frames


def entries_simply(memory: PageMemory, mfn: int, pfns: int) -> list[int] | None:
    try:
        page = memory.read(mfn * PAGE, PAGE, "simply")
    except ReadError:
        return None
    return [int.from_bytes(page[i * 8 : i * 8 + 8], "little") for i in range(pfns)]


@settings(max_examples=times(2))
@given(damaged())
def test_the_coverage_is_what_a_look_at_each_entry_says(made: tuple[Guest, PageMemory]) -> None:
    guest, memory = made
    try:
        kernel = Kernel(memory, guest.symbols, Root(guest.root, "here"))
        table = read_table(kernel)
        kernel.address("page_offset_base")
    except P2mError:
        assume(False)
    published = read_list(memory, guest.list_mfn)
    settled, coverage = survey(kernel, table, published)
    kinds: Counter[Kind] = Counter()
    covered = leaves = 0
    lost = []
    for index in range(len(table.leaves)):
        mfn, pfns = settled.leaves[index], min(512, table.max_pfn - index * 512)
        if table.shared(mfn):
            kinds[Kind.IDENTITY if mfn == table.identity_mfn else table.kind_of_missing] += pfns
            continue
        own = entries_simply(memory, mfn, pfns)
        assert own is not None
        listed = published.leaf(index)
        other = None
        if listed is not None and not (table.shared(listed) and listed != mfn):
            other = entries_simply(memory, listed, pfns)
        kinds.update(map(kind_of, own))
        is_memory = [kind_of(entry) is Kind.MEMORY for entry in own]
        has = [
            there and other is not None and other[i] == own[i] for i, there in enumerate(is_memory)
        ]
        covered += sum(has)
        leaves += any(is_memory)
        if sum(has) < sum(is_memory):
            lost.append(index)
    assert +coverage.kinds == +kinds
    assert (coverage.covered, coverage.leaves, coverage.leaves_lost) == (covered, leaves, len(lost))
    assert [
        index for first, last in coverage.lost for index in range(first // 512, last // 512 + 1)
    ] == lost
    unreadable = [mfn for _, mfn in table.own_leaves() if entries_simply(memory, mfn, 512) is None]
    assert len(coverage.unreadable) == len(unreadable)


def looks_simply(found: Diagnosis) -> Iterator[tuple[Kind, Source]]:
    """Yield kind and source of every pfn."""
    table, memory = found.table, found.kernel.memory
    assert isinstance(memory, PageMemory)
    for index, mfn in enumerate(table.leaves):
        pfns = min(512, table.max_pfn - index * 512)
        if mfn in (table.missing_mfn, NOTHING):
            yield from [(table.kind_of_missing, Source.SHARED)] * pfns
        elif mfn == table.identity_mfn:
            yield from [(Kind.IDENTITY, Source.SHARED)] * pfns
        else:
            own = entries_simply(memory, mfn, pfns) or []
            listed = found.published.leaf(index)
            other = None if listed is None else entries_simply(memory, listed, pfns)
            for i, entry in enumerate(own):
                both = other is not None and other[i] == entry
                source = Source.BOTH if both else Source.TABLES
                yield kind_of(entry), Source.LIST if index in found.coverage.kept else source


@settings(max_examples=times(2))
@given(damaged(), st.data())
def test_ranges_and_frames_are_those_found_entry_by_entry(
    made: tuple[Guest, PageMemory], data: st.DataObject
) -> None:
    found = diagnosed(*made)
    assume(found.table.max_pfn < 1 << 20)
    runs = groupby(enumerate(looks_simply(found)), lambda pair: pair[1])
    simply = []
    for (kind, source), run in runs:
        pfns = [pfn for pfn, _ in run]
        simply.append(Range(pfns[0], pfns[-1], kind, source))
    assert [*ranges(found)] == simply
    memory = [*memory_of(found.kernel, found.table)]
    mfn = data.draw(st.sampled_from(memory))[1] if memory else 5
    assert [*found.pfns_of(mfn)] == [pfn for pfn, entry in memory if entry == mfn]


# Reading


@settings(max_examples=times(2))
@given(st.lists(st.integers(0, 30), max_size=60), st.sets(st.integers(0, 30)))
def test_pages_that_are_read_together_are_those_read_alone(
    mfns: list[int], there: set[int]
) -> None:
    memory = PageMemory({mfn: bytes([mfn]) * PAGE for mfn in there})
    for mfn, page in zip(mfns, read_pages(memory, mfns, "it")):
        if mfn in there:
            assert page == bytes([mfn]) * PAGE
        else:
            with pytest.raises(ReadError) as error:
                memory.read(mfn * PAGE, PAGE, "it")
            assert str(page) == str(error.value)
    assert sum(1 for _ in read_pages(memory, mfns, "it")) == len(mfns)
