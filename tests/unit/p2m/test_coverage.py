# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a list covers the memory of the p2m."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.linux.kernel import Kernel, Root
from pykdump_ext.p2m.coverage import Coverage, survey
from pykdump_ext.p2m.entries import Kind
from pykdump_ext.p2m.framelist import read_list
from pykdump_ext.p2m.layouts import P2mTable, read_table

from ..made_up.guest import Guest, Planted, guest_with
from ..made_up.machine import DIRECT_MAP, FLAGS, NOTHING, P2M_AREA, PAGE, PTE
from ..made_up.p2m import own_leaves, random_cells
from ..made_up.strategies import p2ms, times


def measured(guest: Guest) -> Coverage:
    return surveyed(guest)[1]


def surveyed(guest: Guest) -> tuple[P2mTable, Coverage]:
    kernel = Kernel(guest.machine.memory(), guest.symbols, Root(guest.root, "here"))
    return survey(kernel, read_table(kernel), read_list(kernel.memory, guest.list_mfn))


# Comparing


@pytest.mark.parametrize("layout", ["two-level", "three-level", "linear"])
@given(st.data())
def test_a_truncated_list_loses_the_leaves_past_its_end(layout: str, data: st.DataObject) -> None:
    p2m = data.draw(p2ms(layout))
    cut = data.draw(st.integers(0, p2m.leaf_total))
    guest, _ = guest_with(layout, p2m, cut)
    coverage = measured(guest)
    memory = p2m.memory()
    assert coverage.memory == len(memory)
    assert coverage.covered == sum(1 for pfn in memory if pfn < cut * 512)
    lost = sorted({pfn // 512 for pfn in memory if pfn >= cut * 512})
    assert coverage.leaves_lost == len(lost)
    assert ranges(coverage.lost) == [
        pfn for leaf in lost for pfn in range(leaf * 512, min(leaf * 512 + 512, p2m.max_pfn))
    ]
    assert coverage.complete == (not lost)


def ranges(pairs: list[tuple[int, int]]) -> list[int]:
    """Return the pfns of ranges that have first and last."""
    return [pfn for first, last in pairs for pfn in range(first, last + 1)]


def test_lost_leaves_side_by_side_are_one_range() -> None:
    p2m = own_leaves(6)
    del p2m.own[3]
    p2m.max_pfn -= 100
    guest, _ = guest_with("linear", p2m, 1)
    coverage = measured(guest)
    assert coverage.lost == [(512, 1535), (2048, 6 * 512 - 101)]
    assert coverage.leaves == 5
    assert coverage.leaves_lost == 4


def test_a_leaf_without_memory_is_never_lost() -> None:
    guest, _ = guest_with(
        "linear", own_leaves(3, None, Kind.FOREIGN, Kind.IDENTITY, Kind.MISSING), 0
    )
    coverage = measured(guest)
    assert coverage.memory == 0
    assert coverage.lost == []
    assert coverage.complete


@pytest.mark.parametrize("damage", ["zero", "all ones", "unreadable"])
def test_one_damaged_entry_loses_one_leaf(damage: str) -> None:
    guest, planted = guest_with("two-level", own_leaves(4))
    page = guest.machine.get(guest.list_mfn, 0)
    word = {"zero": 0, "all ones": NOTHING, "unreadable": 0x999}[damage]
    guest.machine.put(page, 2, word)
    coverage = measured(guest)
    assert coverage.covered == 3 * 512
    assert coverage.lost == [(1024, 1535)]
    assert coverage.unreadable == []
    assert planted.leaves[2] != word


def test_a_page_of_the_list_that_is_not_there_loses_its_leaves() -> None:
    p2m = own_leaves(2, 600)
    p2m.own[599] = random_cells(Random(0), [Kind.MEMORY])
    guest, _ = guest_with("linear", p2m)
    del guest.machine.pages[guest.machine.get(guest.list_mfn, 0)]
    coverage = measured(guest)
    assert (coverage.covered, coverage.memory) == (512, 3 * 512)
    assert coverage.lost == [(0, 1023)]


def test_a_leaf_that_was_moved_covers_what_is_the_same_in_it() -> None:
    p2m = own_leaves(2)
    guest, planted = guest_with("three-level", p2m)
    copy = guest.machine.frame()
    guest.machine.pages[copy][:] = guest.machine.pages[planted.leaves[1]]
    guest.machine.put(guest.machine.get(guest.list_mfn, 0), 1, copy)
    assert measured(guest).complete
    for i in range(10):
        guest.machine.put(copy, 20 + i, NOTHING)
    guest.machine.put(copy, 30, 0x123)
    coverage = measured(guest)
    assert coverage.covered == 1024 - 11
    assert coverage.lost == [(512, 1023)]
    assert not coverage.complete


def test_a_copy_covers_no_entry_that_is_not_memory() -> None:
    p2m = own_leaves(1, None, Kind.FOREIGN, Kind.IDENTITY, Kind.MISSING, Kind.MEMORY)
    guest, planted = guest_with("two-level", p2m)
    copy = guest.machine.frame()
    guest.machine.pages[copy][:] = guest.machine.pages[planted.leaves[0]]
    guest.machine.put(guest.machine.get(guest.list_mfn, 0), 0, copy)
    coverage = measured(guest)
    assert coverage.covered == coverage.memory == len(p2m.memory()) < 512


def test_a_leaf_that_is_not_in_the_dump_is_told_and_not_counted() -> None:
    guest, planted = guest_with("linear", own_leaves(3))
    del guest.machine.pages[planted.leaves[1]]
    coverage = measured(guest)
    assert coverage.memory == coverage.covered == 1024
    assert coverage.kinds[Kind.MISSING] == 512
    assert coverage.leaves == 2
    assert coverage.lost == []
    assert len(coverage.unreadable) == 1
    assert f'{planted.leaves[1] * PAGE:x}  type: "p2m leaf"' in coverage.unreadable[0]


# Page tables damaged, and the list not


def unmap(guest: Guest, planted: Planted, leaf: int) -> None:
    """Let the page tables of a linear p2m lead to no leaf."""
    guest.space.set(P2M_AREA + leaf * PAGE, PTE, 0)


def remap(guest: Guest, planted: Planted, leaf: int) -> None:
    """Let the page tables lead to another page of mfns."""
    wrong = guest.machine.frame(range(0x5000, 0x5200))
    guest.space.set(P2M_AREA + leaf * PAGE, PTE, wrong * PAGE | FLAGS)


def misread(guest: Guest, planted: Planted, leaf: int) -> None:
    """Let the page tables lead out of the dump."""
    guest.space.set(P2M_AREA + leaf * PAGE, PTE, 0x999000 | FLAGS)


damages = pytest.mark.parametrize("damage", [unmap, remap, misread])
Damage = Callable[[Guest, Planted, int], None]


@damages
def test_a_leaf_that_only_the_list_has_is_kept(damage: Damage) -> None:
    p2m = own_leaves(3)
    guest, planted = guest_with("linear", p2m)
    damage(guest, planted, 1)
    table, coverage = surveyed(guest)
    assert list(table.leaves) == [planted.leaves[i] for i in range(3)]
    assert len(coverage.kept) == 1
    assert coverage.memory == coverage.covered == 3 * 512
    assert coverage.complete
    assert len(coverage.unreadable) == (damage is misread)


def test_a_leaf_that_page_tables_have_as_identity_counts_as_what_the_list_has() -> None:
    p2m = own_leaves(3, 5)
    p2m.identity = frozenset({4})
    guest, planted = guest_with("linear", p2m)
    assert planted.identity is not None
    guest.space.set(P2M_AREA + PAGE, PTE, planted.identity * PAGE | FLAGS)
    table, coverage = surveyed(guest)
    assert table.leaves[1] == planted.leaves[1]
    assert {kind: coverage.kinds[kind] for kind in Kind} == {kind: p2m.count(kind) for kind in Kind}
    assert coverage.complete


@damages
@pytest.mark.parametrize("witness", [0x99999, None])
def test_a_leaf_that_the_direct_map_does_not_confirm_is_not_taken_from_the_list(
    damage: Damage, witness: int | None
) -> None:
    guest, planted = guest_with("linear", own_leaves(3))
    damage(guest, planted, 1)
    guest.space.set(DIRECT_MAP + 512 * PAGE, PTE, 0 if witness is None else witness * PAGE | FLAGS)
    table, coverage = surveyed(guest)
    assert table.leaves[1] != planted.leaves[1]
    assert (table.leaves[1] == planted.missing) == (damage is not remap)
    assert not coverage.kept
    assert coverage.covered == 2 * 512


def test_a_leaf_that_the_direct_map_confirms_is_not_exchanged_for_the_lists() -> None:
    guest, planted = guest_with("linear", own_leaves(3))
    page = guest.machine.get(guest.list_mfn, 0)
    copy = guest.machine.frame()
    guest.machine.pages[copy][:] = guest.machine.pages[planted.leaves[1]]
    guest.machine.put(copy, 1, 0x123)
    guest.machine.put(page, 1, copy)
    table, coverage = surveyed(guest)
    assert table.leaves[1] == planted.leaves[1]
    assert (len(coverage.kept), coverage.covered) == (0, 3 * 512 - 1)


def test_a_survey_changes_no_table() -> None:
    guest, planted = guest_with("linear", own_leaves(3))
    misread(guest, planted, 1)
    kernel = Kernel(guest.machine.memory(), guest.symbols, Root(guest.root, "here"))
    table = read_table(kernel)
    settled, _ = survey(kernel, table, read_list(kernel.memory, guest.list_mfn))
    assert (table.leaves[1], settled.leaves[1]) == (0x999, planted.leaves[1])
    assert (settled.layout, settled.max_pfn) == (table.layout, table.max_pfn)


def test_no_list_at_all_covers_nothing() -> None:
    guest, _ = guest_with("linear", own_leaves(3))
    guest.list_mfn = NOTHING
    coverage = measured(guest)
    assert (coverage.covered, coverage.memory) == (0, 3 * 512)
    assert coverage.lost == [(0, 3 * 512 - 1)]


@cache
def three_leaves() -> Guest:
    return guest_with("linear", own_leaves(3, 1030))[0]


@settings(max_examples=times(3))
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_a_list_with_words_overwritten_is_read_and_never_covers_too_much(
    seed: int, words: int
) -> None:
    random = Random(seed)
    guest = three_leaves().copy()
    pages = [guest.list_mfn, *(guest.machine.get(guest.list_mfn, i) for i in range(3))]
    known = [*pages, 0, NOTHING, 0x999, 2**40]
    for _ in range(words):
        guest.machine.put(random.choice(pages), random.randrange(4), random.choice(known))
    coverage = measured(guest)
    assert 0 <= coverage.covered <= coverage.memory == 3 * 512
    assert coverage.complete == (not coverage.lost)
