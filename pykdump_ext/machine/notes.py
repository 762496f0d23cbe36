"""The ELF notes of a dump, taken apart without trusting their contents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["LARGEST_NOTES", "Note", "parse_notes"]

LARGEST_NOTES = 64 << 20  # bytes; the notes of 8,192 cpus take some 6 MiB


@dataclass(frozen=True)
class Note:
    """An ELF note of a dump: its owner's name, its type, its bytes.

    ``offset`` is where in the file these bytes are.
    """

    owner: str
    type: int
    data: bytes
    offset: int = field(default=0, compare=False)


def parse_notes(data: bytes, offset: int) -> Iterator[Note]:
    """Yield the notes that stand one behind the other in ``data``, from ``offset`` of the file on.

    They are taken apart here and not by the ELF library: it decodes the
    contents of notes it knows, and damaged contents must not matter.
    """
    position = 0
    while position + 12 <= len(data):
        namesz, descsz, kind = (
            int.from_bytes(data[position + i : position + i + 4], "little") for i in (0, 4, 8)
        )
        if not namesz and not descsz and not kind:
            return  # zeros, behind the last note; a damaged size can have millions of them
        name_at = position + 12
        desc_at = name_at + (namesz + 3 & ~3)
        position = desc_at + (descsz + 3 & ~3)
        if position > len(data) + 3:
            return  # a damaged size; what follows cannot be found
        owner = data[name_at : name_at + namesz].rstrip(b"\0").decode("latin-1")
        yield Note(owner, kind, data[desc_at : desc_at + descsz], offset + desc_at)
