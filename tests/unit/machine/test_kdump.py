# SPDX-License-Identifier: GPL-3.0-or-later
"""Kdump-compressed dumps: each way to pack them, each header."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

from pykdump_ext.errors import ReadError
from pykdump_ext.machine.dumps import open_dump
from tests.lab.kdump import (
    PAGE,
    RAW,
    bits,
    kdump,
    rewritten,
)

from ..made_up.kdumps import EXCLUDED, METHODS, NOTES, PAGES, SAMPLE, opened, page, why, written


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
    assert opening < 1
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
