"""Machine memory: the bytes behind machine addresses, as Xen numbers them.

Nothing here knows of Xen's or Linux's data structures, with one exception: the
notes that come with a dump are handed over as they stand in the file.

A machine address (maddr) is in bytes; a machine frame number (mfn) is a maddr
divided by the page size.
"""

from __future__ import annotations

import mmap
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from .errors import P2mError, ReadError

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
WORDS_PER_PAGE = PAGE_SIZE // 8
LARGEST_NOTES = 64 << 20  # bytes; 8,192 cpus have some 6 MiB


class MachineMemory(Protocol):
    """Anything that machine memory can be read from."""

    def read(self, maddr: int, size: int, what: str) -> bytes:
        """Return ``size`` bytes from machine address ``maddr``.

        :param what: what is being read, for the error message.
        :raises ReadError: any of these bytes is not in this memory.
        """
        ...


def read_words(memory: MachineMemory, mfn: int, what: str) -> array[int]:
    """Return machine frame ``mfn`` as an array of 512 unsigned 64-bit words.

    :raises ReadError: the frame is not in this memory.
    """
    words = array("Q", memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, what))
    if sys.byteorder == "big":
        words.byteswap()
    return words


class PageMemory:
    """Machine memory given as a mapping of frame numbers to pages; for tests.

    Sparse: a frame that is not in the mapping cannot be read.
    """

    def __init__(self, pages: Mapping[int, bytes]) -> None:
        self.pages = pages

    def read(self, maddr: int, size: int, what: str) -> bytes:
        """Return ``size`` bytes from ``maddr``; see :class:`MachineMemory`."""
        parts = []
        end = maddr + size
        while maddr < end:
            page = self.pages.get(maddr >> PAGE_SHIFT)
            if page is None:
                raise ReadError("machine address", maddr, what)
            offset = maddr & (PAGE_SIZE - 1)
            part = page[offset : offset + end - maddr]
            parts.append(part)
            maddr += len(part)
        return b"".join(parts)


@dataclass(frozen=True)
class Note:
    """An ELF note of a dump: its owner's name, its type, its bytes."""

    owner: str
    type: int
    data: bytes


class ElfCore:
    """Machine memory in an ELF core file, as ``/proc/vmcore`` is copied.

    The file is mapped read-only.

    :raises P2mError: the file is not a readable 64-bit ELF core.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                elf = ELFFile(file)
                self.notes = list(_notes(elf, self._map))
                loads = sorted(
                    (int(s["p_paddr"]), int(s["p_filesz"]), int(s["p_offset"]))
                    for s in elf.iter_segments("PT_LOAD")
                    if s["p_filesz"]
                )
                kind = elf["e_type"]
                little = elf.little_endian and elf.elfclass == 64
        except OSError as error:
            raise P2mError(f"{path}: {error.strerror}") from None
        except (ELFError, ValueError, KeyError, ArithmeticError, TypeError) as error:
            raise P2mError(f"{path}: not a readable ELF file ({error})") from None
        if kind != "ET_CORE" or not little:
            raise P2mError(f"{path}: not a 64-bit ELF core file")
        loads = _apart(loads)
        self._starts = [start for start, _, _ in loads]
        self._loads = loads

    def segments(self) -> list[tuple[int, int]]:
        """Return the (start, end) machine addresses that the file holds, in order."""
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
                raise ReadError("machine address", maddr, what, "not in the dump")
            position = offset + maddr - start
            part = self._map[position : position + available]
            if len(part) != available:
                raise ReadError("machine address", maddr, what, "the dump file ends before it")
            parts.append(part)
            maddr += available
        return b"".join(parts)


def _apart(loads: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return sorted (start, size, offset) segments without what an earlier one has already."""
    found = []
    end = 0
    for start, size, offset in loads:
        begin = max(start, end)
        if begin < start + size:
            found.append((begin, start + size - begin, offset + begin - start))
            end = start + size
    return found


def _notes(elf: ELFFile, file: mmap.mmap) -> Iterator[Note]:
    """Yield every note of every PT_NOTE segment, in file order."""
    for segment in elf.iter_segments("PT_NOTE"):
        offset = segment["p_offset"]
        yield from _parse_notes(file[offset : offset + segment["p_filesz"]])


def _parse_notes(data: bytes) -> Iterator[Note]:
    """Yield the notes that stand one behind the other in ``data``.

    They are taken apart here and not by the ELF library: it decodes the
    contents of notes it knows, and damaged contents must not matter.
    """
    position = 0
    while position + 12 <= len(data):
        namesz, descsz, kind = (
            int.from_bytes(data[position + i : position + i + 4], "little") for i in (0, 4, 8)
        )
        name_at = position + 12
        desc_at = name_at + (namesz + 3 & ~3)
        position = desc_at + (descsz + 3 & ~3)
        if position > len(data) + 3:
            return  # a damaged size; what follows cannot be found
        owner = data[name_at : name_at + namesz].rstrip(b"\0").decode("latin-1")
        yield Note(owner, kind, data[desc_at : desc_at + descsz])


# A kdump-compressed file (makedumpfile, diskdump_mod.h): struct disk_dump_header, and in
# the block behind it struct kdump_sub_header, which has the notes from version 4 on.
KDUMP_SIGNATURE = b"KDUMP   "
FLATTENED_SIGNATURE = b"makedumpfile\0"
KDUMP_BLOCK_SIZE = struct.Struct("<428xi")
KDUMP_NOTES = struct.Struct("<48xQQ")  # offset_note, size_note


def read_notes(path: str | Path) -> list[Note]:
    """Return the notes of a dump, an ELF core or a kdump-compressed file.

    :raises P2mError: the file is neither, or has no notes that can be read.
    """
    try:
        with Path(path).open("rb") as file:
            header = file.read(KDUMP_BLOCK_SIZE.size)
            if header.startswith(FLATTENED_SIGNATURE):
                raise P2mError(
                    f"{path}: is flattened, as makedumpfile -F sends it:"
                    f" make a dump of it first, makedumpfile -R DUMP < {Path(path).name}"
                )
            if not header.startswith(KDUMP_SIGNATURE) or len(header) < KDUMP_BLOCK_SIZE.size:
                return ElfCore(path).notes
            (block_size,) = KDUMP_BLOCK_SIZE.unpack(header)
            if block_size < PAGE_SIZE:
                raise P2mError(f"{path}: a block size of {block_size}: its header is damaged")
            file.seek(block_size)
            sub_header = file.read(KDUMP_NOTES.size).ljust(KDUMP_NOTES.size, b"\0")
            offset, size = KDUMP_NOTES.unpack(sub_header)
            if size > LARGEST_NOTES or offset > Path(path).stat().st_size:
                raise P2mError(f"{path}: notes of {size} bytes: its header is damaged")
            file.seek(offset)
            return list(_parse_notes(file.read(size)))
    except OSError as error:
        raise P2mError(f"{path}: {error.strerror}") from None
