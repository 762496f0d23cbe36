# SPDX-License-Identifier: GPL-3.0-or-later
"""A p2m shown as ranges."""

from __future__ import annotations

from itertools import groupby
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.p2m.entries import Kind
from pykdump_ext.p2m.ranges import Source, ranges

from ..made_up.guest import guest_with
from ..made_up.machine import LAYOUTS, P2M_AREA, PAGE, PTE
from ..made_up.p2m import P2m, random_cells
from ..made_up.readings import diagnosed
from ..made_up.strategies import p2ms


@pytest.mark.parametrize("layout", LAYOUTS)
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
    guest.space.set(P2M_AREA + PAGE, PTE, 0)
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
