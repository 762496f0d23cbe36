# SPDX-License-Identifier: GPL-3.0-or-later
"""Machine memory in an ELF core file, plain or flattened."""

from __future__ import annotations

import struct
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import INCOMPLETE, OtherFileError, P2mError, ReadError
from .files import DumpFile, FileError, open_file
from .notes import read_notes

__all__ = [
    "EHDR",
    "ET_CORE",
    "IDENT_64_LITTLE",
    "MOST_SEGMENTS",
    "PHDR",
    "PN_XNUM",
    "PT_LOAD",
    "PT_NOTE",
    "SH_INFO",
    "ElfCore",
    "Segment",
]

# A damaged header can claim 2**32 of them, all zeros; native/dump.py writes up to 2**18
MOST_SEGMENTS = 1 << 19
EHDR = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
PHDR = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
IDENT_64_LITTLE = b"\x7fELF\x02\x01"  # e_ident: the magic, ELFCLASS64, ELFDATA2LSB
ET_CORE = 4
PT_LOAD, PT_NOTE = 1, 4
PN_XNUM = 0xFFFF  # e_phnum where sh_info of the first section header counts the segments
SH_INFO = 44  # offset in Elf64_Shdr


class Segment(NamedTuple):
    """A program header, Elf64_Phdr."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


class ElfCore:
    """Machine memory in an ELF core file, such as a copy of ``/proc/vmcore``.

    ``makedumpfile -E`` leaves pages out at the end of a segment, whose size in the file
    is then less than its size in memory. crash reads zeros there; this class raises
    :class:`ReadError`. ``missing`` is the number of bytes by which the file is shorter than
    its header says. ``header`` has the fields of Elf64_Ehdr, ``headers`` the program headers.

    :param source: the file, or its path.
    :raises P2mError: the file is not a readable 64-bit ELF core.
    """

    def __init__(self, source: str | Path | DumpFile) -> None:
        file = source if isinstance(source, DumpFile) else open_file(source)
        self.file = file
        self.format = "ELF, flattened" if file.flattened else "ELF"
        self.header, self.headers = _headers(file)
        notes = [(s.offset, s.filesz) for s in self.headers if s.type == PT_NOTE]
        self.notes = read_notes(file, notes)
        segments = sorted(
            (s.paddr, s.filesz, s.offset, s.memsz) for s in self.headers if s.type == PT_LOAD
        )
        self.missing = max(0, *(at + size - file.size for _, size, at, _ in [*segments, (0,) * 4]))
        self._loads = _apart([(start, size, offset) for start, size, offset, _ in segments if size])
        self._starts = [start for start, _, _ in self._loads]
        # the start of each segment in memory, and the largest end so far, excluded pages included
        self._memory_starts = [start for start, _, _, _ in segments]
        self._memory_ends = list(accumulate((start + size for start, _, _, size in segments), max))

    @property
    def incomplete(self) -> str | None:
        """Why a part of the dump is missing from its file, or None."""
        return f"the file is cut off, {self.missing:,} bytes are missing" if self.missing else None

    @property
    def single(self) -> bool:
        """True if the dump is in one plain file."""
        return not self.file.flattened

    def segments(self) -> list[tuple[int, int]]:
        """Return the (start, end) machine addresses of what the file holds, in order."""
        return [(start, start + size) for start, size, _ in self._loads]

    def read(self, maddr: int, size: int, what: str) -> bytes:
        """Return ``size`` bytes from ``maddr``; see :class:`MachineMemory`."""
        parts = []
        end = maddr + size
        while maddr < end:
            index = bisect_right(self._starts, maddr) - 1
            start, length, offset = self._loads[index] if index >= 0 else (0, 0, 0)
            available = min(end, start + length) - maddr
            if available <= 0:
                raise ReadError("machine address", maddr, what, self._missing(maddr))
            try:
                part = self.file.read_at(offset + maddr - start, available)
            except FileError as error:
                raise ReadError("machine address", maddr, what, str(error)) from None
            if len(part) != available:
                raise ReadError("machine address", maddr, what, "the dump file ends before it")
            parts.append(part)
            maddr += available
        return b"".join(parts)

    def _missing(self, maddr: int) -> str:
        """Return why the file lacks the byte at ``maddr``."""
        index = bisect_right(self._memory_starts, maddr) - 1
        existed = index >= 0 and maddr < self._memory_ends[index]
        return "page excluded" if existed else "not in the dump"


def _apart(loads: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return sorted (start, size, offset) segments, each without what an earlier one holds."""
    found = []
    end = 0
    for start, size, offset in loads:
        begin = max(start, end)
        if begin < start + size:
            found.append((begin, start + size - begin, offset + begin - start))
            end = start + size
    return found


def _headers(file: DumpFile) -> tuple[tuple[Any, ...], list[Segment]]:
    """Return the fields of an ELF core file's header, and its program headers.

    They are read by hand: pyelftools reads sections as well, as many as a damaged header claims.

    :raises P2mError: the file is not a readable 64-bit ELF core.
    """

    def unreadable(why: str, verdict: str = "unknown") -> P2mError:
        return OtherFileError(f"{file.path}: not a readable ELF file ({why})", verdict)

    head = file.read_at(0, EHDR.size)
    if head[:4] != IDENT_64_LITTLE[:4]:
        raise unreadable("it does not begin as one")
    if len(head) < EHDR.size:
        raise unreadable("it ends inside its header", INCOMPLETE)
    header = EHDR.unpack(head)
    _, kind, _, _, _, table_at, sections_at, _, _, size, count, *_ = header
    if kind != ET_CORE or not head.startswith(IDENT_64_LITTLE):
        raise P2mError(f"{file.path}: not a 64-bit ELF core file")
    if count == PN_XNUM:
        count = int.from_bytes(file.read_at(sections_at + SH_INFO, 4), "little")
    if count > MOST_SEGMENTS:
        raise unreadable(f"{count:,} segments")
    if count and size != PHDR.size:
        raise unreadable(f"program headers of {size} bytes")
    table = file.read_at(table_at, count * PHDR.size)
    if len(table) < count * PHDR.size:
        raise unreadable("it ends inside its program headers", INCOMPLETE)
    return header, [Segment(*fields) for fields in PHDR.iter_unpack(table)]
