# SPDX-License-Identifier: GPL-3.0-or-later
"""A p2m compared with the direct map and Xen's machine-to-phys table."""

from __future__ import annotations

from random import Random

import pytest

from pykdump_ext.p2m.entries import Kind
from pykdump_ext.p2m.m2p import M2P, MACH2PHYS_VIRT_START
from pykdump_ext.p2m.verify import (
    DIRECT_MAP,
    Disagreement,
    sample,
    verify,
)

from ..made_up.guest import Guest, guest_with
from ..made_up.machine import DIRECT_MAP as KERNEL_DIRECT_MAP
from ..made_up.machine import LAYOUTS, PAGE, PTE, Machine
from ..made_up.p2m import P2m, random_cells
from ..made_up.readings import diagnosed

EVERYTHING = 2**62


def plant_m2p(guest: Guest, memory: dict[int, int], base: int = MACH2PHYS_VIRT_START) -> None:
    """Give the guest Xen's table, as far as it tells of ``memory`` (pfn to mfn)."""
    pages: dict[int, int] = {}
    for pfn, mfn in memory.items():
        if mfn // 512 not in pages:
            pages[mfn // 512] = guest.machine.frame()
            guest.space.map(base + mfn // 512 * PAGE, pages[mfn // 512])
        guest.machine.put(pages[mfn // 512], mfn % 512, pfn)


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
    assert [*done.disagreements()] == []


def test_what_differs_is_told_by_range() -> None:
    p2m = P2m(1024, {i: random_cells(Random(i), [Kind.MEMORY]) for i in range(2)})
    memory = p2m.memory()
    guest, _ = guest_with("linear", p2m)
    for pfn in range(510, 515):
        guest.space.map(KERNEL_DIRECT_MAP + pfn * PAGE, 0x99999)
    guest.space.set(KERNEL_DIRECT_MAP + 1000 * PAGE, PTE, 0)
    plant_m2p(guest, memory)
    for pfn in (511, 512):
        mfn = memory[pfn]
        page = (guest.space.maddr(MACH2PHYS_VIRT_START + mfn // 512 * PAGE) or 0) // PAGE
        guest.machine.put(page, mfn % 512, 0x55)
    found = diagnosed(guest)
    done = verify(found, sample(found, EVERYTHING))
    assert (done.direct_map.differ, done.direct_map.absent) == (5, 1)
    assert (done.m2p.differ, done.m2p.absent) == (2, 0)
    assert sorted(done.disagreements(), key=lambda one: one.first) == [
        Disagreement(DIRECT_MAP, 510, 514, memory[510], 0x99999),
        Disagreement(M2P, 511, 512, memory[511], 0x55),
    ]


def test_tables_that_are_not_there_are_counted_as_absent() -> None:
    p2m = P2m(512, {0: random_cells(Random(1), [Kind.MEMORY])})
    guest = Guest(Machine())
    planted = guest.plant("linear", p2m)
    guest.publish(p2m, planted)
    found = diagnosed(guest)
    done = verify(found, sample(found, EVERYTHING))
    assert (done.direct_map.absent, done.m2p.absent, [*done.disagreements()]) == (512, 512, [])


def test_a_sample_is_spread() -> None:
    p2m = P2m(512 * 100, {i: random_cells(Random(i), [Kind.MEMORY]) for i in range(100)})
    guest, _ = guest_with("linear", p2m)
    found = diagnosed(guest)
    some = sample(found, 10)
    assert [*some] == list(range(0, 100, 10))
    done = verify(found, some)
    assert (done.looked_at, done.leaves, done.pages) == (10, 100, 5120)
