# SPDX-License-Identifier: GPL-3.0-or-later
"""Kdump-compressed dumps to read, and why a page cannot be read."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from pykdump_ext.errors import ReadError
from pykdump_ext.machine.compression import LZO, SNAPPY, ZLIB, ZSTD
from pykdump_ext.machine.dumps import Dump, open_dump
from tests.lab.kdump import (
    PAGE,
    RAW,
    flattened,
    kdump,
)

from .core import note

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


RANGES = ((0, 64), (64, 4160), (4160, 40002))
PARTS = [kdump(PAGES, EXCLUDED, notes=NOTES, part=part) for part in RANGES]


def records(*pairs: tuple[int, bytes]) -> bytes:
    data = flattened(b"")[:PAGE]
    for offset, part in pairs:
        data += struct.pack(">qq", offset, len(part)) + part
    return data + struct.pack(">qq", -1, -1)
