# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages that domains grant to others."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.xen.grants import Grants, GrantTables, read_grants

from ..made_up.grants import AT, POINTS, Entry, array_of, grant_table
from ..made_up.host import DIRECT_MAP, Host
from ..made_up.machine import PAGE

PERMIT, TRANSFER, READONLY, READING, WRITING = 1, 2, 4, 8, 16  # GTF_*
SELF = 0x7FF0


def granted(*pages: list[Entry]) -> dict[int, Grants]:
    memory = {
        mfn: b"".join(struct.pack("<HHI", *entry, 5) for entry in page).ljust(4096, b"\0")
        for mfn, page in enumerate(pages)
    }
    return read_grants(PageMemory(memory), range(len(pages)))


def test_pages_are_counted_by_who_may_use_them_and_who_does() -> None:
    first = [(PERMIT | READING | WRITING, 0), (PERMIT | READONLY | READING, 0), (PERMIT, 0)]
    second = [(0, 9), (PERMIT, 7), (TRANSFER, 7), (PERMIT, SELF)]  # what is not granted any more
    found = {0: Grants(3, 2), 7: Grants(1, 0), SELF: Grants(1, 0)}
    assert granted(first, second) == found
    gone = [(PERMIT | READING, 9), (PERMIT, 9)]  # to a domain that is gone
    assert granted(first, second, gone) == found | {9: Grants(2, 1)}
    assert granted() == granted([]) == {}


@pytest.mark.parametrize("entry", [(PERMIT | 0x200, 0), (0x8000, 0), (PERMIT, 0x8000)])
def test_what_is_no_table_of_version_1_is_an_error(entry: Entry) -> None:
    with pytest.raises(P2mError, match="mfn 1 is not a page of a grant table of version 1"):
        granted([], [entry])


@given(st.lists(st.tuples(st.integers(0, 31), st.sampled_from([0, 1, 7])), max_size=512))
def test_counts_are_those_of_a_look_at_each_entry(entries: list[Entry]) -> None:
    found = granted(entries)
    for domain in (0, 1, 7):
        own = [flags for flags, to in entries if to == domain and flags & 3 == PERMIT]
        used = [flags for flags in own if flags & (READING | WRITING)]
        assert found.get(domain, Grants()) == Grants(len(own), len(used))


def host_with_guests() -> Host:
    host = Host()
    for number in (0, 4, 7):
        host.add(number)
    return host


def frames(host: Host, notes: list[str] | None = None) -> list[list[int]]:
    xen = host.open()
    domains = [*xen.domains()]
    owned, tables = xen.owned(domains), GrantTables(xen)
    said: list[str] = [] if notes is None else notes
    found = [tables.frames(domain, owned[domain.id], said) for domain in domains]
    assert notes is not None or not said
    return found


def test_the_pages_of_a_table_are_those_of_its_array() -> None:
    """Other pages of Xen's heap that a domain shares are none, such as an HVM domain's APIC's."""
    host = host_with_guests()
    first = grant_table(host, 0, [(1, 4)])
    second = grant_table(host, 1, [], [(1, 0)], [])
    host.heap(host.domains[1])
    assert frames(host) == [first, second, []]


def test_a_table_may_be_elsewhere_in_a_domain() -> None:
    host = host_with_guests()
    tables = [grant_table(host, number, [(1, 0)], at=at) for number, at in enumerate((33, 33, 60))]
    assert frames(host) == tables


@pytest.mark.parametrize("pointer", [0, 0x4141414141414000, DIRECT_MAP + 1])
def test_a_pointer_that_is_damaged_hides_no_other(pointer: int) -> None:
    host = host_with_guests()
    host.give(host.domains[1], host.machine.frame(), 4)  # the root of a PV domain's page tables
    pages = grant_table(host, 1, *[[(PERMIT, 0)]] * 12)
    assert frames(host)[1] == pages
    table = (host.machine.get(host.domains[1], AT) - DIRECT_MAP) // PAGE
    array_mfn = (host.machine.get(table, POINTS) - DIRECT_MAP) // PAGE
    host.machine.put(array_mfn, 20 + 1, pointer)
    notes: list[str] = []
    assert frames(host, notes)[1] == [pages[0], *pages[2:]]
    assert notes == ["grants of domain 4: 11 pages of its grant table were found, and it has 12"]


def test_two_arrays_are_not_clear() -> None:
    """Version 2 has a second one."""
    host = host_with_guests()
    grant_table(host, 0, [(1, 0)])
    more = [host.heap(host.domains[0])]
    word = host.machine.get(host.domains[0], 33)
    host.machine.put((word - DIRECT_MAP) // PAGE, POINTS + 1, array_of(host, more))
    with pytest.raises(P2mError, match="not clear which pages are the grant table of domain 0"):
        frames(host)


def test_without_an_array_it_is_not_clear() -> None:
    host = host_with_guests()
    host.heap(host.domains[1])
    with pytest.raises(P2mError, match="not clear which pages are the grant table of domain 4"):
        frames(host)
