# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's frame table: who owns each page."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.errors import ReadError
from pykdump_ext.machine.paging import Step
from pykdump_ext.xen import frame_table
from pykdump_ext.xen.domains import open_xen
from pykdump_ext.xen.frame_table import FrameTable
from pykdump_ext.xen.vmcoreinfo import read_vmcoreinfo

from ..made_up.dump import CountingDump
from ..made_up.host import (
    ALLOCATED,
    BIGMEM,
    DEFAULT,
    FRAME_TABLE,
    GROUP,
    PAGES,
    TABLE_MFN,
    XEN_HEAP,
    Build,
    Host,
)
from ..made_up.machine import FLAGS, PAGE, PMD, PUD


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


def owned_simply(host: Host, owner: int) -> tuple[int, list[int], int, list[int]]:
    """Return what a look at each entry says that a domain owns: pages, roots, tables above, and
    what it shares of Xen's heap."""
    build = host.build
    pages, roots, threes, shared = 0, [], 0, []
    for index in range(len(host.table) // build.size):
        at = index * build.size + build.owner_at
        count, kind = struct.unpack_from("<QQ", host.table, at - 16)
        (has,) = struct.unpack_from("<I", host.table, at)
        if has == owner and count & ALLOCATED and not count & XEN_HEAP:
            pages += 1
            threes += kind >> build.type_shift == 3
            if kind >> build.type_shift == 4:
                roots.append(index + build.offset)
        if has == owner and count & ALLOCATED and count & XEN_HEAP:
            shared.append(index + build.offset)
    return pages, roots, threes, shared


@pytest.mark.parametrize("build", [DEFAULT, BIGMEM, Build((4, 9), type_shift=60)])
@given(st.integers(0, 2**32), st.integers(1, 600))
def test_what_domains_own_is_what_a_look_at_each_entry_says(
    build: Build, seed: int, longest: int
) -> None:
    random = Random(seed)
    host = Host(build)
    owners = [host.add(0), host.add(1), 0x12345]
    host.table[:] = bytes(len(host.table))
    host.xen.map(build.direct_map, 0, PUD)  # the first GiB
    entry = 0
    while entry < len(host.table) // build.size:
        owner, flags = random.choice(owners), random.choice([0, ALLOCATED, ALLOCATED | XEN_HEAP])
        for _ in range(random.randrange(1, longest + 1)):
            if (entry + 1) * build.size <= len(host.table):
                level = random.choice([0, 0, 0, 1, 2, 3, 4])
                host.page_info(entry + build.offset, flags | 1, level << build.type_shift, owner)
            entry += 1
    version = ".".join(map(str, build.version))
    table = FrameTable(host.open().tables, read_vmcoreinfo(host.notes()), version)
    for owner, found in table.owned(owners).items():
        simply = owned_simply(host, owner)
        assert (found.pages, found.roots, found.threes, found.shared) == simply


def test_a_large_page_of_the_table_is_read_at_once() -> None:
    host = Host()
    host.give(host.add(0), host.machine.frame())
    memory = host.memory()
    table = b"".join(memory.pages[TABLE_MFN + page] for page in range(PAGES))
    large = 1 << 21
    host.xen.map(FRAME_TABLE, large >> 12, PMD)
    for page in range(512):
        start = page * PAGE
        part = table[start : start + PAGE].ljust(PAGE, b"\0")
        host.machine.pages[(large >> 12) + page] = bytearray(part)
    dump = CountingDump(host.machine.memory(), host.notes())
    xen = open_xen(dump, host.notes())
    domains = list(xen.domains())
    dump.reads.clear()
    assert xen.owned(domains)[0].pages == 1
    assert [size for _, size, what in dump.reads if what == "Xen's frame table"] == [PAGES * PAGE]


@pytest.mark.parametrize("damage", ["twice", "empty"])
def test_a_table_that_is_larger_than_the_machine_is_told(
    monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Page tables that lead to the same memory again and again take hours to follow."""
    monkeypatch.setattr(frame_table, "MOST_EMPTY_GROUPS", 1)
    host = Host()
    host.add(0)
    host.table = bytearray((3 * GROUP + 1) * PAGE)
    host.machine.put(host.variables, 2, len(host.table) // 32)
    host.memory()
    if damage == "twice":
        host.page_info(2 * GROUP * PAGE // 32 + 5, ALLOCATED | 1, 0, 9)
        host.xen.map(FRAME_TABLE + 2 * GROUP * PAGE, TABLE_MFN)
    xen = open_xen(host.machine.memory(), host.notes())
    with pytest.raises(ReadError, match="it is damaged: much of it is empty, or is there twice"):
        xen.owned(list(xen.domains()))


@pytest.mark.parametrize("missing", [0, 0x7777777])
def test_a_damaged_number_of_entries_costs_what_is_mapped(missing: int) -> None:
    """The largest number has a million groups, nearly all of them holes."""
    host = Host()
    host.give(host.add(0), host.machine.frame())
    host.machine.put(host.variables, 2, frame_table.LARGEST_MAX_PAGE)
    host.table.extend(bytes((GROUP - PAGES) * PAGE))
    host.memory()
    table = host.xen.table(FRAME_TABLE, PUD)  # some holes are tables that are not in the dump
    for index in range(100, 200):
        host.machine.put(table, index, missing * PAGE | FLAGS if missing else 0)
    xen = open_xen(host.machine.memory(), host.notes())
    walks = []
    real = xen.tables.walk

    def counted(vaddr: int) -> Iterator[Step]:
        walks.append(vaddr)
        return real(vaddr)

    xen.frames.tables.walk = counted  # type: ignore[method-assign]
    assert xen.owned(list(xen.domains()))[0].pages == 1
    assert len(walks) < 3000


@pytest.mark.parametrize("build", [DEFAULT, BIGMEM])
@pytest.mark.parametrize("together", [True, False])
def test_page_tables_are_found_as_by_each_entry(build: Build, together: bool) -> None:
    host, random = Host(build), Random(1)
    index = host.add(0)
    levels = {host.machine.frame(): random.randrange(5) for _ in range(200)}
    levels = {mfn: level for mfn, level in levels.items() if mfn % frame_table.TOGETHER}
    for mfn, level in levels.items():
        host.give(index, mfn, level)
    if together:  # else Xen does not map the first frame of any entries that are read at once
        for mfn in range(0, max(levels), frame_table.TOGETHER):
            host.direct(mfn)
    dump = CountingDump(host.memory(), host.notes())
    frames = open_xen(dump, host.notes()).frames
    dump.reads.clear()
    found = {mfn: frames.is_page_table(mfn) for mfn in levels}
    assert found == {mfn: level > 0 for mfn, level in levels.items()}
    assert (len([what for *_, what in dump.reads if what == frame_table.WHAT]) < 60) == together
    for mfn in levels:
        info = frames.entry_of(mfn)
        assert info is not None and info.is_page_table == found[mfn]
    assert frames.is_page_table(frames.max_page + 5) is None
