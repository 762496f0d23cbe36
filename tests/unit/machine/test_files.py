# SPDX-License-Identifier: GPL-3.0-or-later
"""Flattened dumps: the plain file that each stands for."""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError, ReadError
from pykdump_ext.machine import files
from pykdump_ext.machine.dumps import open_dump
from pykdump_ext.machine.files import open_file
from tests.lab.kdump import (
    PAGE,
    RAW,
    flattened,
    kdump,
)

from ..made_up.core import Segment, core_bytes
from ..made_up.kdumps import NOTES, PAGES, SAMPLE, opened, records, why, written
from ..made_up.strategies import times


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


@settings(max_examples=times(5))
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
        following = file.next_data(at)
        assert following >= at and not any(plain[at:following])


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


def lines_of(work: Callable[[], Any]) -> int:
    """Return the number of lines of Python that are run for some work."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


def test_records_that_are_overwritten_cost_a_read_nothing(tmp_path: Path) -> None:
    many = [(number, b"x" * 600) for number in range(1, 600)]
    (path,) = written(tmp_path, records(*many, (1, b"y" * 1200)))
    file = open_file(path)
    assert file.read_at(0, 4) == b"\0yyy"
    assert lines_of(lambda: file.read_at(600, 8)) < 60


def test_more_records_than_a_dump_has_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_RECORDS", 5)
    (path,) = written(tmp_path, records(*((number, b"x") for number in range(1, 7))))
    with pytest.raises(P2mError, match="has more than 5 records: make a plain file of it with"):
        open_file(path)
    (path,) = written(tmp_path, records(*((number, b"x") for number in range(1, 6))))
    assert open_file(path).size == 6


@pytest.mark.parametrize("form", ["elf", "kdump", "flattened elf", "flattened kdump"])
def test_a_dump_that_becomes_shorter_while_it_is_read_is_told(tmp_path: Path, form: str) -> None:
    if form.endswith("elf"):
        content = core_bytes([Segment(0x1000, os.urandom(1 << 20))])
    else:
        content = kdump({frame: os.urandom(PAGE) for frame in range(1, 257)}, method=RAW)
    if form.startswith("flattened"):
        content = flattened(content, 65536)
    (path,) = written(tmp_path, content)
    dump = open_dump([path])
    assert len(dump.read(0x1000, 8, "x")) == 8
    for size in (3 * PAGE, 100, 0):
        os.truncate(path, size)
        with pytest.raises(ReadError, match="the dump file ends before it"):
            dump.read(0x80000, 8, "x")


@pytest.mark.parametrize("form", ["elf", "kdump"])
def test_a_disk_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    content = SAMPLE if form == "kdump" else core_bytes([Segment(0, b"A" * PAGE)])
    dump = opened(tmp_path, content)

    def broken(fd: int, size: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(ReadError, match=r"vmcore0: cannot be read at byte [\d,]+: Input/output"):
        dump.read(0, 8, "x")
    with pytest.raises(P2mError, match="vmcore0: cannot be read at byte 0: Input/output error"):
        open_dump([tmp_path / "vmcore0"])


def test_a_pipe_and_a_device_are_told_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(P2mError, match=f"{path}: is a pipe or a device, not a file: copy it"):
            open_file(path)


def test_a_file_is_closed_when_nobody_has_it(tmp_path: Path) -> None:
    (path,) = written(tmp_path, SAMPLE)
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    files_open = [open_file(path) for _ in range(3)]
    assert len(set(os.listdir("/proc/self/fd")) - before) == 3  # noqa: PTH208
    del files_open
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
