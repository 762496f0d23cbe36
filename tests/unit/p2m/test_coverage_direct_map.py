# SPDX-License-Identifier: GPL-3.0-or-later
"""The direct map as a witness of the p2m."""

from __future__ import annotations

import pytest

from pykdump_ext.p2m.coverage import check_direct_map
from pykdump_ext.p2m.entries import Kind
from pykdump_ext.p2m.layouts import read_table

from ..made_up.guest import Guest, guest_with
from ..made_up.machine import DIRECT_MAP, LAYOUTS, PAGE, Machine
from ..made_up.p2m import P2m, memory_cells
from ..made_up.readings import diagnosed, kernel_of

layouts = pytest.mark.parametrize("layout", LAYOUTS)


@layouts
def test_a_direct_map_that_agrees_passes(layout: str) -> None:
    guest, _ = guest_with(layout, P2m(5 * 512, memory_cells(leaves=5)))
    check = diagnosed(guest).check
    assert (check.agree, check.disagree, check.passed) == (5, 0, True)


def test_a_direct_map_that_leads_elsewhere_does_not_pass() -> None:
    guest, _ = guest_with("linear", P2m(5 * 512, memory_cells(leaves=5)))
    guest.space.map(DIRECT_MAP + 1024 * PAGE, 0x99999)
    check = diagnosed(guest).check
    assert (check.agree, check.disagree, check.passed) == (4, 1, False)


def test_one_in_a_hundred_may_disagree() -> None:
    p2m = P2m(200 * 512, {i: [(Kind.MEMORY, 2**20 + i)] * 512 for i in range(200)})
    guest = Guest(Machine())
    guest.plant("linear", p2m)
    guest.direct_map({leaf * 512: 2**20 + leaf for leaf in range(200)})
    for wrong, passed in ((0, True), (1, True), (2, True), (3, False)):
        if wrong:
            guest.space.map(DIRECT_MAP + wrong * 512 * PAGE, 0x99999)
        kernel = kernel_of(guest)
        check = check_direct_map(kernel, read_table(kernel))
        assert (check.disagree, check.passed) == (wrong, passed)


def test_the_first_memory_of_a_leaf_is_compared() -> None:
    own = memory_cells()
    own[0][:77] = [(Kind.MISSING, 0)] * 77
    guest, _ = guest_with("linear", P2m(512, own))
    assert diagnosed(guest).check.agree == 1
    guest.space.map(DIRECT_MAP + 77 * PAGE, 0x99999)
    assert diagnosed(guest).check.disagree == 1


def test_memory_without_a_direct_map_is_not_compared() -> None:
    guest = Guest(Machine())
    guest.plant("linear", P2m(512 * 3, memory_cells(leaves=3)))
    guest.direct_map({512: memory_cells(leaves=3)[1][0][1]})
    kernel = kernel_of(guest)
    check = check_direct_map(kernel, read_table(kernel))
    assert (check.agree, check.disagree, check.passed) == (1, 0, True)


def test_nothing_compared_is_no_pass() -> None:
    guest = Guest(Machine())
    guest.plant("linear", P2m(512, memory_cells()))
    guest.direct_map({})
    kernel = kernel_of(guest)
    assert not check_direct_map(kernel, read_table(kernel)).passed


@pytest.mark.parametrize(
    ("leaves", "samples"),
    [
        (40, 4),
        (40, 40),
        (40, 1),
        (40, 21),
    ],
)
def test_no_more_than_the_samples_asked_for_are_compared(leaves: int, samples: int) -> None:
    guest, _ = guest_with("linear", P2m(leaves * 512, memory_cells(leaves=leaves)))
    kernel = kernel_of(guest)
    check = check_direct_map(kernel, read_table(kernel), samples)
    assert 1 <= check.agree <= samples
