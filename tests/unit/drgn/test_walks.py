# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks through lists of a damaged kernel end, keep what is sound, and say what is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count

import drgn
import pytest

from pykdump_ext.drgn.walks import attempt, each, string
from pykdump_ext.errors import P2mError
from pykdump_ext.limits import within

PROG = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
MEMORY = 0x1000, b"a name\0" + b"\x1b[2J" * 100_000
PROG.add_memory_segment(
    MEMORY[0], len(MEMORY[1]), lambda address, size, offset, physical: MEMORY[1][offset:][:size]
)


def pointer(address: int) -> drgn.Object:
    kind = PROG.pointer_type(PROG.int_type("char", 1, True))
    return drgn.Object(PROG, kind, address)


def pointers(*addresses: int, error: Exception | None = None) -> Iterator[drgn.Object]:
    yield from map(pointer, addresses)
    if error:
        raise error


def walked(find: Iterator[drgn.Object], most: int = 100) -> tuple[list[int], list[str]]:
    notes: list[str] = []
    found = [one.value_() for one in each("devices", notes, most, lambda: find)]
    return found, notes


def test_a_sound_list_is_walked_to_its_end() -> None:
    assert walked(pointers(1, 2, 3), 3) == ([1, 2, 3], [])


@pytest.mark.parametrize(
    ("find", "note"),
    [
        (pointers(1, 2, 3, 2, 3, 2), "devices: the list is damaged: it comes back to 2"),
        (pointers(1, 2, 3, error=drgn.FaultError("no such memory", 7)),
         "devices: not all were found: FaultError: no such memory: 0x7"),
    ],
)  # fmt: skip
def test_what_comes_before_the_damage_is_kept(find: Iterator[drgn.Object], note: str) -> None:
    assert walked(find) == ([1, 2, 3], [note])


def test_a_list_without_an_end_is_walked_as_far_as_a_sound_one_can_go() -> None:
    found, notes = walked(map(pointer, count(8)))
    assert len(found) == 100
    assert notes == ["devices: the list has over 100, the others are left out"]


def test_a_walk_ends_in_time_to_show_what_it_has_found() -> None:
    def slow() -> Iterator[drgn.Object]:
        for address in count(1):
            time.sleep(0.01)
            yield pointer(address)

    found, notes = within(1, lambda: walked(slow(), 1000))
    assert 10 < len(found) < 100
    assert notes == [f"devices: the time is up, and only the first {len(found)} were seen"]


def test_what_fails_at_one_object_is_said_and_the_others_stay() -> None:
    notes: list[str] = []

    def look(number: int) -> int:
        if number == 1:
            raise drgn.FaultError("no such memory", 7)
        if number == 2:
            raise P2mError("a sentence")
        if number == 3:
            time.sleep(10)
        return number

    found = within(1.5, lambda: [attempt(f"the {n}th", notes, look, n) for n in range(5)])
    assert found == [0, None, None, None, 4]
    assert notes == [
        "the 1th: FaultError: no such memory: 0x7",
        "the 2th: a sentence",
        "the 3th: it took over 0.1 seconds, and was stopped",
    ]


def test_texts_are_cut_and_harmless() -> None:
    assert string(pointer(MEMORY[0])) == "a name"
    assert string(pointer(0)) == ""
    endless = string(pointer(MEMORY[0] + 7))
    assert endless == r"\x1b[2J" * 64  # of 256 bytes
    with pytest.raises(drgn.FaultError):
        string(pointer(0x10))
    array = PROG.array_type(PROG.int_type("char", 1, True), 16)
    assert string(drgn.Object(PROG, array, b"worker\0junk of a")) == "worker"
