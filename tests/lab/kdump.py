# SPDX-License-Identifier: GPL-3.0-or-later
"""Kdump-compressed and flattened dumps, written as makedumpfile writes them.

Debian's makedumpfile cannot do all of them: 1.7.2 packs neither with snappy nor
with zstd (asked for snappy, it does not pack at all).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cffi import FFI

from pykdump_ext.machine.compression import LIBRARIES, LZO, SNAPPY, ZLIB, ZSTD, unpack

PAGE = 4096
RAW = 0
DESCRIPTOR = struct.Struct("<QIIQ")
# struct disk_dump_header and struct kdump_sub_header of crash's diskdump.h, all their fields
HEADER = struct.Struct("<8si390s6xqqIiiIIIIIIi")
HEADER_FIELDS = (
    "signature", "header_version", "utsname", "seconds", "microseconds", "status", "block_size",
    "sub_hdr_size", "bitmap_blocks", "max_mapnr", "total_ram_blocks", "device_blocks",
    "written_blocks", "current_cpu", "nr_cpus",
)  # fmt: skip
SUB_HEADER = struct.Struct("<QiiQQqQqQqQQQQ")
SUB_HEADER_FIELDS = (
    "phys_base", "dump_level", "split", "start_pfn", "end_pfn", "offset_vmcoreinfo",
    "size_vmcoreinfo", "offset_note", "size_note", "offset_eraseinfo", "size_eraseinfo",
    "start_pfn_64", "end_pfn_64", "max_mapnr_64",
)  # fmt: skip

ffi = FFI()
ffi.cdef("""
int lzo1x_1_compress(const char *, size_t, char *, size_t *, char *);
int snappy_compress(const char *, size_t, char *, size_t *);
size_t ZSTD_compress(char *, size_t, const char *, size_t, int);
""")


@cache
def _library(method: int) -> Any:
    return ffi.dlopen(LIBRARIES[method][0])


def pack(page: bytes, method: int) -> bytes:
    """Return ``page`` packed by ``method``, a flag of a page descriptor."""
    if method == RAW:
        return page
    if method == ZLIB:
        return zlib.compress(page, 1)
    packed, length = ffi.new("char[]", 4 * PAGE), ffi.new("size_t *", 4 * PAGE)
    if method == LZO:
        work = ffi.new("char[]", 16384 * 8)  # LZO1X_1_MEM_COMPRESS
        _library(LZO).lzo1x_1_compress(page, len(page), packed, length, work)
    elif method == SNAPPY:
        assert not _library(SNAPPY).snappy_compress(page, len(page), packed, length)
    else:
        length[0] = _library(ZSTD).ZSTD_compress(packed, 4 * PAGE, page, len(page), 1)
    return bytes(ffi.buffer(packed, length[0]))


def bits(frames: Collection[int], blocks: int) -> bytes:
    """Return a bitmap of so many blocks in which the bits of ``frames`` are set."""
    found = bytearray(blocks * PAGE)
    for frame in frames:
        found[frame // 8] |= 1 << frame % 8
    return bytes(found)


def kdump(
    pages: Mapping[int, bytes],
    excluded: Collection[int] = (),
    method: int = ZLIB,
    notes: bytes = b"",
    part: tuple[int, int] | None = None,
    **changes: Any,
) -> bytes:
    """Return a dump of ``pages`` by frame, and of frames that were left out.

    :param part: write a file of a split dump, with the pages of these frames.
    :param changes: fields of the headers that are to be otherwise.
    """
    frames = changes.get("max_mapnr_64", max([*pages, *excluded], default=0) + 1)
    blocks = -(-frames // (8 * PAGE))
    start, end = part or (0, 0)
    values: dict[str, Any] = dict.fromkeys((*HEADER_FIELDS, *SUB_HEADER_FIELDS), 0)
    notes_at = PAGE + SUB_HEADER.size
    values.update(
        signature=b"KDUMP   ", header_version=6, utsname=b"Linux", status=method, block_size=PAGE,
        sub_hdr_size=-(-(SUB_HEADER.size + len(notes)) // PAGE), bitmap_blocks=2 * blocks,
        max_mapnr=frames & 0xFFFFFFFF, nr_cpus=1, dump_level=1, split=int(part is not None),
        start_pfn=start, end_pfn=end, start_pfn_64=start, end_pfn_64=end, max_mapnr_64=frames,
        offset_note=notes_at if notes else 0, size_note=len(notes),
    )  # fmt: skip
    written = [f for f in sorted(pages) if part is None or start <= f < end]
    bitmaps = bits([*pages, *excluded], blocks) + bits(pages, blocks)
    at = PAGE * (1 + values["sub_hdr_size"]) + len(bitmaps) + DESCRIPTOR.size * len(written)
    descriptors, contents = b"", b""
    for frame in written:
        packed = pack(pages[frame], method)
        descriptors += DESCRIPTOR.pack(at + len(contents), len(packed), method, 0)
        contents += packed
    sub_blocks = values["sub_hdr_size"]
    values.update(changes)
    header = HEADER.pack(*(values[name] for name in HEADER_FIELDS)).ljust(PAGE, b"\0")
    sub_header = SUB_HEADER.pack(*(values[name] for name in SUB_HEADER_FIELDS)) + notes
    return header + sub_header.ljust(sub_blocks * PAGE, b"\0") + bitmaps + descriptors + contents


def flattened(data: bytes, record: int = 65536) -> bytes:
    """Return the file that ``makedumpfile -F`` could have written for ``data``."""
    parts = [b"makedumpfile".ljust(16, b"\0"), struct.pack(">qq", 1, 1)]
    parts.append(bytes(PAGE - 32))
    for at in range(0, len(data), record):
        part = data[at : at + record]
        parts += [struct.pack(">qq", at, len(part)), part]
    return b"".join([*parts, struct.pack(">qq", -1, -1)])


def rewritten(
    source: Path, target: Path, method: int | None = None, excluded: Collection[int] = ()
) -> Path:
    """Write a dump of makedumpfile's anew, and return its path.

    :param method: pack each page by it, where that makes it smaller; None leaves them.
    :param excluded: frames to leave out, which have pages in ``source``.
    """
    data = bytearray(source.read_bytes())
    _, sub_blocks, bit_blocks, _ = struct.unpack_from("<iiII", data, 428)
    head = PAGE * (1 + sub_blocks + bit_blocks)
    dumped = head - bit_blocks * PAGE // 2
    flags = int.from_bytes(data[dumped:head], "little")
    frames = [i for i, bit in enumerate(reversed(bin(flags)[2:])) if bit == "1"]
    kept = [
        DESCRIPTOR.unpack_from(data, head + DESCRIPTOR.size * i)
        for i, frame in enumerate(frames)
        if frame not in excluded
    ]
    for frame in excluded:
        data[dumped + frame // 8] &= ~(1 << frame % 8)
    places: dict[int, tuple[int, int, int]] = {}
    with target.open("wb") as file:
        file.write(data[:head])
        file.seek(head + DESCRIPTOR.size * len(kept))
        for offset, size, how, _ in kept:
            if offset in places:
                continue
            packed, flag = bytes(data[offset : offset + size]), how
            if method is not None:
                page = unpack(packed, how, PAGE)
                assert page is not None
                packed, flag = pack(page, method), method
                if len(packed) >= PAGE:
                    packed, flag = page, RAW
            places[offset] = (file.tell(), len(packed), flag)
            file.write(packed)
        file.seek(head)
        for offset, _, _, page_flags in kept:
            file.write(DESCRIPTOR.pack(*places[offset], page_flags))
    return target


def edit_notes(path: Path, edit: Callable[[bytes], bytes]) -> None:
    """Replace the notes of a dump by what ``edit`` makes of them, of the same length."""
    with path.open("r+b") as file:
        file.seek(PAGE)
        fields = dict(zip(SUB_HEADER_FIELDS, SUB_HEADER.unpack(file.read(SUB_HEADER.size))))
        file.seek(fields["offset_note"])
        old = file.read(fields["size_note"])
        new = edit(old)
        assert len(new) == len(old) and new != old
        file.seek(fields["offset_note"])
        file.write(new)
