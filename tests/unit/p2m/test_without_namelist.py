# SPDX-License-Identifier: GPL-3.0-or-later
"""The p2m of a kernel without its namelist, by what it tells Xen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.linux.kernel import Kernel, Root
from pykdump_ext.p2m.diagnosis import diagnose, diagnose_without_namelist
from pykdump_ext.p2m.framelist import read_list
from pykdump_ext.p2m.without_namelist import NoNamelist, survey_by_direct_map

from ..made_up.dump import CountingDump
from ..made_up.guest import Guest, guest_with
from ..made_up.machine import DIRECT_MAP, NOTHING, P2M_AREA, PAGE, PUD
from ..made_up.p2m import P2M
from ..made_up.strategies import p2ms
from ..made_up.talkative import CR3, LIST, SHARED_INFO, TEXT, VADDR, map_text, talkative, word


@given(st.data())
def test_every_leaf_that_is_memory_is_found_as_with_the_namelist(data: st.DataObject) -> None:
    p2m = data.draw(p2ms("linear"))
    guest = talkative(p2m)
    memory, info = guest.machine.memory(), guest.hints()
    found = diagnose_without_namelist(memory, info)
    wanted = diagnose(memory, guest.symbols, guest.banner, info)
    assert p2m.leaves_with_memory
    for leaf in p2m.leaves_with_memory:
        assert found.rebuilt.leaf(leaf) == wanted.rebuilt.leaf(leaf)
    assert found.healthy or found.coverage.leaves_lost >= wanted.coverage.leaves_lost
    assert found.check.passed
    assert found.kernel.root.maddr == guest.root
    assert len(found.rebuilt.leaves) <= p2m.leaf_total


def test_a_whole_list_is_healthy() -> None:
    guest = talkative(P2M, 4)
    found = diagnose_without_namelist(guest.machine.memory(), guest.hints())
    assert found.healthy
    assert found.coverage.memory == 1024


def test_a_cpu_that_ran_another_guest_is_passed_over() -> None:
    guest = talkative(P2M)
    other = Guest(guest.machine)
    words = [0] * 512
    words[LIST], words[CR3], words[VADDR] = 0x777, other.root, P2M_AREA
    other.space.map(SHARED_INFO, guest.machine.frame(words))
    info = guest.hints(0x9999000, other.root, guest.root)
    found = diagnose_without_namelist(guest.machine.memory(), info)
    assert found.kernel.root.maddr == guest.root
    with pytest.raises(P2mError, match="no shared_info with the kernel's p2m"):
        diagnose_without_namelist(guest.machine.memory(), guest.hints(other.root))


def test_a_damaged_address_leads_to_no_long_search() -> None:
    """It is in a mapping of a gigabyte, each of whose pages would be a leaf to look at."""
    guest = talkative(P2M)
    vaddr = 0xFFFF900000000000
    guest.space.map(vaddr, 0x40000, PUD)
    word(guest, VADDR, vaddr)
    dump = CountingDump(guest.machine.memory(), guest.notes())
    with pytest.raises(P2mError, match=f"there is no p2m at {vaddr:x}"):
        diagnose_without_namelist(dump, guest.hints())
    assert len(dump.reads) < 3000


def test_pages_of_the_fixmap_are_looked_at_once_whatever_the_number_of_cpus() -> None:
    guest = talkative(P2M)
    for number in range(1, 100):
        guest.space.map(SHARED_INFO - number * PAGE, guest.machine.frame([number] * 512))
    word(guest, LIST, 5)
    page = guest.machine.words(guest.root // PAGE)
    roots = [guest.machine.frame(page) * PAGE for _ in range(20)]
    dump = CountingDump(guest.machine.memory(), guest.notes())
    with pytest.raises(P2mError, match="no shared_info with"):
        diagnose_without_namelist(dump, guest.hints(*roots))
    assert len([what for _, _, what in dump.reads if what == "shared_info"]) < 150


def list_is(mfn: int) -> Callable[[Guest], None]:
    def change(guest: Guest) -> None:
        word(guest, LIST, mfn)
        guest.list_mfn = mfn

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda guest: word(guest, LIST, 5), "no shared_info with"),
        (list_is(0), "no shared_info with"),
        (list_is(NOTHING), "no shared_info with"),
        (lambda guest: word(guest, CR3, 0), "no shared_info with"),
        (lambda guest: word(guest, VADDR, P2M_AREA + 8), "no shared_info with"),
        (lambda guest: word(guest, VADDR, P2M_AREA - 512**2 * PAGE), "there is no p2m at"),
        (lambda guest: word(guest, CR3, 0x7777000), "read error"),
    ],
)
def test_what_the_kernel_does_not_tell_is_not_guessed(
    change: Callable[[Guest], None], said: str
) -> None:
    guest = talkative(P2M)
    change(guest)
    with pytest.raises(P2mError, match=said):
        diagnose_without_namelist(guest.machine.memory(), guest.hints())


@given(st.data())
def test_the_direct_map_shows_what_a_list_covers(data: st.DataObject) -> None:
    p2m = data.draw(p2ms("three-level"))
    published = data.draw(st.integers(0, p2m.leaf_total))
    guest, _ = guest_with("three-level", p2m, published)
    map_text(guest, p2m.memory().get(TEXT // PAGE, TEXT // PAGE))  # no memory of its own
    pgd, first = guest.space.root, guest.space.index(DIRECT_MAP, 0)
    for number in range(1, 4):  # damaged page tables have the same again: it counts once
        guest.machine.put(pgd, first + number, guest.machine.get(pgd, first))
    memory = guest.machine.memory()
    kernel = Kernel(memory, NoNamelist(), Root(guest.root, "cr3"))
    found = survey_by_direct_map(kernel, read_list(memory, guest.list_mfn))
    pages = {pfn for pfn, mfn in p2m.memory().items() if pfn != mfn}
    assert found.pages == len(pages)
    assert found.covered == sum(pfn // 512 < published for pfn in pages)
    lost = {pfn // 512 for pfn in pages if pfn // 512 >= published}
    assert {leaf for a, b in found.lost for leaf in range(a // 512, b // 512 + 1)} == lost
