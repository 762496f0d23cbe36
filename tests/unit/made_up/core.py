# SPDX-License-Identifier: GPL-3.0-or-later
"""ELF core files, written from their definition."""

from __future__ import annotations

import struct
from dataclasses import dataclass

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
