# SPDX-License-Identifier: GPL-3.0-or-later
"""The published list: read as far as it can be, built, and as crash reads it."""

from __future__ import annotations

from array import array
from random import Random

import pytest

from pykdump_ext.linux.kernel import Kernel, Root
from pykdump_ext.p2m.diagnosis import diagnose
from pykdump_ext.p2m.framelist import FrameList, build_list, read_list
from pykdump_ext.p2m.layouts import read_table

from ..made_up.guest import Guest, guest_with
from ..made_up.machine import NOTHING, PAGE, Machine
from ..made_up.p2m import P2m, own_leaves, random_cells

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
    found = diagnose(memory, guest.symbols, guest.banner, guest.hints())
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
    assert flaws(guest) == ("the list has a gap at leaf 5: crash misreads what follows it",)


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
