# SPDX-License-Identifier: GPL-3.0-or-later
"""The domains of a host: Xen's list of them."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import replace
from random import Random

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.machine.notes import Note
from pykdump_ext.opened import OpenedDump
from pykdump_ext.xen.domains import Domain, open_xen
from pykdump_ext.xen.hints import DomainHints
from pykdump_ext.xen.notes import XEN_ELFNOTE_CRASH_INFO, XEN_ELFNOTE_CRASH_REGS
from pykdump_ext.xen.shared_info import LIST_INVALID

from ..made_up.dump import MadeUpDump
from ..made_up.host import (
    ALLOCATED,
    BIGMEM,
    DEFAULT,
    DIRECT_MAP,
    NEXT_AT,
    TABLE_MFN,
    XEN_HEAP,
    Build,
    Host,
    guest_on_host,
)
from ..made_up.machine import PAGE


def hints_of(memory: PageMemory, notes: list[Note], domain: int) -> DomainHints:
    return OpenedDump(MadeUpDump(memory, notes), domain=domain).hints


def two_domains(host: Host) -> tuple[Domain, Domain]:
    first, second = host.open().domains()
    return first, second


# The list


def test_domains_are_found_in_the_order_of_xens_list() -> None:
    host = Host()
    for number in (0, 7, 3):
        host.add(number)
    assert [domain.id for domain in host.open().domains()] == [0, 7, 3]
    assert host.open().domain(3).id == 3
    with pytest.raises(P2mError, match=r"^the Xen host has no domain 4; it has 0, 3, 7$"):
        host.open().domain(4)


@pytest.mark.parametrize("shared_at", [8, 16, 64, 128])
def test_what_a_domain_publishes_is_found_wherever_the_pointer_to_it_is(shared_at: int) -> None:
    host = Host(replace(DEFAULT, shared_at=shared_at))
    host.add(0, (0x8000, 0x1234, 77, 0x5000, 0xFFFFC90000000000))
    host.add(1, (0x4000, LIST_INVALID, 0, 0x6000, 0xFFFFC90000001000))
    first, second = (domain.shared for domain in two_domains(host))
    assert first is not None and second is not None
    assert (first.max_pfn, first.frame_list_mfn, first.p2m_cr3) == (0x8000, 0x1234, 0x5000)
    assert first.has_list and not second.has_list
    assert (second.p2m_cr3, second.p2m_vaddr) == (0x6000, 0xFFFFC90000001000)


def test_a_page_of_another_domain_or_of_the_domains_own_memory_is_not_its_shared_info() -> None:
    host = Host()
    first, second = host.add(0, None), host.add(1)
    others, own = host.machine.frame(), host.machine.frame()
    host.page_info(others, ALLOCATED | XEN_HEAP | 1, 0, second)
    host.give(first, own)
    host.machine.put(host.domains[0], 2, host.direct(others))
    host.machine.put(host.domains[0], 3, host.direct(own))
    host.machine.put(host.domains[0], 4, 0xFFFF82D040400000)  # no page of the direct map
    zero, one = two_domains(host)
    assert zero.shared is None
    assert one.shared is not None


@pytest.mark.parametrize("build", [DEFAULT, BIGMEM, replace(DEFAULT, offset=0x800)])
def test_builds_of_xen(build: Build) -> None:
    """Owners of 4 and of 8 bytes, and frame numbers that are compressed."""
    host = Host(build)
    index = host.add(0, (0x8000, 0x1234))
    frames = [host.machine.frame() for _ in range(5)]
    for number, mfn in enumerate(frames):
        host.give(index, mfn, level=4 if number == 3 else 0)
    xen = host.open()
    found = xen.owned(list(xen.domains()))
    assert (found[0].pages, found[0].roots, found[0].kind) == (5, [frames[3]], "PV")
    shared = xen.domain(0).shared
    assert shared is not None and shared.frame_list_mfn == 0x1234
    assert xen.owner(frames[0] * PAGE) == (None if build.offset else 0)


# Damage


def test_a_list_that_comes_back_to_itself_is_damaged() -> None:
    host = Host()
    host.add(0)
    host.add(1)
    host.machine.put(host.domains[1], NEXT_AT // 8, host.direct(host.domains[0]))
    with pytest.raises(P2mError, match=r"^Xen's list of domains is damaged: ffff83"):
        list(host.open().domains())


@pytest.mark.parametrize("word", [1, 0x1000, DIRECT_MAP + 8])
def test_a_list_with_something_else_in_it_is_damaged(word: int) -> None:
    host = Host()
    host.add(0)
    host.machine.put(host.domains[0], NEXT_AT // 8, word)
    with pytest.raises(P2mError, match=f"^Xen's list of domains is damaged: {word:x} is in it$"):
        list(host.open().domains())


def test_a_reserved_id_is_of_no_domain_in_the_list() -> None:
    host = Host()
    host.add(0x7FF2)
    with pytest.raises(P2mError, match="damaged: id 32754 is in it"):
        host.open()


@pytest.mark.parametrize("name", ["SYMBOL(domain_list)", "SIZE(page_info)"])
def test_a_note_that_lacks_something_says_what(name: str) -> None:
    host = Host()
    host.add(0)
    del host.vmcoreinfo[name]
    with pytest.raises(P2mError) as error:
        host.open()
    assert str(error.value) == f"the dump's VMCOREINFO_XEN note has no {name}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIZE(page_info)", "0"),
        ("SIZE(page_info)", "33"),
        ("OFFSET(page_info._domain)", "32"),
        ("OFFSET(page_info.count_info)", "16"),
        ("OFFSET(domain.next_in_list)", "123456"),
    ],
)
def test_offsets_that_cannot_be_are_told(name: str, value: str) -> None:
    host = Host()
    host.add(0)
    host.vmcoreinfo[name] = value
    with pytest.raises(
        P2mError, match=r"note is damaged: its offsets of (page_info|domain) contradict"
    ):
        host.open()


def test_max_page_beyond_any_machine_is_damage() -> None:
    host = Host()
    host.add(0)
    host.machine.put(host.variables, 2, 2**63)
    with pytest.raises(P2mError, match=r"^Xen's max_page is 8000000000000000: "):
        host.open()


def test_a_dump_without_the_notes_has_no_domains() -> None:
    host = Host()
    host.add(0)
    notes = host.notes()
    with pytest.raises(P2mError, match=r"^the dump has no XEN_ELFNOTE_CRASH_INFO note"):
        open_xen(host.memory(), [])
    with pytest.raises(P2mError, match=r"^the dump has no VMCOREINFO_XEN note"):
        open_xen(host.memory(), notes[:-1])


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_damaged_errors_are_ours(seed: int) -> None:
    host, _, _ = guest_on_host()
    pages = dict(host.memory().pages)
    random = Random(seed)
    frames = [host.variables, *host.domains, *host.xen.tables, TABLE_MFN + 40]
    for _ in range(random.randrange(1, 30)):
        mfn = random.choice(frames)
        word = random.choice([random.getrandbits(64), random.getrandbits(12) << 12 | 0x63, 0])
        at = random.choice([0, 8, 16, NEXT_AT, random.randrange(512) * 8])
        pages[mfn] = pages[mfn][:at] + word.to_bytes(8, "little") + pages[mfn][at + 8 :]
    memory = PageMemory(pages)
    for domain in (0, 1):
        with suppress(P2mError):
            hints_of(memory, host.notes(), domain)
    with suppress(P2mError):
        xen = open_xen(memory, host.notes())
        xen.owned(list(xen.domains()))


# Page tables


def test_xen_is_read_through_a_guest_where_its_own_page_table_is_not_there() -> None:
    host = Host()
    host.add(0)
    memory, notes = host.memory(), host.notes()
    nowhere = struct.pack("<10Q", 4, 17, 0, 0, 0, 0, 0, 1, 0x77000, 0x99)
    notes = [replace(n, data=nowhere) if n.type == XEN_ELFNOTE_CRASH_INFO else n for n in notes]
    with pytest.raises(P2mError, match=r"^Xen's memory cannot be read: read error: machine"):
        open_xen(memory, notes)
    regs = [
        Note("Xen", XEN_ELFNOTE_CRASH_REGS, struct.pack("<4Q", 0, 0, cr3, 0))
        for cr3 in (host.variables * PAGE, host.xen.root * PAGE)
    ]
    assert open_xen(memory, [*regs, *notes]).domain(0).id == 0
