# SPDX-License-Identifier: GPL-3.0-or-later
"""Machine memory as pages."""

from __future__ import annotations

import struct

import pytest

from pykdump_ext.errors import ReadError
from pykdump_ext.machine.memory import PageMemory, read_words

from ..made_up.machine import PAGE


def test_a_page_can_be_read_whole_and_in_part() -> None:
    page = bytes(range(256)) * 16
    memory = PageMemory({5: page})
    assert memory.read(5 * PAGE, PAGE, "all") == page
    assert memory.read(5 * PAGE + 3, 7, "part") == page[3:10]


def test_a_read_goes_on_in_the_next_page() -> None:
    memory = PageMemory({5: b"a" * PAGE, 6: b"b" * PAGE, 7: b"c" * PAGE})
    assert memory.read(6 * PAGE - 2, 4, "both") == b"aabb"
    assert memory.read(6 * PAGE - 1, PAGE + 2, "three") == b"a" + b"b" * PAGE + b"c"


def test_a_page_outside_the_memory_cannot_be_read() -> None:
    with pytest.raises(ReadError) as caught:
        PageMemory({5: bytes(PAGE)}).read(4 * PAGE + 8, 8, "the thing")
    assert str(caught.value) == 'read error: machine address: 4008  type: "the thing"'
    assert (caught.value.kind, caught.value.address) == ("machine address", 0x4008)
    assert caught.value.what == "the thing"


def test_a_read_that_leaves_the_memory_names_where_it_does() -> None:
    with pytest.raises(ReadError) as caught:
        PageMemory({5: bytes(PAGE)}).read(6 * PAGE - 8, 16, "the thing")
    assert caught.value.address == 6 * PAGE


def test_nothing_is_read_of_no_bytes() -> None:
    assert PageMemory({}).read(0x1234, 0, "nothing") == b""


def test_the_words_of_a_frame_are_little_endian() -> None:
    page = struct.pack("<512Q", *range(2**63, 2**63 + 512))
    assert list(read_words(PageMemory({9: page}), 9, "words")) == list(range(2**63, 2**63 + 512))
