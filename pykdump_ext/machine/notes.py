# SPDX-License-Identifier: GPL-3.0-or-later
"""The ELF notes of a dump, parsed without trust in their contents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..errors import P2mError
from .files import DumpFile

__all__ = ["LARGEST_NOTES", "Note", "read_notes"]

LARGEST_NOTES = 64 << 20  # bytes; the notes of 8,192 cpus take about 6 MiB
MOST_NOTES = 1 << 16  # 8,192 cpus have 24,576, of three kinds


@dataclass(frozen=True)
class Note:
    """An ELF note of a dump: its owner's name, its type, its bytes.

    ``offset`` is the offset of these bytes in the file.
    """

    owner: str
    type: int
    data: bytes
    offset: int = field(default=0, compare=False)


def read_notes(file: DumpFile, places: Iterable[tuple[int, int]]) -> list[Note]:
    """Return the notes at these places of a file, in order.

    :param places: (offset, size) in bytes; of a size that no file has, the first 64 MiB count.
    :raises P2mError: there are more notes than a dump has, or they cannot be read.
    """
    found: list[Note] = []
    room = LARGEST_NOTES
    for offset, size in places:
        data = file.read_at(offset, min(size, LARGEST_NOTES))
        room -= len(data)
        if room < 0:
            raise P2mError(
                f"{file.path}: has more than {LARGEST_NOTES >> 20} MiB of notes:"
                " its header is damaged"
            )
        for note in parse_notes(data, offset):
            found.append(note)
            if len(found) > MOST_NOTES:
                raise P2mError(
                    f"{file.path}: has more than {MOST_NOTES:,} notes: its header is damaged"
                )
    return found


def parse_notes(data: bytes, offset: int) -> Iterator[Note]:
    """Yield the notes in ``data``, which is at ``offset`` in the file.

    Damaged contents do not matter: they are not decoded.
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
