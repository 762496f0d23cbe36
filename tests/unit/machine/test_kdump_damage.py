# SPDX-License-Identifier: GPL-3.0-or-later
"""Kdump-compressed dumps that are damaged."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError, ReadError
from pykdump_ext.machine.dumps import open_dump
from tests.lab.kdump import (
    HEADER,
    HEADER_FIELDS,
    PAGE,
    SUB_HEADER,
    SUB_HEADER_FIELDS,
    flattened,
    kdump,
)

from ..made_up.kdumps import EXCLUDED, NOTES, PAGES, SAMPLE, opened, why
from ..made_up.strategies import times

BITMAP_BLOCKS_AT = 436
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


@settings(max_examples=times(6))
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


def test_a_bitmap_of_more_memory_than_there_is_costs_a_bounded_number_of_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is sparse, and its bitmaps have a bit for each frame of 256 TiB."""
    bitmap = (1 << 36) // 8
    path = tmp_path / "vmcore"
    content = bytearray(kdump({0: b"A" * PAGE})[: 2 * PAGE])
    struct.pack_into("<I", content, BITMAP_BLOCKS_AT, 2 * bitmap // PAGE)
    struct.pack_into("<Q", content, PAGE + SUB_HEADER.size - 8, 1 << 36)
    path.write_bytes(content)
    with path.open("r+b") as file:
        for last in (bitmap, 2 * bitmap):
            file.seek(2 * PAGE + last - 1)
            file.write(b"\x80")
        file.write(bytes(PAGE))
    dump = open_dump([path])
    reads = []
    real = os.pread

    def counted(*args: int) -> bytes:
        reads.append(args)
        return real(*args)

    monkeypatch.setattr(os, "pread", counted)
    with pytest.raises(ReadError, match="the dump is incomplete, this page was not written"):
        dump.read((1 << 36) - 1 << 12, 8, "the last frame")
    assert len(reads) < 10_000
    struct.pack_into("<Q", content, PAGE + SUB_HEADER.size - 8, (1 << 36) + 1)
    with path.open("r+b") as file:
        file.write(content)
    with pytest.raises(P2mError, match="1000000001 frames: its header is damaged"):
        open_dump([path])
