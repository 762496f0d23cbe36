# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel: values by symbol, the proof of a page-table root."""

from __future__ import annotations

import pytest

from pykdump_ext.errors import P2mError, ReadError
from pykdump_ext.linux.kernel import Root
from pykdump_ext.linux.root_proof import prove_root

from ..made_up.guest import Guest
from ..made_up.machine import BANNER, DIRECT_MAP, PAGE, Machine, SymbolTable
from ..made_up.readings import kernel_of

OTHER_BANNER = b"Linux version 4.14.35-other (builder@example) #2 SMP\n"


# Values


def test_a_variable_is_read_by_its_symbol() -> None:
    guest = Guest(Machine())
    guest.variable("max_pfn", 0xFEDCBA9876543210)
    kernel = kernel_of(guest)
    assert kernel.value("max_pfn") == 0xFEDCBA9876543210
    assert kernel.word(guest.symbols["max_pfn"], "it") == 0xFEDCBA9876543210
    assert kernel.address("max_pfn") == guest.symbols["max_pfn"]


def test_a_symbol_that_is_not_there_is_told_by_name() -> None:
    with pytest.raises(P2mError, match="no symbol xen_p2m_addr"):
        kernel_of(Guest(Machine())).value("xen_p2m_addr")


def test_an_address_has_the_machine_frame_it_is_mapped_to() -> None:
    guest = Guest(Machine())
    guest.space.map(DIRECT_MAP, 0x2345)
    assert kernel_of(guest).mfn_at(DIRECT_MAP + 0xFFF, "it") == 0x2345
    with pytest.raises(ReadError):
        kernel_of(guest).mfn_at(DIRECT_MAP + PAGE, "it")


@pytest.mark.parametrize("base", [0xFFFF880000000000, 0xFFFF888000000000])
def test_the_direct_map_begins_where_the_kernels_text_is_in_it(base: int) -> None:
    guest = Guest(Machine())
    text = guest.symbols["linux_banner"]
    offset = (text - 0xFFFFFFFF80000000) // PAGE * PAGE
    guest.space.map(base + offset, kernel_of(guest).mfn_at(text, "text"))
    other = 0xFFFF880000000000 ^ 0xFFFF888000000000 ^ base
    guest.space.map(other + offset, 0x99999)
    assert kernel_of(guest).page_offset() == base


def test_the_direct_map_begins_where_the_kernel_says() -> None:
    guest = Guest(Machine())
    guest.variable("page_offset_base", 0xFFFF8F0000000000)
    assert kernel_of(guest).page_offset() == 0xFFFF8F0000000000


def test_a_direct_map_that_is_nowhere_is_told() -> None:
    with pytest.raises(P2mError, match="direct map is not at ffff880000000000 or ffff888"):
        kernel_of(Guest(Machine())).page_offset()


# The root


def two_guests() -> tuple[Guest, Guest]:
    """Return two kernels of one machine, which differ in their banners only."""
    machine = Machine()
    return Guest(machine), Guest(machine, OTHER_BANNER)


def test_the_right_root_is_found_among_wrong_ones() -> None:
    guest, other = two_guests()
    idle = guest.machine.frame()
    wrong = [Root(0xDEAD000, "gone"), Root(idle * PAGE, "idle"), Root(other.root, "other")]
    right = Root(guest.root, "cr3, cpu 3")
    for candidates in ([right, *wrong], [*wrong, right], [*wrong[:2], right, *wrong[2:]]):
        kernel = prove_root(guest.machine.memory(), guest.symbols, BANNER, candidates)
        assert kernel.root == right
        assert kernel.read(guest.symbols["linux_banner"], len(BANNER), "it") == BANNER


def test_each_kernel_of_a_machine_is_proved_by_its_own_banner() -> None:
    guest, other = two_guests()
    roots = [Root(guest.root, "one"), Root(other.root, "two")]
    memory = guest.machine.memory()
    assert prove_root(memory, other.symbols, OTHER_BANNER, roots).root.source == "two"
    assert prove_root(memory, guest.symbols, BANNER, roots).root.source == "one"


def test_a_banner_that_differs_in_its_last_byte_is_another_kernels() -> None:
    guest = Guest(Machine(), BANNER[:-2] + b"!\n")
    with pytest.raises(P2mError, match="another kernel"):
        prove_root(guest.machine.memory(), guest.symbols, BANNER, [Root(guest.root, "it")])


def test_without_a_root_the_error_lists_what_each_candidate_gave() -> None:
    guest, other = two_guests()
    candidates = [Root(0xDEAD000, "cr3, cpu 0"), Root(other.root, "init_top_pgt")]
    with pytest.raises(P2mError) as caught:
        prove_root(guest.machine.memory(), guest.symbols, BANNER, candidates)
    text = str(caught.value)
    assert text.startswith("no page-table root of this kernel found: ")
    gone, another = text.split(": ", 1)[1].split("; ")
    assert gone.startswith("dead000 (cr3, cpu 0): read error: machine address: dead")
    assert another.startswith(f"{other.root:x} (init_top_pgt): another kernel, Linux 4.14")


def test_without_candidates_the_error_says_so() -> None:
    guest = Guest(Machine())
    with pytest.raises(P2mError, match="there was none to try"):
        prove_root(guest.machine.memory(), guest.symbols, BANNER, [])


def test_a_candidate_that_comes_twice_is_tried_once() -> None:
    guest = Guest(Machine())
    candidates = [Root(0xDEAD000, "cpu 0"), Root(0xDEAD018, "cpu 1"), Root(0xDEAD000, "cpu 2")]
    with pytest.raises(P2mError) as caught:
        prove_root(guest.machine.memory(), guest.symbols, BANNER, candidates)
    assert str(caught.value).count("dead") == 2  # the candidate, and the page it names
    assert "cpu 1" not in str(caught.value)


def test_a_namelist_without_a_banner_proves_nothing() -> None:
    guest = Guest(Machine())
    with pytest.raises(P2mError, match="no symbol linux_banner"):
        prove_root(guest.machine.memory(), SymbolTable(), BANNER, [Root(guest.root, "it")])


def test_an_empty_banner_proves_nothing() -> None:
    guest = Guest(Machine())
    with pytest.raises(P2mError):
        prove_root(guest.machine.memory(), guest.symbols, b"", [Root(0xDEAD000, "gone")])
