# SPDX-License-Identifier: GPL-3.0-or-later
"""Machine memory in an ELF core file, plain or flattened."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from ..errors import P2mError, ReadError
from .files import DumpFile, open_file
from .notes import LARGEST_NOTES, Note, parse_notes

__all__ = ["MOST_SEGMENTS", "ElfCore"]

MOST_SEGMENTS = 1 << 16  # a damaged header can claim 2**32 of them, all zeros


class ElfCore:
    """Machine memory in an ELF core file, such as a copy of ``/proc/vmcore``.

    ``makedumpfile -E`` leaves pages out at the end of a segment, whose size in the file
    is then less than its size in memory. crash reads zeros there; this class raises
    :class:`ReadError`. ``missing`` is the number of bytes by which the file is shorter than
    its header says.

    :param source: the file, or its path.
    :raises P2mError: the file is not a readable 64-bit ELF core.
    """

    def __init__(self, source: str | Path | DumpFile) -> None:
        file = source if isinstance(source, DumpFile) else open_file(source)
        self.file = file
        self.format = "ELF, flattened" if file.flattened else "ELF"
        try:
            elf = ELFFile(io.BufferedReader(file))
            if elf.num_segments() > MOST_SEGMENTS:
                raise ValueError(f"{elf.num_segments():,} segments")
            self.notes = list(_notes(elf, file))
            segments = sorted(
                (int(s["p_paddr"]), int(s["p_filesz"]), int(s["p_offset"]), int(s["p_memsz"]))
                for s in elf.iter_segments("PT_LOAD")
            )
            kind = elf["e_type"]
            little = elf.little_endian and elf.elfclass == 64
        except (ELFError, ValueError, KeyError, ArithmeticError, TypeError) as error:
            raise P2mError(f"{file.path}: not a readable ELF file ({error})") from None
        if kind != "ET_CORE" or not little:
            raise P2mError(f"{file.path}: not a 64-bit ELF core file")
        self.missing = max(0, *(at + size - file.size for _, size, at, _ in [*segments, (0,) * 4]))
        self._loads = _apart([(start, size, offset) for start, size, offset, _ in segments if size])
        self._starts = [start for start, _, _ in self._loads]
        # the start of each segment in memory, and the largest end so far, excluded pages included
        self._memory_starts = [start for start, _, _, _ in segments]
        self._memory_ends = list(accumulate((start + size for start, _, _, size in segments), max))

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
            part = self.file.read_at(offset + maddr - start, available)
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


def _notes(elf: ELFFile, file: DumpFile) -> Iterator[Note]:
    """Yield every note of every PT_NOTE segment, in file order."""
    for segment in elf.iter_segments("PT_NOTE"):
        offset, size = segment["p_offset"], min(segment["p_filesz"], LARGEST_NOTES)
        yield from parse_notes(file.read_at(offset, size), offset)
