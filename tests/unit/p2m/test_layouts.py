# SPDX-License-Identifier: GPL-3.0-or-later
"""The p2m of every layout, found and read."""

from __future__ import annotations

import time
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.paging import NOT_MAPPED
from pykdump_ext.p2m.coverage import survey
from pykdump_ext.p2m.entries import Kind
from pykdump_ext.p2m.framelist import build_list, read_list
from pykdump_ext.p2m.layouts import LAYOUTS as KNOWN
from pykdump_ext.p2m.layouts import MAX_PFNS, P2mTable, find_layout, read_table

from ..made_up.guest import Guest, Planted, guest_with
from ..made_up.machine import (
    FLAGS,
    LAYOUTS,
    NOTHING,
    P2M_AREA,
    PAGE,
    PMD,
    PTE,
    PUD,
    Machine,
    SymbolTable,
)
from ..made_up.p2m import P2m, memory_cells
from ..made_up.readings import diagnosed, kernel_of
from ..made_up.strategies import p2ms

layouts = pytest.mark.parametrize("layout", LAYOUTS)


def expected_leaves(p2m: P2m, planted: Planted) -> list[int]:
    """Return the mfn of each leaf in the kernel's own p2m."""
    missing = NOTHING if planted.missing is None else planted.missing
    leaves = [planted.leaf(leaf, missing) for leaf in range(p2m.leaf_total)]
    for leaf in p2m.identity:
        assert planted.identity is not None
        leaves[leaf] = planted.identity
    return leaves


