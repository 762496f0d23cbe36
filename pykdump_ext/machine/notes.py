# SPDX-License-Identifier: GPL-3.0-or-later
"""The ELF notes of a dump, parsed without trust in their contents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["LARGEST_NOTES", "Note", "parse_notes"]

LARGEST_NOTES = 64 << 20  # bytes; the notes of 8,192 cpus take about 6 MiB


@dataclass(frozen=True)
class Note:
    """An ELF note of a dump: its owner's name, its type, its bytes.

    ``offset`` is the offset of these bytes in the file.
    """

    owner: str
    type: int
    data: bytes
    offset: int = field(default=0, compare=False)


def parse_notes(data: bytes, offset: int) -> Iterator[Note]:
    """Yield the notes in ``data``, which is at ``offset`` in the file.

    pyelftools is not used: it decodes the contents of notes that it knows, and damaged
    contents must not matter.
    """
    position = 0
    while position + 12 <= len(data):
        namesz, descsz, kind = (
            int.from_bytes(data[position + i : position + i + 4], "little") for i in (0, 4, 8)
        )
        if not namesz and not descsz and not kind:
            return  # zeros after the last note; a damaged size can include millions
        name_at = position + 12
        desc_at = name_at + (namesz + 3 & ~3)
        position = desc_at + (descsz + 3 & ~3)
        if position > len(data) + 3:
            return  # a damaged size: the next note cannot be found
        owner = data[name_at : name_at + namesz].rstrip(b"\0").decode("latin-1")
        yield Note(owner, kind, data[desc_at : desc_at + descsz], offset + desc_at)
