# SPDX-License-Identifier: GPL-3.0-or-later
"""ELF notes, of dumps whole and damaged."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.machine.notes import Note

from ..made_up.core import PT_NOTE, Segment, core_bytes, note
from ..made_up.strategies import times


def core(path: Path, segments: list[Segment]) -> ElfCore:
    file = path / "vmcore"
    file.write_bytes(core_bytes(segments))
    return ElfCore(file)


def core_with_notes(path: Path, data: bytes) -> list[Note]:
    return core(path, [Segment(0, data, PT_NOTE), Segment(0, b"memory")]).notes


def test_notes_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    segments = [
        Segment(0, note(b"CORE", 1, b"12345678") + note(b"Xen", 0x1000002, b"abcd"), PT_NOTE),
        Segment(0x1000, b"memory"),
        Segment(0, note(b"VMCOREINFO", 0, b"A=1\n"), PT_NOTE),
    ]
    assert core(tmp_path, segments).notes == [
        Note("CORE", 1, b"12345678"),
        Note("Xen", 0x1000002, b"abcd"),
        Note("VMCOREINFO", 0, b"A=1\n"),
    ]


@pytest.mark.parametrize("name_length", range(5))
@pytest.mark.parametrize("data_length", range(6))
def test_names_and_data_are_padded_to_four_bytes(
    tmp_path: Path, name_length: int, data_length: int
) -> None:
    owner, data = b"abcd"[:name_length], b"123456"[:data_length]
    notes = core_with_notes(tmp_path, note(owner, 7, data) + note(b"Xen", 8, b"after"))
    assert notes == [Note(owner.decode(), 7, data), Note("Xen", 8, b"after")]


def test_the_last_note_may_lack_its_padding(tmp_path: Path) -> None:
    data = note(b"Xen", 1, b"12345").rstrip(b"\0")
    assert core_with_notes(tmp_path, data) == [Note("Xen", 1, b"12345")]


@pytest.mark.parametrize("at", [0, 4])
@pytest.mark.parametrize("size", [0x1000, 0x7FFFFFFF, 0xFFFFFFFD, 0xFFFFFFFF])
def test_a_note_with_a_damaged_size_is_the_end_of_the_list(
    tmp_path: Path, at: int, size: int
) -> None:
    damaged = bytearray(note(b"Xen", 2, b"damaged "))
    struct.pack_into("<I", damaged, at, size)
    data = note(b"Xen", 1, b"good") + bytes(damaged) + note(b"Xen", 3, b"lost")
    assert core_with_notes(tmp_path, data) == [Note("Xen", 1, b"good")]


@pytest.mark.parametrize("length", range(12))
def test_an_empty_note_that_is_cut_off_is_no_note(tmp_path: Path, length: int) -> None:
    data = note(b"Xen", 1, b"good") + struct.pack("<III", 0, 0, 5)[:length]
    assert core_with_notes(tmp_path, data) == [Note("Xen", 1, b"good")]


def test_a_note_that_is_cut_off_in_its_head_is_no_note(tmp_path: Path) -> None:
    data = note(b"Xen", 1, b"good") + note(b"Xen", 2, b"")[:11]
    assert core_with_notes(tmp_path, data) == [Note("Xen", 1, b"good")]


@settings(max_examples=times(5))
@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_some_list_of_notes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    notes = core_with_notes(tmp_path_factory.getbasetemp(), data)
    assert sum(12 + len(n.data) for n in notes) <= len(data)


def test_notes_of_a_size_that_no_file_has_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    data = note(b"Xen", 1, b"good")
    segments = [Segment(0x1000, b""), Segment(0, data, PT_NOTE, claimed_size=2**62)]
    assert core(tmp_path, segments).notes[:1] == [Note("Xen", 1, b"good")]


def test_a_size_with_the_whole_file_in_it_ends_at_the_first_zeros(tmp_path: Path) -> None:
    segments = [Segment(0, note(b"Xen", 1, b"good"), PT_NOTE, claimed_size=2**40)]
    file = tmp_path / "vmcore"
    file.write_bytes(core_bytes(segments))
    os.truncate(file, 1 << 30)
    assert ElfCore(file).notes == [Note("Xen", 1, b"good")]