@layouts
@given(st.data())
def test_a_p2m_is_read_listed_and_measured_as_it_was_planted(
    layout: str, data: st.DataObject
) -> None:
    p2m = data.draw(p2ms(layout))
    guest = Guest(Machine())
    planted = guest.plant(layout, p2m)
    guest.publish(p2m, planted)
    kernel = kernel_of(guest)

    table = read_table(kernel)
    assert (table.layout, table.max_pfn) == (layout, p2m.max_pfn)
    assert list(table.leaves) == expected_leaves(p2m, planted)

    built = build_list(table)
    for pfn, mfn in p2m.memory().items():
        leaf = built.leaf(pfn // 512)
        assert leaf is not None
        assert guest.machine.get(leaf, pfn % 512) == mfn
    for leaf in range(p2m.leaf_total):
        if leaf not in p2m.own:  # missing, and identity as well
            assert built.leaf(leaf) == planted.missing
    assert built.leaf(p2m.leaf_total) is None

    for frames in (read_list(kernel.memory, guest.list_mfn), built):
        settled, coverage = survey(kernel, table, frames)
        assert settled == table
        assert {kind: coverage.kinds[kind] for kind in Kind} == {k: p2m.count(k) for k in Kind}
        assert coverage.covered == coverage.memory == len(p2m.memory())
        assert coverage.leaves == len(p2m.leaves_with_memory)
        assert (coverage.lost, coverage.leaves_lost, coverage.unreadable) == ([], 0, [])
        assert coverage.complete


@layouts
@pytest.mark.parametrize("max_pfn", [1, 2, 511, 512, 513, 1023, 1024, 1025])
def test_pfns_from_max_pfn_on_do_not_count(layout: str, max_pfn: int) -> None:
    p2m = P2m(max_pfn, memory_cells(leaves=(max_pfn + 511) // 512))
    guest, _ = guest_with(layout, p2m)
    diagnosis = diagnosed(guest)
    assert len(diagnosis.table.leaves) == p2m.leaf_total
    assert diagnosis.coverage.memory == max_pfn
    assert sum(diagnosis.coverage.kinds.values()) == max_pfn
    assert diagnosis.healthy


def test_the_symbols_tell_the_layout() -> None:
    cases = {
        "flat": ["phys_to_machine_mapping"],
        "two-level": ["p2m_top", "p2m_missing"],
        "three-level": ["p2m_top", "p2m_missing", "p2m_mid_missing", "p2m_identity"],
        "linear": ["xen_p2m_addr", "p2m_missing", "p2m_identity"],
    }
    for name, symbols in cases.items():
        assert find_layout(SymbolTable(dict.fromkeys(symbols, 1))).name == name
    assert {layout.name for layout in KNOWN} == set(cases) == set(LAYOUTS)


def test_a_kernel_without_a_p2m_is_told() -> None:
    with pytest.raises(P2mError, match=r"none of the symbols xen_p2m_addr.*PV kernel"):
        find_layout(SymbolTable(max_pfn=1, linux_banner=2))


def test_xenlinux_says_end_pfn() -> None:
    guest = Guest(Machine())
    planted = guest.plant("flat", P2m(700, memory_cells(leaves=2)), "end_pfn")
    table = read_table(kernel_of(guest))
    assert table.max_pfn == 700
    assert list(table.leaves) == [planted.leaves[0], planted.leaves[1]]


@pytest.mark.parametrize("max_pfn", [0, MAX_PFNS + 1, 2**64 - 1])
def test_a_max_pfn_that_cannot_be_is_told(max_pfn: int) -> None:
    guest = Guest(Machine())
    guest.plant("linear", P2m(512, memory_cells()))
    vaddr = guest.symbols["max_pfn"]
    guest.machine.put((guest.space.maddr(vaddr) or 0) // PAGE, vaddr % PAGE // 8, max_pfn)
    with pytest.raises(P2mError, match=f"max_pfn is {max_pfn:x}, not 1 to "):
        read_table(kernel_of(guest))


@pytest.mark.parametrize("layout", ["two-level", "three-level"])
def test_a_max_pfn_of_more_than_its_list_can_name_is_told(layout: str) -> None:
    """The array of two levels would take 256 MiB, each of its pointers a walk."""
    guest = Guest(Machine())
    guest.plant(layout, P2m(512, memory_cells()))
    vaddr = guest.symbols["max_pfn"]
    guest.machine.put((guest.space.maddr(vaddr) or 0) // PAGE, vaddr % PAGE // 8, 2**27 + 1)
    with pytest.raises(P2mError, match="max_pfn is 8000001, not 1 to 8000000"):
        read_table(kernel_of(guest))


def circle(guest: Guest) -> None:
    """Let the page tables of the p2m lead to the same 512 leaves again and again."""
    space, machine = guest.space, guest.machine
    for index in range(1, 512):
        machine.put(space.table(P2M_AREA, PTE), index, (0x70000 + index) * PAGE | FLAGS)
    for level in (PMD, PUD):
        table = space.table(P2M_AREA, level)
        entry = machine.get(table, space.index(P2M_AREA, level))
        for index in range(512):
            machine.put(table, index, entry)


def test_page_tables_in_a_circle_are_not_followed_for_hours() -> None:
    p2m = P2m(512, memory_cells())
    guest, _ = guest_with("linear", p2m)
    circle(guest)
    for name in ("max_pfn", "xen_p2m_size"):
        vaddr = guest.symbols[name]
        guest.machine.put((guest.space.maddr(vaddr) or 0) // PAGE, vaddr % PAGE // 8, 2**28)
    with pytest.raises(P2mError, match="the p2m has the same leaves twice, at pfn 40000:"):
        read_table(kernel_of(guest))


def test_large_pages_in_a_linear_p2m_are_damage() -> None:
    """One page-table entry would make 262,144 leaves of anything."""
    guest, planted = guest_with("linear", P2m(3 * 512 * 512, memory_cells()))
    guest.space.map(P2M_AREA + 2**21, 0x80000, PMD)
    table = read_table(kernel_of(guest))
    assert [mfn for _, mfn in table.own_leaves()] == [planted.leaves[0]]


def test_a_flat_p2m_may_be_mapped_by_large_pages() -> None:
    guest = Guest(Machine())
    guest.variable("max_pfn", 1000 * 512)
    guest.variable("phys_to_machine_mapping", P2M_AREA)
    for i in range(2):
        guest.space.map(P2M_AREA + i * 2**21, 0x80000 - i * 0x200, PMD)
    table = read_table(kernel_of(guest))
    assert list(table.leaves) == [*range(0x80000, 0x80200), *range(0x7FE00, 0x7FFE8)]
    assert not any(table.shared(mfn) for mfn in table.leaves)


def test_leaves_of_a_linear_p2m_that_are_not_mapped_are_missing() -> None:
    p2m = P2m(2000 * 512, memory_cells())
    guest, planted = guest_with("linear", p2m)
    guest.space.set(P2M_AREA + 3 * PAGE, 3, 0)
    guest.space.set(P2M_AREA + 2**21, PMD, 0)
    diagnosis = diagnosed(guest)
    assert list(diagnosis.table.leaves) == [planted.leaves[0], *[planted.missing] * 1999]
    assert diagnosis.coverage.kinds[Kind.MISSING] == 1999 * 512
    assert diagnosis.healthy


def test_leaves_that_nothing_stands_for_are_missing() -> None:
    p2m = P2m(600 * 512, memory_cells())
    guest, planted = guest_with("linear", p2m)
    del guest.symbols["p2m_missing"], guest.symbols["p2m_identity"]
    guest.space.set(P2M_AREA + PAGE, 3, 0)
    table = read_table(kernel_of(guest))
    assert (table.missing_mfn, table.identity_mfn) == (NOT_MAPPED, None)
    assert table.leaves[1] == NOT_MAPPED
    assert table.shared(NOT_MAPPED)
    assert build_list(table).leaf(1) is None
    assert build_list(table).leaf(0) == planted.leaves[0]


def test_leaves_past_512_gigabytes_are_in_the_built_list_only() -> None:
    leaf = 2**18 + 3
    guest, planted = guest_with("linear", P2m((leaf + 1) * 512, {leaf: memory_cells()[0]}))
    diagnosis = diagnosed(guest)
    assert diagnosis.rebuilt.leaf(leaf) == planted.leaves[leaf]
    assert diagnosis.coverage.lost == [(leaf * 512, leaf * 512 + 511)]


def test_three_levels_hold_512_gigabytes() -> None:
    own = {i: memory_cells(i)[0] for i in (0, 511, 512, 2**18 - 1)}
    guest, planted = guest_with("three-level", P2m(2**27, own))
    diagnosis = diagnosed(guest)
    assert {i: diagnosis.rebuilt.leaf(i) for i in own} == planted.leaves
    assert diagnosis.coverage.memory == diagnosis.coverage.covered == 4 * 512


def test_sixteen_terabytes_take_seconds() -> None:
    own = {i: memory_cells(i)[0] for i in (0, 2**18, 2**23 - 1)}
    p2m = P2m(2**32, own, frozenset(range(1024, 2048)))
    guest = Guest(Machine())
    planted = guest.plant("linear", p2m)
    guest.publish(p2m, planted)
    kernel = kernel_of(guest)
    start = time.process_time()
    table = read_table(kernel)
    built = build_list(table)
    rebuilt_in = time.process_time() - start
    _, coverage = survey(kernel, table, built)
    assert len(table.leaves) == 2**23
    assert {i: built.leaf(i) for i in own} == planted.leaves
    assert built.leaf(1500) == built.leaf(5000) == planted.missing
    assert coverage.memory == coverage.covered == 3 * 512
    assert coverage.kinds[Kind.IDENTITY] == 2**19
    assert sum(coverage.kinds.values()) == 2**32
    assert rebuilt_in < 10


def test_leaves_that_are_not_mapped_are_shared_whatever_is_missing() -> None:
    for missing, identity in ((5, 6), (5, None), (NOT_MAPPED, None), (NOT_MAPPED, 6)):
        table = P2mTable("linear", 512, array("Q", [NOT_MAPPED]), missing, identity)
        assert table.shared(NOT_MAPPED)
        assert table.shared(missing)
        assert table.shared(6) == (identity == 6)
        assert not table.shared(7)
