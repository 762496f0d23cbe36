# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's frame table: who owns each page."""

from __future__ import annotations

from dataclasses import replace

from ..made_up.host import DEFAULT, GROUP, Host
from ..made_up.machine import PAGE


def test_pages_and_kinds() -> None:
    host = Host()
    kinds = {0: "PV", 1: "HVM", 2: "PV, 32 bits", 3: "unknown"}
    levels = {0: (4, 1), 1: (0, 0, 0, 0, 0, 0), 2: (3, 0, 0, 0, 0), 3: ()}
    for number in kinds:
        index = host.add(number)
        for level in levels[number]:
            host.give(index, host.machine.frame(), level)
    free, freed = host.machine.frame(), host.machine.frame()
    host.page_info(free, 3 << 58, 0, 9)  # its order, and not an owner
    host.page_info(freed, 1, 0, host.domains[0])  # given back, and still mapped somewhere
    xen = host.open()
    found = xen.owned(list(xen.domains()))
    assert {number: one.kind for number, one in found.items()} == kinds
    assert [found[number].pages for number in kinds] == [2, 6, 5, 0]


def test_a_hole_in_the_frame_table_is_passed_over() -> None:
    host = Host()
    host.table = bytearray((2 * GROUP + 1) * PAGE)
    host.holes = {1}
    host.machine.put(host.variables, 2, len(host.table) // 32)
    index = host.add(0)
    host.give(index, host.machine.frame())
    host.give(index, 2 * GROUP * PAGE // 32 + 5)
    xen = host.open()
    assert xen.owned(list(xen.domains()))[0].pages == 2


def test_xen_before_4_10_has_one_bit_more_for_the_type() -> None:
    host = Host(replace(DEFAULT, version=(4, 9), type_shift=60))
    index, root = host.add(0), host.machine.frame()
    host.give(index, root, level=4)
    host.give(index, host.machine.frame(), level=2)
    xen = host.open()
    found = xen.owned(list(xen.domains()))[0]
    assert (found.roots, found.threes) == ([root], 0)
