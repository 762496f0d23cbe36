"""Machine memory: pages of tests, and ELF core files."""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError, ReadError
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.machine.memory import PageMemory, read_words
from pykdump_ext.machine.notes import Note

from .machine import PAGE

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
ET_EXEC, ET_CORE = 2, 4
PT_LOAD, PT_NOTE = 1, 4
IDENT_64_LITTLE = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")


@dataclass
class Segment:
    """A program header to write, and the bytes that it has in the file."""

    paddr: int
    data: bytes
    type: int = PT_LOAD
    claimed_size: int | None = None
    memory_size: int | None = None


def core_bytes(
    segments: list[Segment],
    e_type: int = ET_CORE,
    ident: bytes = IDENT_64_LITTLE,
    room: int = 0,
) -> bytes:
    """Return an ELF file with these segments, one after the other, ``room`` bytes before them."""
    offset = EHDR.size + PHDR.size * len(segments) + room
    head = EHDR.pack(
        ident, e_type, 62, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, len(segments), 0, 0, 0
    )
    headers, contents = b"", b""
    for segment in segments:
        size = len(segment.data) if segment.claimed_size is None else segment.claimed_size
        memory = size if segment.memory_size is None else segment.memory_size
        at = offset + len(contents)
        headers += PHDR.pack(segment.type, 4, at, 0, segment.paddr, size, memory, 0)
        contents += segment.data
    return head + headers + b"\xaa" * room + contents


def note(owner: bytes, kind: int, data: bytes) -> bytes:
    """Return an ELF note; name and data padded to four bytes."""
    name = owner + b"\0"
    padded = name + b"\0" * (-len(name) % 4) + data + b"\0" * (-len(data) % 4)
    return struct.pack("<III", len(name), len(data), kind) + padded


def core(path: Path, segments: list[Segment]) -> ElfCore:
    file = path / "vmcore"
    file.write_bytes(core_bytes(segments))
    return ElfCore(file)


def core_with_notes(path: Path, data: bytes) -> list[Note]:
    return core(path, [Segment(0, data, PT_NOTE), Segment(0, b"memory")]).notes


# Pages


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


# Notes


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


@settings(deadline=2000, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_some_list_of_notes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    notes = core_with_notes(tmp_path_factory.getbasetemp(), data)
    assert sum(12 + len(n.data) for n in notes) <= len(data)


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


@settings(deadline=5000, max_examples=400)
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
