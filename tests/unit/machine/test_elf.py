# SPDX-License-Identifier: GPL-3.0-or-later
"""ELF core files."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError, ReadError
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.machine.notes import Note

from ..made_up.core import EHDR, ET_EXEC, PHDR, PT_NOTE, Segment, core_bytes, note
from ..made_up.strategies import times


def core(path: Path, segments: list[Segment]) -> ElfCore:
    file = path / "vmcore"
    file.write_bytes(core_bytes(segments))
    return ElfCore(file)


# ELF core files


def test_a_core_reads_each_segment_by_its_physical_address(tmp_path: Path) -> None:
    memory = core(tmp_path, [Segment(0x9000, b"second!!"), Segment(0x2000, b"first...")])
    assert memory.read(0x2000, 8, "x") == b"first..."
    assert memory.read(0x9002, 4, "x") == b"cond"
    assert memory.segments() == [(0x2000, 0x2008), (0x9000, 0x9008)]


def test_a_read_goes_on_in_the_next_segment(tmp_path: Path) -> None:
    segments = [
        Segment(0x2010, b"C" * 16),
        Segment(0x1000, b"A" * 0x1000),
        Segment(0x2000, b"B" * 16),
    ]
    memory = core(tmp_path, segments)
    assert memory.read(0x1FFE, 0x16, "x") == b"AA" + b"B" * 16 + b"C" * 4


@pytest.mark.parametrize("maddr", [0, 0xFFF, 0x1010, 0x1FFF, 0x2010, 2**52, 2**64 - 1])
def test_what_is_between_the_segments_cannot_be_read(tmp_path: Path, maddr: int) -> None:
    memory = core(tmp_path, [Segment(0x1000, b"A" * 16), Segment(0x2000, b"B" * 16)])
    with pytest.raises(ReadError, match=f'machine address: {maddr:x}  type: "hole": not in'):
        memory.read(maddr, 1, "hole")


def test_a_read_into_a_gap_names_the_first_byte_that_is_not_there(tmp_path: Path) -> None:
    memory = core(tmp_path, [Segment(0x1000, b"A" * 16), Segment(0x1020, b"B" * 16)])
    with pytest.raises(ReadError) as caught:
        memory.read(0x1008, 0x20, "gap")
    assert caught.value.address == 0x1010


def test_an_empty_segment_does_not_hide_another(tmp_path: Path) -> None:
    memory = core(tmp_path, [Segment(0x1000, b"A" * 16), Segment(0x1008, b"")])
    assert memory.read(0x1008, 8, "x") == b"A" * 8


def test_a_segment_inside_another_does_not_hide_the_rest_of_it(tmp_path: Path) -> None:
    memory = core(tmp_path, [Segment(0x1000, b"A" * 64), Segment(0x1010, b"A" * 8)])
    assert memory.read(0x1000, 64, "x") == b"A" * 64
    assert memory.read(0x1020, 8, "x") == b"A" * 8


def test_a_truncated_core_tells_that_the_file_ends(tmp_path: Path) -> None:
    file = tmp_path / "vmcore"
    file.write_bytes(core_bytes([Segment(0x1000, b"A" * 64)])[:-24])
    memory = ElfCore(file)
    assert memory.read(0x1000, 40, "there") == b"A" * 40
    with pytest.raises(ReadError, match="the dump file ends before it"):
        memory.read(0x1000, 41, "not there")
    with pytest.raises(ReadError, match="the dump file ends before it"):
        memory.read(0x1030, 1, "not there")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"\x7fELF", "not a readable ELF file"),
        (b"KDUMP   " + bytes(4096), "not a readable ELF file"),
        (core_bytes([], e_type=ET_EXEC), "not a 64-bit ELF core file"),
        (core_bytes([], ident=b"\x7fELF\x02\x02\x01".ljust(16, b"\0")), "not a"),
        (core_bytes([], ident=b"\x7fELF\x01\x01\x01".ljust(16, b"\0")), "not a"),
    ],
    ids=["empty", "magic only", "kdump", "program", "big endian", "32 bits"],
)
def test_what_is_no_core_is_told_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "vmcore"
    file.write_bytes(content)
    with pytest.raises(P2mError) as caught:
        ElfCore(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert says in str(caught.value)


def test_a_core_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(P2mError, match="vmcore: No such file or directory"):
        ElfCore(tmp_path / "vmcore")
    with pytest.raises(P2mError, match="Is a directory"):
        ElfCore(tmp_path)


HEADERS = EHDR.size + 3 * PHDR.size
SAMPLE = core_bytes(
    [
        Segment(
            0, note(b"Xen", 0x1000002, bytes(32)) + note(b"Xen", 0x1000001, bytes(80)), PT_NOTE
        ),
        Segment(0x1000, b"A" * 64),
        Segment(0x2000, b"B" * 64),
    ]
)


def test_more_segments_than_a_dump_has_are_told(tmp_path: Path) -> None:
    content = bytearray(core_bytes([Segment(0x1000, b"A" * 64)]).ljust(4096, b"\0"))
    struct.pack_into("<H", content, 56, 0xFFFF)  # e_phnum: the count is in section 0
    struct.pack_into("<Q", content, 40, 4096)  # e_shoff
    struct.pack_into("<HH", content, 58, 64, 1)  # e_shentsize, e_shnum
    file = tmp_path / "vmcore"
    file.write_bytes(content + bytes(44) + struct.pack("<I", 2**31) + bytes(16))
    os.truncate(file, 1 << 30)
    with pytest.raises(P2mError, match=r"not a readable ELF file \(2,147,483,648 segments\)"):
        ElfCore(file)


@settings(max_examples=times(8))
@given(
    st.integers(0, len(SAMPLE)),
    st.lists(st.tuples(st.integers(0, HEADERS - 1), st.integers(0, 255)), max_size=4),
)
def test_a_damaged_core_is_read_or_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, length: int, damage: list[tuple[int, int]]
) -> None:
    content = bytearray(SAMPLE)
    for at, value in damage:
        content[at] = value
    file = tmp_path_factory.getbasetemp() / "damaged"
    file.write_bytes(content[: length if length % 3 == 0 else None])
    with contextlib.suppress(P2mError):
        memory = ElfCore(file)
        assert all(isinstance(n, Note) for n in memory.notes)
        for maddr in (0, 0x1000, 0x1FFF, 0x2020):
            memory.read(maddr, 32, "anything")


# Filtered ELF dumps


def test_a_page_that_only_memory_had_is_excluded(tmp_path: Path) -> None:
    segments = [
        Segment(0x1000, b"A" * 0x1000, memory_size=0x3000),
        Segment(0x8000, b"", memory_size=0x1000),
        Segment(0x4000, b"B" * 0x1000),
    ]
    memory = core(tmp_path, segments)
    assert memory.read(0x1FFE, 2, "x") == b"AA"
    for maddr in (0x2000, 0x3FFF, 0x8000, 0x8FFF):
        with pytest.raises(ReadError, match=f'address: {maddr:x}  type: "x": page excluded'):
            memory.read(maddr, 1, "x")
    for maddr in (0, 0xFFF, 0x5000, 0x7FFF, 0x9000, 2**63):
        with pytest.raises(ReadError, match="not in the dump"):
            memory.read(maddr, 1, "x")
