"""Kdump-compressed dumps: each way to pack them, split, flattened, damaged."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext import compression
from pykdump_ext.compression import LZO, SNAPPY, ZLIB, ZSTD, unpack
from pykdump_ext.dumps import Dump, is_dump, open_dump
from pykdump_ext.errors import P2mError, ReadError
from pykdump_ext.files import open_file
from tests.lab.kdump import (
    HEADER,
    HEADER_FIELDS,
    PAGE,
    RAW,
    SUB_HEADER,
    SUB_HEADER_FIELDS,
    bits,
    flattened,
    kdump,
    pack,
    rewritten,
)

from .test_memory import Segment, core_bytes, note

METHODS = {"raw": RAW, "zlib": ZLIB, "lzo": LZO, "snappy": SNAPPY, "zstd": ZSTD}


def page(frame: int) -> bytes:
    return (frame.to_bytes(8, "little") + b"page of frame" + os.urandom(3)) * 170 + bytes(16)


def written(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / f"vmcore{number}" for number in range(len(contents))]
    for path, content in zip(paths, contents):
        path.write_bytes(content)
    return paths


def opened(folder: Path, *contents: bytes) -> Dump:
    return open_dump(written(folder, *contents))


def why(dump: Dump, frame: int) -> str:
    with pytest.raises(ReadError) as caught:
        dump.read(frame * PAGE + 8, 16, "the thing")
    assert caught.value.address == frame * PAGE + 8
    assert 'type: "the thing"' in str(caught.value)
    return caught.value.why


PAGES = {frame: page(frame) for frame in (0, 1, 7, 8, 500, 4095, 4096, 4097, 9000, 40000)}
EXCLUDED = (2, 9, 4094, 39999, 40001)
NOTES = note(b"Xen", 0x1000001, b"12345678") + note(b"CORE", 1, b"x")
SAMPLE = kdump(PAGES, EXCLUDED, notes=NOTES)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_page_is_read_however_it_is_packed(tmp_path: Path, method: int) -> None:
    dump = opened(tmp_path, kdump(PAGES, EXCLUDED, method))
    for frame, content in PAGES.items():
        assert dump.read(frame * PAGE, PAGE, "page") == content
        assert dump.read(frame * PAGE + 100, 50, "part") == content[100:150]


def test_a_read_goes_on_in_the_next_page(tmp_path: Path) -> None:
    dump = opened(tmp_path, SAMPLE)
    wanted = PAGES[4095] + PAGES[4096] + PAGES[4097]
    assert dump.read(4095 * PAGE + 5, 2 * PAGE, "three") == wanted[5 : 2 * PAGE + 5]
    with pytest.raises(ReadError) as caught:
        dump.read(4097 * PAGE + 1, PAGE, "beyond")
    assert caught.value.address == 4098 * PAGE


def test_an_excluded_page_is_told_from_one_that_never_was(tmp_path: Path) -> None:
    dump = opened(tmp_path, SAMPLE)
    assert {why(dump, frame) for frame in EXCLUDED} == {"page excluded"}
    never = (3, 4093, 10000, 40002, 65536, 1 << 40)
    assert {why(dump, frame) for frame in never} == {"not in the dump"}


def test_a_dump_from_which_nothing_was_left_out_may_have_one_bitmap(tmp_path: Path) -> None:
    data = bytearray(kdump(PAGES))
    half = 2 * PAGE  # 40001 frames are two blocks
    del data[2 * PAGE : 2 * PAGE + half]
    struct.pack_into("<I", data, 436, 2)
    first = 2 * PAGE + half
    for i in range(len(PAGES)):
        (offset,) = struct.unpack_from("<Q", data, first + 24 * i)
        struct.pack_into("<Q", data, first + 24 * i, offset - half)
    dump = opened(tmp_path, bytes(data))
    assert all(dump.read(f * PAGE, PAGE, "page") == PAGES[f] for f in PAGES)
    assert why(dump, 2) == "not in the dump"


@pytest.mark.parametrize("version", range(1, 8))
def test_older_headers_have_their_numbers_elsewhere(tmp_path: Path, version: int) -> None:
    newer = {"max_mapnr_64": 1 << 40} if version < 6 else {"max_mapnr": 5}
    data = bytearray(kdump(PAGES, EXCLUDED, notes=NOTES, header_version=version))
    for name, value in newer.items():
        if name == "max_mapnr":
            struct.pack_into("<I", data, 440, value)
        else:
            struct.pack_into("<Q", data, PAGE + 96, value)
    dump = opened(tmp_path, bytes(data))
    assert dump.read(40000 * PAGE, PAGE, "page") == PAGES[40000]
    assert len(dump.notes) == (2 if version >= 4 else 0)


def test_notes_are_read(tmp_path: Path) -> None:
    found = opened(tmp_path, SAMPLE).notes
    assert [(n.owner, n.type, n.data) for n in found] == [
        ("Xen", 0x1000001, b"12345678"),
        ("CORE", 1, b"x"),
    ]
    assert opened(tmp_path, kdump(PAGES)).notes == []


# Split dumps

RANGES = ((0, 64), (64, 4160), (4160, 40002))
PARTS = [kdump(PAGES, EXCLUDED, notes=NOTES, part=part) for part in RANGES]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_split_dump_is_read_whatever_the_order_of_its_files(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    dump = opened(tmp_path, *(PARTS[i] for i in order))
    for frame, content in PAGES.items():
        assert dump.read(frame * PAGE, PAGE, "page") == content
    assert {why(dump, frame) for frame in EXCLUDED} == {"page excluded"}
    assert why(dump, 3) == "not in the dump"
    assert len(dump.notes) == 2


def test_a_file_of_a_split_dump_knows_what_is_in_the_others(tmp_path: Path) -> None:
    dump = opened(tmp_path, PARTS[1])
    assert dump.read(500 * PAGE, PAGE, "page") == PAGES[500]
    for frame in (0, 1, 9, 9000, 40000):
        assert why(dump, frame) == "in a file of the split dump that is not given"
    assert why(dump, 40002) == "not in the dump"


def test_old_split_dumps_have_their_range_elsewhere(tmp_path: Path) -> None:
    parts = []
    for start, end in RANGES:
        part = bytearray(kdump(PAGES, part=(start, end), header_version=5))
        struct.pack_into("<QQ", part, PAGE + 80, 0, 0)
        parts.append(bytes(part))
    dump = opened(tmp_path, *parts)
    assert all(dump.read(f * PAGE, PAGE, "page") == PAGES[f] for f in PAGES)


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ((PARTS[0], PARTS[0]), "have the same frames"),
        ((PARTS[0], SAMPLE), "not files of one split dump"),
        ((SAMPLE, SAMPLE), "not files of one split dump"),
        ((PARTS[0], kdump(PAGES, part=RANGES[1], nr_cpus=2)), "not files of one split dump"),
        ((PARTS[0], core_bytes([])), "not the files of one split dump"),
    ],
    ids=["the same", "one not split", "none split", "of two dumps", "of two formats"],
)
def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, contents: tuple[bytes, ...], says: str
) -> None:
    with pytest.raises(P2mError, match=says):
        opened(tmp_path, *contents)


# Flattened dumps


@pytest.mark.parametrize("record", [1, 7, 4096, 65536, 10_000_000])
def test_a_flattened_dump_is_the_plain_one(tmp_path: Path, record: int) -> None:
    small = kdump({frame: PAGES[frame] for frame in (0, 1, 500)}, (2,), notes=NOTES)
    dump = opened(tmp_path, flattened(small, record))
    assert dump.read(0, 2 * PAGE, "pages") == PAGES[0] + PAGES[1]
    assert dump.read(500 * PAGE, PAGE, "page") == PAGES[500]
    assert why(dump, 2) == "page excluded"
    assert len(dump.notes) == 2


def test_a_flattened_elf_core_is_the_plain_one(tmp_path: Path) -> None:
    data = core_bytes([Segment(0, NOTES, 4), Segment(0x1000, b"A" * 100), Segment(0x3000, b"B")])
    dump = opened(tmp_path, flattened(data, 100))
    assert dump.read(0x1000, 100, "x") == b"A" * 100
    assert dump.read(0x3000, 1, "x") == b"B"
    assert why(dump, 2) == "not in the dump"
    assert len(dump.notes) == 2


def records(*pairs: tuple[int, bytes]) -> bytes:
    data = flattened(b"")[:PAGE]
    for offset, part in pairs:
        data += struct.pack(">qq", offset, len(part)) + part
    return data + struct.pack(">qq", -1, -1)


def test_a_later_record_writes_over_an_earlier_one_and_holes_are_zero(tmp_path: Path) -> None:
    whole = core_bytes([Segment(0x1000, b"A" * 8 + bytes(8) + b"C" * 8)])
    body = len(whole) - 24
    dump = opened(
        tmp_path,
        records(
            (0, bytes(64)),
            (body + 16, b"C" * 8),
            (body, b"wrong"),
            (body, b"A" * 8),
            (1, whole[1:body]),
            (0, whole[:1]),
        ),
    )
    assert dump.read(0x1000, 24, "x") == b"A" * 8 + bytes(8) + b"C" * 8


@given(st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=60)), max_size=12))
def test_records_in_any_order_are_what_writing_them_would_give(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, bytes]]
) -> None:
    pairs = [(offset, data) for offset, data in pairs if data or offset]
    plain = bytearray()
    for offset, data in pairs:
        if data:
            plain.extend(bytes(max(0, offset + len(data) - len(plain))))
            plain[offset : offset + len(data)] = data
    (path,) = written(tmp_path_factory.getbasetemp(), records(*pairs))
    file = open_file(path)
    assert file.size == len(plain)
    for at in (0, 1, 50, 299):
        for size in (0, 1, 64, 1000):
            assert file.read_at(at, size) == plain[at : at + size]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (flattened(SAMPLE)[:-16], "ends before its last record"),
        (flattened(SAMPLE)[:-10], "ends before its last record"),
        (flattened(SAMPLE)[:9000], "damaged, or cut off"),
        (flattened(b"")[:PAGE], "ends before its last record"),
        (flattened(b"")[:20], "ends before its last record"),
        (flattened(b"")[:PAGE] + bytes(1 << 20), "damaged, or cut off"),
        (records()[:PAGE] + struct.pack(">qq", 0, -5) + bytes(99), "damaged, or cut off"),
        (records()[:PAGE] + struct.pack(">qq", -7, 5) + bytes(99), "damaged, or cut off"),
        (records()[:PAGE] + struct.pack(">qq", 7, 1 << 62) + bytes(99), "damaged, or cut off"),
    ],
)  # fmt: skip
def test_a_damaged_flattened_dump_is_told(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(P2mError, match=f"is flattened, and .*{says}"):
        opened(tmp_path, data)


def test_a_record_at_the_end_of_the_world_makes_no_huge_file(tmp_path: Path) -> None:
    segments = [Segment(0, NOTES, 4, claimed_size=1 << 62), Segment(0x1000, b"A")]
    dump = opened(tmp_path, records((0, core_bytes(segments)), ((1 << 63) - 100, b"far")))
    assert dump.read(0x1000, 1, "x") == b"A"
    assert len(dump.notes) < 10


# What a file is


def test_a_dump_is_known_by_its_beginning(tmp_path: Path) -> None:
    program = core_bytes([], e_type=2)
    for content, wanted in (
        (SAMPLE, True), (flattened(SAMPLE), True), (core_bytes([]), True),
        (program, False), (b"", False), (b"KDUM", False), (bytes(5000), False),
    ):  # fmt: skip
        (path,) = written(tmp_path, content)
        assert is_dump(path) == wanted
    assert not is_dump(tmp_path / "nosuchfile")
    assert not is_dump(tmp_path)


def test_a_missing_library_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = opened(tmp_path, kdump(PAGES, method=ZSTD))
    gone = {ZSTD: ("libnosuchzstd.so.1", "libzstd1 (Debian)")}
    compression.library.cache_clear()
    monkeypatch.setattr(compression, "LIBRARIES", gone)
    with pytest.raises(P2mError, match=r"need libnosuchzstd\.so\.1 .*: install libzstd1 \(Deb"):
        dump.read(0, 8, "x")
    monkeypatch.undo()
    compression.library.cache_clear()
    assert dump.read(0, PAGE, "x") == PAGES[0]


# Damage

DESCRIPTORS_AT = 2 * PAGE + 4 * PAGE


def with_descriptor(index: int, offset: int, size: int, flags: int) -> bytes:
    data = bytearray(SAMPLE)
    struct.pack_into("<QII", data, DESCRIPTORS_AT + 24 * index, offset, size, flags)
    return bytes(data)


@pytest.mark.parametrize(
    ("descriptor", "says"),
    [
        ((0, 0, 4096, 0), "the dump is incomplete, this page was not written"),
        ((0, 8192, 4097, 0), "its descriptor is damaged: 4097 bytes"),
        ((0, 8192, 0xFFFFFFFF, 1), "its descriptor is damaged: 4294967295 bytes"),
        ((0, 1 << 62, 4096, 0), "the dump file ends before it"),
        ((0, (1 << 64) - 1, 1, 1), "the dump file ends before it"),
        ((0, 8192, 100, 0), "its packed data is damaged"),
        ((0, 8192, 0, 0), "its packed data is damaged"),
        ((0, 8192, 0, 1), "its packed data is damaged"),
        *(((0, 8192, 300, method), "its packed data is damaged") for method in (1, 2, 4, 32, 63)),
    ],
)
def test_a_damaged_descriptor_is_told(
    tmp_path: Path, descriptor: tuple[int, int, int, int], says: str
) -> None:
    dump = opened(tmp_path, with_descriptor(*descriptor))
    assert why(dump, 0) == says
    assert dump.read(PAGE, PAGE, "the next") == PAGES[1]


def test_a_file_that_ends_early_tells_so(tmp_path: Path) -> None:
    dump = opened(tmp_path, SAMPLE[:-1])
    assert why(dump, 40000) == "the dump file ends before it"
    assert dump.read(9000 * PAGE, PAGE, "before") == PAGES[9000]
    dump = opened(tmp_path, SAMPLE[: DESCRIPTORS_AT + 24])
    assert why(dump, 1) == "the dump file ends before it"
    for size in (1, 8, 100, PAGE, PAGE + 8, PAGE + 104, 2 * PAGE, DESCRIPTORS_AT - 1):
        with pytest.raises(P2mError):
            opened(tmp_path, SAMPLE[:size])


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_packed_data_of_another_size_than_a_page_is_damaged(method: int) -> None:
    for size in (0, 1, 4095, 4097, 7000):
        data = pack(bytes(size), method)
        assert unpack(data, method, PAGE) is None
    assert unpack(pack(bytes(PAGE), method), method, PAGE) == bytes(PAGE)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = pack(bytes(200_000_000), ZLIB)
    tracemalloc.start()
    try:
        assert unpack(bomb, ZLIB, PAGE) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=300)
@given(st.sampled_from(sorted(METHODS.values())), st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_at_all_unpack_or_are_damaged(method: int, data: bytes, at: int) -> None:
    assert unpack(data, method, PAGE) is None or len(data) == PAGE
    packed = bytearray(pack(PAGES[500], method))
    packed[at : at + len(data)] = data
    found = unpack(bytes(packed[:PAGE]), method, PAGE)
    assert found is None or len(found) == PAGE


EDGES = [0, 1, 2, 3, 63, 4096, 40002, 65536, (1 << 31) - 1, (1 << 63) - 1]
SMALL = {"header_version": "i", "status": "I", "block_size": "i", "sub_hdr_size": "i",
         "bitmap_blocks": "I", "max_mapnr": "I", "total_ram_blocks": "I", "device_blocks": "I",
         "written_blocks": "I", "current_cpu": "I", "nr_cpus": "i", "dump_level": "i",
         "split": "i"}  # fmt: skip


def use(folder: Path, content: bytes) -> None:
    """Open and read all over, as far as it goes."""
    with contextlib.suppress(P2mError):
        dump = opened(folder, content)
        for frame in (*PAGES, *EXCLUDED, 3, 1 << 30):
            with contextlib.suppress(ReadError):
                assert len(dump.read(frame * PAGE, PAGE, "page")) == PAGE


@pytest.mark.parametrize("name", [*HEADER_FIELDS, *SUB_HEADER_FIELDS])
def test_every_field_of_the_headers_may_be_anything(tmp_path: Path, name: str) -> None:
    values: list[Any] = [*EDGES, -1, -4096, -(1 << 31), (1 << 32) - 1, (1 << 64) - 1]
    if name in ("signature", "utsname"):
        values = [b"", b"KDUMP", b"\xff" * 390]
    tried = 0
    for part in (None, (64, 4160)):
        for value in values:
            fields = {name: value}
            if name == "max_mapnr_64":  # the writer goes by this one
                data = bytearray(kdump(PAGES, EXCLUDED, notes=NOTES, part=part))
                struct.pack_into("<Q", data, PAGE + 96, value & (1 << 64) - 1)
                content = bytes(data)
            else:
                try:
                    content = kdump(PAGES, EXCLUDED, notes=NOTES, part=part, **fields)
                except struct.error:
                    continue  # not a value of this field
            tried += 1
            use(tmp_path, content)
            if part is None:
                use(tmp_path, flattened(content))
    assert tried >= len(values)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_dump_is_read_or_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(SAMPLE)
    places = st.one_of(
        st.integers(0, HEADER.size - 1),
        st.integers(PAGE, PAGE + SUB_HEADER.size + len(NOTES)),
        st.integers(2 * PAGE, len(SAMPLE) - 1),
    )
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(1, len(SAMPLE))))
    use(tmp_path_factory.getbasetemp(), bytes(content[:cut]))


@settings(max_examples=60)
@given(
    st.sets(st.integers(0, 20000), max_size=30),
    st.sets(st.integers(0, 20000), max_size=30),
    st.lists(st.integers(0, 20001), max_size=3),
)
def test_any_dump_split_anywhere_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, dumped: set[int], left_out: set[int], cuts: list[int]
) -> None:
    pages = {frame: page(frame) for frame in dumped}
    left_out -= dumped
    borders = sorted({0, 20001, *cuts})
    contents = [
        kdump(pages, left_out, LZO, part=part, max_mapnr_64=20001)
        for part in zip(borders, borders[1:])
    ]
    random.shuffle(contents)
    dump = opened(tmp_path_factory.getbasetemp(), *contents)
    for frame in (*dumped, *left_out, 5, 20000):
        if frame in pages:
            assert dump.read(frame * PAGE, PAGE, "page") == pages[frame]
        else:
            expected = "page excluded" if frame in left_out else "not in the dump"
            assert why(dump, frame) == expected


def test_a_dump_of_a_tebibyte_is_quick_to_open(tmp_path: Path) -> None:
    frames = 1 << 28
    blocks = frames // (8 * PAGE)
    path = tmp_path / "huge"
    with path.open("wb") as file:
        head = bytearray(kdump({}, max_mapnr_64=1)[: 2 * PAGE])
        struct.pack_into("<I", head, 436, 2 * blocks)
        struct.pack_into("<Q", head, PAGE + 96, frames)
        file.write(head)
        file.write(b"\xff" * (2 * blocks * PAGE))
        file.truncate(file.tell() + 24 * frames)
        file.seek(file.tell() + 24 * (frames - 1))
        content = page(1)
        file.write(struct.pack("<QIIQ", file.tell() + 24, PAGE, RAW, 0) + content)
    start = time.process_time()
    dump = open_dump([path])
    opening = time.process_time() - start
    assert dump.read((frames - 1) * PAGE, PAGE, "the last page") == content
    assert opening < 0.1
    assert time.process_time() - start < 5


def test_the_labs_rewriting_leaves_every_page_as_it_was(tmp_path: Path) -> None:
    (source,) = written(tmp_path, SAMPLE)
    for method in (None, *METHODS.values()):
        dump = open_dump([rewritten(source, tmp_path / "target", method, {500, 9000})])
        for frame, content in PAGES.items():
            if frame in (500, 9000):
                assert why(dump, frame) == "page excluded"
            else:
                assert dump.read(frame * PAGE, PAGE, "page") == content
    assert bits([0, 9], 1)[:2] == b"\x01\x02"
