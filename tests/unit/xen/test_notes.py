# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's crash notes."""

from __future__ import annotations

import struct

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.notes import Note
from pykdump_ext.xen.notes import (
    XEN_ELFNOTE_CRASH_INFO,
    XEN_ELFNOTE_CRASH_REGS,
    CrashNote,
    read_crash_note,
)


def info_note(*words: int) -> Note:
    return Note("Xen", XEN_ELFNOTE_CRASH_INFO, struct.pack(f"<{len(words)}Q", *words))


def regs_note(cr3: int) -> Note:
    return Note("Xen", XEN_ELFNOTE_CRASH_REGS, struct.pack("<4Q", 0x80050033, 0xBAD, cr3, 0x2660))


def test_the_notes_tell_xens_version_the_list_and_each_cr3() -> None:
    notes = [
        Note("CORE", 1, bytes(336)),
        regs_note(0x1000),
        Note("CORE", 1, bytes(336)),
        regs_note(0x3000),
        regs_note(0x2000),
        info_note(4, 17, 0, 1, 2, 3, 4, 5, 6, 0x1234),
    ]
    assert read_crash_note(notes) == CrashNote("4.17", 0x1234, (0x1000, 0x3000, 0x2000), 6)


def test_a_dump_without_xens_notes_is_none_of_a_xen_host() -> None:
    assert read_crash_note([]) is None
    assert read_crash_note([Note("CORE", 1, bytes(336)), regs_note(0x1000)]) is None


def test_notes_of_other_owners_are_not_xens() -> None:
    words = struct.pack("<4Q", 4, 17, 0, 9)
    assert read_crash_note([Note("GNU", XEN_ELFNOTE_CRASH_INFO, words)]) is None
    notes = [Note("Linux", XEN_ELFNOTE_CRASH_REGS, bytes(32)), info_note(4, 17, 9)]
    assert read_crash_note(notes) == CrashNote("4.17", 9, (), 17)


@pytest.mark.parametrize("size", [0, 8, 16, 23])
def test_a_note_that_is_too_short_is_told_with_its_size(size: int) -> None:
    with pytest.raises(P2mError, match=f"XEN_ELFNOTE_CRASH_INFO note has {size} bytes"):
        read_crash_note([Note("Xen", XEN_ELFNOTE_CRASH_INFO, bytes(size))])


def test_a_note_of_registers_that_is_too_short_is_passed_over() -> None:
    short = Note("Xen", XEN_ELFNOTE_CRASH_REGS, bytes(31))
    assert read_crash_note([short, regs_note(0x5000), info_note(4, 4, 7)]) == CrashNote(
        "4.4", 7, (0x5000,), 4
    )


def test_bytes_after_the_last_word_of_a_note_do_not_count() -> None:
    words = struct.pack("<3Q", 4, 11, 0x77)
    assert read_crash_note([Note("Xen", XEN_ELFNOTE_CRASH_INFO, words + b"tail")]) == CrashNote(
        "4.11", 0x77, (), 11
    )
