"""A p2m shown as ranges, and compared with the direct map and Xen's machine-to-phys table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.p2m import (
    Diagnosis,
    Disagreement,
    Kind,
    Source,
    diagnose,
    ranges,
    sample,
    verify,
)
from pykdump_ext.p2m.verify import DIRECT_MAP, M2P, MACH2PHYS_VIRT_START

from . import machine
from .machine import LAYOUTS, PAGE, Guest, P2m, guest_with, random_cells
from .strategies import p2ms

EVERYTHING = 2**62


def diagnosed(guest: Guest) -> Diagnosis:
    return diagnose(guest.machine.memory(), guest.symbols, guest.banner, guest.xen_info())


def plant_m2p(guest: Guest, memory: dict[int, int], base: int = MACH2PHYS_VIRT_START) -> None:
    """Give the guest Xen's table, as far as it tells of ``memory`` (pfn to mfn)."""
    pages: dict[int, int] = {}
    for pfn, mfn in memory.items():
        if mfn // 512 not in pages:
            pages[mfn // 512] = guest.machine.frame()
            guest.space.map(base + mfn // 512 * PAGE, pages[mfn // 512])
        guest.machine.put(pages[mfn // 512], mfn % 512, pfn)


# Ranges


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=60)
@given(st.data())
def test_the_ranges_are_the_p2m(layout: str, data: st.DataObject) -> None:
    p2m = data.draw(p2ms(layout))
    published = data.draw(st.integers(0, p2m.leaf_total))
    guest, planted = guest_with(layout, p2m, published)
    found = list(ranges(diagnosed(guest)))

    assert [r.first for r in found] == [0, *(r.last + 1 for r in found[:-1])]
    assert found[-1].last == p2m.max_pfn - 1
    assert sum(r.pages for r in found) == p2m.max_pfn
    for before, after in zip(found, found[1:]):
        assert (before.kind, before.source) != (after.kind, after.source)

    kinds = [(r.kind, r.pages) for r in found]
    told = [(kind, sum(n for _, n in run)) for kind, run in groupby(kinds, lambda pair: pair[0])]
    true = [
        (kind, len(list(run)))
        for kind, run in groupby(p2m.cell(pfn)[0] for pfn in range(p2m.max_pfn))
    ]
    assert told == true

    for one in found:
        for leaf in {one.first // 512, one.last // 512}:
            if leaf not in planted.leaves:
                assert one.source is Source.SHARED
            elif one.kind is Kind.MEMORY:
                assert one.source is (Source.BOTH if leaf < published else Source.TABLES)


def test_a_leaf_that_only_the_list_has_is_told() -> None:
    p2m = P2m(512 * 3, {i: random_cells(Random(i), [Kind.MEMORY]) for i in range(3)})
    guest, _ = guest_with("linear", p2m)
    guest.space.set(machine.P2M_AREA + PAGE, machine.PTE, 0)
    assert [(r.first, r.last, r.source) for r in ranges(diagnosed(guest))] == [
        (0, 511, Source.BOTH),
        (512, 1023, Source.LIST),
        (1024, 1535, Source.BOTH),
    ]


def test_a_stale_leaf_of_the_list_knows_what_it_still_has() -> None:
    cells = random_cells(Random(1), [Kind.MEMORY])
    guest, _ = guest_with("linear", P2m(512, {0: cells}))
    old = [mfn for _, mfn in cells]
    old[7:9] = [0x77777, 0x88888]
    list_page = guest.machine.get(guest.list_mfn, 0)
    guest.machine.put(list_page, 0, guest.machine.frame(old))
    assert [(r.first, r.last, r.source) for r in ranges(diagnosed(guest))] == [
        (0, 6, Source.BOTH),
        (7, 8, Source.TABLES),
        (9, 511, Source.BOTH),
    ]


def test_sixteen_tebibytes_cost_what_there_is() -> None:
    own = {leaf: random_cells(Random(leaf), [Kind.MEMORY]) for leaf in (0, 2**20, 2**23 - 1)}
    guest, _ = guest_with("linear", P2m(2**32, own))
    found = diagnosed(guest)
    assert found.coverage.memory == 3 * 512
    assert found.coverage.kinds[Kind.MISSING] == 2**32 - 3 * 512
    assert [(r.first, r.pages, r.kind) for r in ranges(found)] == [
        (0, 512, Kind.MEMORY),
        (512, 2**29 - 512, Kind.MISSING),
        (2**29, 512, Kind.MEMORY),
        (2**29 + 512, 2**32 - 2**29 - 1024, Kind.MISSING),
        (2**32 - 512, 512, Kind.MEMORY),
    ]


# Verification


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("base", [MACH2PHYS_VIRT_START, 0xFFFF830000000000])
def test_what_agrees_is_counted(layout: str, base: int) -> None:
    own = {i: random_cells(Random(i)) for i in range(3)}
    p2m = P2m(512 * 3 - 100, own)
    guest, _ = guest_with(layout, p2m)
    plant_m2p(guest, p2m.memory(), base)
    if base != MACH2PHYS_VIRT_START:
        guest.variable("machine_to_phys_mapping", base)
    found = diagnosed(guest)
    done = verify(found, sample(found, EVERYTHING))
    pages = len(p2m.memory())
    assert (done.pages, done.leaves, done.looked_at) == (pages, 3, 3)
    assert (done.direct_map.agree, done.direct_map.differ, done.direct_map.absent) == (pages, 0, 0)
    assert (done.m2p.agree, done.m2p.differ, done.m2p.absent) == (pages, 0, 0)
    assert done.disagreements == []


def test_what_differs_is_told_by_range() -> None:
    p2m = P2m(1024, {i: random_cells(Random(i), [Kind.MEMORY]) for i in range(2)})
    memory = p2m.memory()
    guest, _ = guest_with("linear", p2m)
    for pfn in range(510, 515):
        guest.space.map(machine.DIRECT_MAP + pfn * PAGE, 0x99999)
    guest.space.set(machine.DIRECT_MAP + 1000 * PAGE, machine.PTE, 0)
    plant_m2p(guest, memory)
    for pfn in (511, 512):
        mfn = memory[pfn]
        page = (guest.space.maddr(MACH2PHYS_VIRT_START + mfn // 512 * PAGE) or 0) // PAGE
        guest.machine.put(page, mfn % 512, 0x55)
    found = diagnosed(guest)
    done = verify(found, sample(found, EVERYTHING))
    assert (done.direct_map.differ, done.direct_map.absent) == (5, 1)
    assert (done.m2p.differ, done.m2p.absent) == (2, 0)
    assert sorted(done.disagreements, key=lambda one: one.first) == [
        Disagreement(DIRECT_MAP, 510, 514, memory[510], 0x99999),
        Disagreement(M2P, 511, 512, memory[511], 0x55),
    ]


def test_tables_that_are_not_there_are_counted_as_absent() -> None:
    p2m = P2m(512, {0: random_cells(Random(1), [Kind.MEMORY])})
    guest = Guest(machine.Machine())
    planted = guest.plant("linear", p2m)
    guest.publish(p2m, planted)
    found = diagnosed(guest)
    done = verify(found, sample(found, EVERYTHING))
    assert (done.direct_map.absent, done.m2p.absent, done.disagreements) == (512, 512, [])


def test_a_sample_is_spread_and_watched() -> None:
    p2m = P2m(512 * 100, {i: random_cells(Random(i), [Kind.MEMORY]) for i in range(100)})
    guest, _ = guest_with("linear", p2m)
    found = diagnosed(guest)
    some = sample(found, 10)
    assert [index for index, _ in some] == list(range(0, 100, 10))
    seen = []

    def watch(leaves: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        for leaf in leaves:
            seen.append(leaf)
            yield leaf

    done = verify(found, some, watch)
    assert seen == list(some)
    assert (done.looked_at, done.leaves, done.pages) == (10, 100, 5120)
