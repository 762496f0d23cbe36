# SPDX-License-Identifier: GPL-3.0-or-later
"""From memory and symbols to all there is to say about a p2m."""

from __future__ import annotations

import contextlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.linux.kernel import Root
from pykdump_ext.p2m.coverage import survey
from pykdump_ext.p2m.diagnosis import diagnose
from pykdump_ext.p2m.entries import Kind

from ..made_up.guest import Guest, guest_with
from ..made_up.machine import BANNER, KERNEL_MAP, LAYOUTS, NOTHING, P2M_AREA, PAGE, PTE, Machine
from ..made_up.p2m import Cell, P2m, entry_of, memory_cells, random_cells
from ..made_up.readings import diagnosed
from ..made_up.strategies import p2ms

layouts = pytest.mark.parametrize("layout", LAYOUTS)


@layouts
@given(st.data())
def test_a_diagnosis_knows_every_pfn(layout: str, data: st.DataObject) -> None:
    p2m = data.draw(p2ms(layout))
    cut = data.draw(st.sampled_from([0, p2m.leaf_total // 2, p2m.leaf_total]))
    guest, _ = guest_with(layout, p2m, cut)
    diagnosis = diagnosed(guest)
    memory = p2m.memory()
    assert diagnosis.table.layout == layout
    assert diagnosis.kernel.root == Root(guest.root, "cr3, cpu 0")
    assert diagnosis.coverage.memory == len(memory)
    assert diagnosis.coverage.covered == sum(1 for pfn in memory if pfn < cut * 512)
    assert diagnosis.healthy == all(pfn < cut * 512 for pfn in memory)
    assert diagnosis.check.disagree == 0
    assert diagnosis.check.passed == bool(diagnosis.check.agree)
    asked = [
        *(leaf * 512 + i for leaf in p2m.own for i in (0, 1, 77, 511)),
        *(leaf * 512 + 5 for leaf in p2m.identity),
        *data.draw(st.lists(st.integers(0, p2m.max_pfn - 1), max_size=20)),
        p2m.max_pfn - 1,
    ]
    for pfn in [pfn for pfn in asked if pfn < p2m.max_pfn]:
        kind, mfn = p2m.cell(pfn)
        assert diagnosis.kind(pfn) is kind
        shared = pfn // 512 not in p2m.own
        expected = NOTHING if shared else entry_of((kind, mfn), pfn)
        assert diagnosis.entry(diagnosis.rebuilt, pfn) == expected
        published = diagnosis.entry(diagnosis.published, pfn)
        if pfn < cut * 512:
            assert published == expected
        else:
            assert published in (None, NOTHING)


@layouts
def test_the_pfns_of_a_frame_are_all_those_that_have_it(layout: str) -> None:
    own = memory_cells(leaves=3)
    own[0][0] = own[1][511] = own[2][17] = own[2][400] = (Kind.MEMORY, 0x1_2345_6789)
    own[1][5] = (Kind.FOREIGN, 0x1_2345_6789)
    own[1][6] = (Kind.IDENTITY, 0)
    guest, _ = guest_with(layout, P2m(2 * 512 + 400, own))
    diagnosis = diagnosed(guest)
    assert list(diagnosis.pfns_of(0x1_2345_6789)) == [0, 1023, 1041]
    assert list(diagnosis.pfns_of(0x7_7777_7777_7777)) == []
    assert list(diagnosis.pfns_of(own[1][9][1])) == [521]


def test_the_bytes_of_a_frame_number_across_two_entries_are_no_pfn() -> None:
    own = memory_cells()
    own[0][10], own[0][11], own[0][12] = [(Kind.MEMORY, mfn) for mfn in (0x100, 0x200, 1)]
    guest, _ = guest_with("linear", P2m(512, own))
    assert list(diagnosed(guest).pfns_of(1)) == [12]


@layouts
def test_a_list_that_ends_early_is_not_healthy(layout: str) -> None:
    guest, _ = guest_with(layout, P2m(3 * 512, memory_cells(leaves=3)), 2)
    diagnosis = diagnosed(guest)
    assert not diagnosis.healthy
    assert diagnosis.coverage.lost == [(1024, 1535)]
    assert survey(diagnosis.kernel, diagnosis.table, diagnosis.rebuilt)[1].complete


@layouts
def test_the_root_is_found_among_the_cr3s_of_all_cpus(layout: str) -> None:
    guest, _ = guest_with(layout, P2m(512, memory_cells()))
    other = Guest(guest.machine, b"Linux version 2\n")
    diagnosis = diagnosed(guest, 0xDEAD000, other.root, guest.root, 0xBEEF000)
    assert diagnosis.kernel.root == Root(guest.root, "cr3, cpu 2")
    assert diagnosis.healthy


@pytest.mark.parametrize("symbol", ["init_top_pgt", "init_level4_pgt"])
def test_the_kernels_own_top_table_is_found_through_the_list(symbol: str) -> None:
    guest = Guest(Machine())
    own = memory_cells(leaves=9)
    pfn = 8 * 512 + 100
    own[8][100] = (Kind.MEMORY, guest.space.root)
    p2m = P2m(9 * 512, own)
    guest.symbols[symbol] = KERNEL_MAP + pfn * PAGE
    guest.publish(p2m, guest.plant("linear", p2m))
    guest.direct_map(p2m.memory())
    assert diagnosed(guest, 0xDEAD000).kernel.root == Root(guest.root, symbol)


@pytest.mark.parametrize("damage", ["missing", "foreign", "unlisted", "low", "leaf gone"])
def test_a_top_table_that_the_list_does_not_lead_to_is_no_candidate(damage: str) -> None:
    guest = Guest(Machine())
    own = memory_cells(leaves=9)
    cells: dict[str, Cell] = {
        "missing": (Kind.MISSING, 0),
        "foreign": (Kind.FOREIGN, guest.space.root),
    }
    own[8][100] = cells.get(damage, (Kind.MEMORY, guest.space.root))
    p2m = P2m(9 * 512, own)
    base = 0 if damage == "low" else KERNEL_MAP
    guest.symbols["init_top_pgt"] = base + (8 * 512 + 100) * PAGE
    planted = guest.plant("linear", p2m)
    guest.publish(p2m, planted, 8 if damage == "unlisted" else 9)
    if damage == "leaf gone":
        del guest.machine.pages[planted.leaves[8]]
    if damage == "unlisted":
        guest.machine.pages[planted.missing or 0][:] = bytes(b"\xff" * PAGE)
    with pytest.raises(P2mError, match=r"no page-table root.*dead000") as caught:
        diagnosed(guest, 0xDEAD000)
    assert "init_top_pgt" not in str(caught.value)


def test_a_diagnosis_needs_a_root() -> None:
    guest, _ = guest_with("linear", P2m(512, memory_cells()))
    with pytest.raises(P2mError, match="another kernel"):
        diagnose(guest.machine.memory(), guest.symbols, BANNER[:-2] + b"?\n", guest.hints())


@layouts
def test_a_p2m_without_memory_is_told_as_damage(layout: str) -> None:
    own = {0: random_cells(Random(1), [Kind.FOREIGN, Kind.IDENTITY, Kind.MISSING])}
    guest, _ = guest_with(layout, P2m(512, own))
    with pytest.raises(P2mError, match="no memory in it"):
        diagnosed(guest)


@layouts
def test_a_p2m_of_shared_leaves_alone_is_told_as_damage(layout: str) -> None:
    if layout == "flat":
        guest, planted = guest_with(layout, P2m(512, memory_cells()))
        guest.space.set(P2M_AREA, PTE, 0)
    else:
        guest, planted = guest_with(layout, P2m(1024))
    with pytest.raises(P2mError, match="no memory in it"):
        diagnosed(guest)
    assert planted.missing is None or not planted.leaves


@layouts
def test_a_dump_without_any_leaf_of_the_p2m_is_not_healthy(layout: str) -> None:
    guest, planted = guest_with(layout, P2m(1024, memory_cells(leaves=2)))
    for mfn in planted.leaves.values():
        del guest.machine.pages[mfn]
    with contextlib.suppress(P2mError):
        assert not diagnosed(guest).healthy


def test_a_pfn_past_the_p2m_is_missing() -> None:
    guest, _ = guest_with("linear", P2m(512, memory_cells()))
    diagnosis = diagnosed(guest)
    assert diagnosis.kind(512) is Kind.MISSING
    assert diagnosis.kind(2**40) is Kind.MISSING
    assert diagnosis.entry(diagnosis.rebuilt, 2**40) is None
