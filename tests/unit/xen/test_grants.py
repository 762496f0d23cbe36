# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages that domains grant to others."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.xen.grants import Grants, read_grants

PERMIT, TRANSFER, READONLY, READING, WRITING = 1, 2, 4, 8, 16  # GTF_*
SELF = 0x7FF0

Entry = tuple[int, int]  # flags, domain


def granted(*pages: list[Entry]) -> dict[int, Grants]:
    memory = {
        mfn: b"".join(struct.pack("<HHI", *entry, 5) for entry in page).ljust(4096, b"\0")
        for mfn, page in enumerate(pages)
    }
    return read_grants(PageMemory(memory), range(len(pages)), {0, 1, 7})


def test_pages_are_counted_by_who_may_use_them_and_who_does() -> None:
    first = [(PERMIT | READING | WRITING, 0), (PERMIT | READONLY | READING, 0), (PERMIT, 0)]
    second = [(0, 9), (PERMIT, 7), (TRANSFER, 7), (PERMIT, SELF)]  # what is not granted any more
    assert granted(first, second) == {0: Grants(3, 2), 7: Grants(1, 0), SELF: Grants(1, 0)}
    assert granted() == granted([]) == {}


@pytest.mark.parametrize("entry", [(PERMIT, 9), (PERMIT | 0x200, 0), (0x8000, 0)])
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
