"""The published list: read as far as it can be, and compared with the p2m."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.kernel import Kernel, Root
from pykdump_ext.p2m import (
    Coverage,
    FrameList,
    Kind,
    P2mTable,
    build_list,
    diagnose,
    read_list,
    read_table,
    survey,
)

from .machine import (
    DIRECT_MAP,
    FLAGS,
    NOTHING,
    P2M_AREA,
    PAGE,
    PTE,
    Guest,
    Machine,
    P2m,
    Planted,
    guest_with,
    random_cells,
)
from .strategies import p2ms


def measured(guest: Guest) -> Coverage:
    return surveyed(guest)[1]


def surveyed(guest: Guest) -> tuple[P2mTable, Coverage]:
    kernel = Kernel(guest.machine.memory(), guest.symbols, Root(guest.root, "here"))
    return survey(kernel, read_table(kernel), read_list(kernel.memory, guest.list_mfn))


def own_leaves(count: int, total: int | None = None, *kinds: Kind) -> P2m:
    """Return a p2m of ``total`` leaves, the first ``count`` of them with memory."""
    random = Random(count)
    own = {i: random_cells(random, kinds or (Kind.MEMORY,)) for i in range(count)}
    return P2m((total or count) * 512, own)


# Reading


@pytest.mark.parametrize("count", [1, 511, 512, 513, 1500, 512 * 512])
def test_a_list_names_the_leaves_in_order(count: int) -> None:
    machine = Machine()
    leaves = [0x100000 + i for i in range(count)]
    pages = [machine.frame(leaves[at : at + 512]) for at in range(0, count, 512)]
    top = machine.frame(pages)
    frames = read_list(machine.memory(), top)
    assert [frames.leaf(i) for i in range(count)] == leaves
    assert frames.leaf(count) is None
    assert frames.problems == ()


def test_a_list_that_cannot_be_read_names_nothing_and_says_so() -> None:
    for mfn in (0x999, NOTHING):
        frames = read_list(Machine().memory(), mfn)
        assert [frames.leaf(i) for i in (0, 1, 512, 2**18 - 1, 2**18, 2**40)] == [None] * 6
        assert len(frames.problems) == 1
        assert (
            f'machine address: {mfn * PAGE:x}  type: "pfn_to_mfn_frame_list_list"'
            in (frames.problems[0])
        )


def test_zero_entries_name_nothing_and_are_no_problem() -> None:
    machine = Machine()
    page = machine.frame([0, 0x77, 0])
    top = machine.frame([0, page])
    frames = read_list(machine.memory(), top)
    assert [frames.leaf(512 + i) for i in range(3)] == [None, 0x77, None]
    assert [frames.leaf(i) for i in range(512)] == [None] * 512
    assert frames.problems == ()


def test_an_entry_of_all_ones_names_nothing() -> None:
    machine = Machine()
    page = machine.frame([NOTHING, 0x77])
    top = machine.frame([page])
    frames = read_list(machine.memory(), top)
    assert [frames.leaf(0), frames.leaf(1)] == [None, 0x77]


def test_a_page_that_cannot_be_read_names_nothing_and_is_told_once() -> None:
    machine = Machine()
    page = machine.frame([0x77])
    top = machine.frame([0x999, page, 0x999, 0x998])
    frames = read_list(machine.memory(), top)
    assert [frames.leaf(i * 512) for i in range(5)] == [None, 0x77, None, None, None]
    assert len(frames.problems) == 2
    assert "999000" in frames.problems[0]
    assert "998000" in frames.problems[1]


def test_a_list_that_leads_to_itself_is_read_to_its_end() -> None:
    machine = Machine()
    top = machine.frame()
    for i in range(512):
        machine.put(top, i, top)
    frames = read_list(machine.memory(), top)
    assert frames.leaf(2**18 - 1) == top
    assert frames.leaf(2**18) is None


# Building


def test_identity_leaves_appear_as_missing_in_the_built_list() -> None:
    p2m = P2m(4 * 512, {1: random_cells(Random(1))}, frozenset({2}))
    guest, planted = guest_with("three-level", p2m)
    table = read_table(Kernel(guest.machine.memory(), guest.symbols, Root(guest.root, "")))
    assert list(table.leaves) == [
        planted.missing, planted.leaves[1], planted.identity, planted.missing,
    ]  # fmt: skip
    assert list(build_list(table).leaves) == [
        planted.missing, planted.leaves[1], planted.missing, planted.missing,
    ]  # fmt: skip


# Comparing


@pytest.mark.parametrize("layout", ["two-level", "three-level", "linear"])
@settings(max_examples=40)
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


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_a_list_with_words_overwritten_is_read_and_never_covers_too_much(
    seed: int, words: int
) -> None:
    random = Random(seed)
    guest, _ = guest_with("linear", own_leaves(3, 1030))
    pages = [guest.list_mfn, *(guest.machine.get(guest.list_mfn, i) for i in range(3))]
    known = [*pages, 0, NOTHING, 0x999, 2**40]
    for _ in range(words):
        guest.machine.put(random.choice(pages), random.randrange(4), random.choice(known))
    coverage = measured(guest)
    assert 0 <= coverage.covered <= coverage.memory == 3 * 512
    assert coverage.complete == (not coverage.lost)


def test_a_leaf_past_the_end_of_a_list_is_none() -> None:
    frames = build_list(read_table(kernel_of_one_leaf()))
    assert frames.leaf(0) is not None
    assert frames.leaf(1) is None
    assert isinstance(frames, FrameList)


def kernel_of_one_leaf() -> Kernel:
    guest, _ = guest_with("flat", own_leaves(1))
    return Kernel(guest.machine.memory(), guest.symbols, Root(guest.root, "here"))


# What crash cannot read


def flaws(guest: Guest) -> tuple[str, ...]:
    memory = guest.machine.memory()
    found = diagnose(memory, guest.symbols, guest.banner, guest.xen_info())
    assert found.coverage.complete
    assert found.healthy is not bool(found.published.problems)
    return found.published.problems


def whole_guest(layout: str) -> tuple[Guest, int]:
    """Return a guest whose list is whole, and the mfn of the list's first page."""
    guest, planted = guest_with(layout, P2m(700 * 512, {0: random_cells(Random(1))}))
    guest.list_mfn, first, *_ = guest.publish(P2m(700 * 512), planted)
    return guest, first


@pytest.mark.parametrize("layout", ["two-level", "three-level", "linear"])
def test_a_whole_list_is_healthy(layout: str) -> None:
    guest, _ = whole_guest(layout)
    assert flaws(guest) == ()


@pytest.mark.parametrize("layout", ["two-level", "three-level", "linear"])
def test_a_gap_where_no_memory_is_has_crash_misread_the_list(layout: str) -> None:
    guest, first = whole_guest(layout)
    guest.machine.put(first, 5, 0)
    assert flaws(guest) == ("the list has a gap at leaf 5: crash misreads what is behind it",)


@pytest.mark.parametrize("layout", ["two-level", "three-level", "linear"])
def test_a_leaf_that_is_not_in_the_dump_ends_crash_even_where_no_memory_is(layout: str) -> None:
    guest, first = whole_guest(layout)
    guest.machine.put(first, 5, 0x7777777)
    assert flaws(guest) == ('read error: machine address: 7777777000  type: "p2m leaf"',)


def test_zeros_at_the_end_are_no_gap() -> None:
    assert FrameList(array("Q", [7, 8, 0, 0])).gap is None
    assert FrameList(array("Q")).gap is None
    assert FrameList(array("Q", [0, 0])).gap is None
    assert FrameList(array("Q", [7, 0, 8, 0])).gap == 1
