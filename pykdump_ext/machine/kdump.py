# SPDX-License-Identifier: GPL-3.0-or-later
"""Machine memory in a kdump-compressed dump, in one file or split into several.

A file consists of blocks of one page (crash's diskdump.h and diskdump.c, makedumpfile's
diskdump_mod.h): struct disk_dump_header; struct kdump_sub_header; a bitmap of the machine
frames that exist; a bitmap of the frames whose page is in the dump; a descriptor for each
of these pages, in the order of frames; the pages.

Each file of a split dump (``makedumpfile --split``) has the whole bitmaps, and the pages
of one range of frames.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ..errors import INCOMPLETE, OtherFileError, P2mError, ReadError
from .compression import unpack
from .files import DumpFile, FileError
from .memory import PAGE_SHIFT, PAGE_SIZE, join_pages
from .notes import LARGEST_NOTES, Note, read_notes

__all__ = ["DESCRIPTOR", "SIGNATURE", "UNFINISHED_FILE", "KdumpFile", "Places", "split_range"]

SIGNATURE = b"KDUMP   "
# header_version, block_size, sub_hdr_size, bitmap_blocks, max_mapnr
HEADER = struct.Struct("<8xi416xiiII")
HEADER_SIZE = 464  # bytes of struct disk_dump_header
# split, start_pfn, end_pfn, offset_note, size_note, start_pfn_64, end_pfn_64, max_mapnr_64
SUB_HEADER = struct.Struct("<12xiQQ16xQQ16xQQQ")
SPLIT_VERSION, NOTES_VERSION, VERSION_64 = 2, 4, 6  # header_version since which fields exist
DESCRIPTOR = struct.Struct("<QII8x")  # offset, size, flags
SECTION = 512  # bytes of a bitmap whose ones are counted together
CACHED_PAGES = 256
STRETCH = 1 << 20  # bytes of a bitmap that are read together
MOST_FRAMES = 1 << 36  # 256 TiB
LAST_PAGES = 4096  # whose place is checked
STATUS_AT = 424  # offset of status in struct disk_dump_header
UNFINISHED = 0x8  # DUMP_DH_COMPRESSED_INCOMPLETE in it: makedumpfile has stopped too early
UNFINISHED_FILE = "makedumpfile did not finish the file, its disk may have been full"
ONES = bytes(bin(byte).count("1") for byte in range(256))


class _NoPage(Exception):
    """A page cannot be read; the text is the reason."""


def _ones(bits: bytes) -> int:
    return sum(bits.translate(ONES))


class _Part:
    """One file of a dump, with the pages of frames ``start`` to ``end - 1``."""

    def __init__(self, file: DumpFile) -> None:
        path = self.path = file.path
        self.file = file
        self.flattened = file.flattened
        self.header = file.read_at(0, HEADER_SIZE)
        if not self.header.startswith(SIGNATURE):
            raise P2mError(f"{path}: not a kdump-compressed file")
        sub_header = file.read_at(PAGE_SIZE, SUB_HEADER.size)
        if len(sub_header) < SUB_HEADER.size:
            raise OtherFileError(f"{path}: ends inside its header", verdict=INCOMPLETE)
        version, block_size, sub_blocks, bit_blocks, max_mapnr = HEADER.unpack_from(self.header)
        split, start, end, notes, notes_size, *newer = SUB_HEADER.unpack(sub_header)
        if block_size != PAGE_SIZE:
            raise self._damaged(f"a block size of {block_size}")
        if version >= VERSION_64:
            start, end, max_mapnr = newer
        if max_mapnr > MOST_FRAMES:
            raise self._damaged(f"{max_mapnr:x} frames")
        self.frames: int = max_mapnr
        self.start: int
        self.end: int
        self.split = version >= SPLIT_VERSION and split != 0
        self.start, self.end = (start, end) if self.split else (0, max_mapnr)
        if self.start > min(self.end, max_mapnr):
            raise self._damaged(f"frames {start:x} to {end:x} of {max_mapnr:x}")
        bits_at = (1 + sub_blocks) * PAGE_SIZE
        bits_size = bit_blocks * PAGE_SIZE
        self._descriptors_at = bits_at + bits_size
        blocks = f"a sub-header of {sub_blocks} and bitmaps of {bit_blocks} blocks"
        if sub_blocks < 1:
            raise self._damaged(blocks)
        if self._descriptors_at > file.size:
            raise OtherFileError(str(self._damaged(blocks)), verdict=INCOMPLETE)
        # a dump without excluded pages may have one bitmap for both
        wanted = -(-max_mapnr // (8 * PAGE_SIZE)) * PAGE_SIZE
        if bits_size < wanted:
            raise self._damaged(f"{max_mapnr:x} frames with bitmaps of {bit_blocks} blocks")
        self._existing_at = bits_at
        self._dumped_at = bits_at + bits_size // 2 if bits_size >= 2 * wanted else bits_at
        self._notes_at = (notes, notes_size) if notes and version >= NOTES_VERSION else (0, 0)
        if self._notes_at[1] > LARGEST_NOTES or sum(self._notes_at) > file.size:
            raise self._damaged(f"notes of {notes_size} bytes")
        # the number of pages before each section, counted as far as asked for
        bits, count = self._section(self.start)
        self._before = array("q", [-_ones((bits & (1 << count) - 1).to_bytes(SECTION, "little"))])
        self._unpacked = lru_cache(CACHED_PAGES)(self._unpack)

    def _damaged(self, what: str) -> P2mError:
        return P2mError(f"{self.path}: {what}: its header is damaged, or the file is cut off")

    @cached_property
    def notes(self) -> list[Note]:
        """The file's ELF notes."""
        return read_notes(self.file, [self._notes_at])

    def _section(self, mfn: int) -> tuple[int, int]:
        """Return the section of the second bitmap that has ``mfn``, and which bit it is."""
        section, count = divmod(mfn, SECTION * 8)
        bits = self.file.read_at(self._dumped_at + section * SECTION, SECTION)
        return int.from_bytes(bits, "little"), count

    def page(self, mfn: int) -> bytes:
        """Return the page of frame ``mfn``, which is in this file's range.

        :raises _NoPage: the file lacks the page, or the page is damaged.
        """
        byte, bit = divmod(mfn, 8)
        existing = self.file.read_at(self._existing_at + byte, 1)
        if not existing or not self.file.read_at(self._dumped_at + byte, 1):
            raise _NoPage("the dump file ends before it")
        if not existing[0] >> bit & 1:
            raise _NoPage("not in the dump")
        bits, count = self._section(mfn)
        if not bits >> count & 1:
            raise _NoPage("page excluded")
        at = self._descriptors_at + self._index(mfn, bits, count) * DESCRIPTOR.size
        found = self.file.read_at(at, DESCRIPTOR.size)
        if len(found) < DESCRIPTOR.size:
            raise _NoPage("the dump file ends before it")
        return self._unpacked(*DESCRIPTOR.unpack(found))

    def _index(self, mfn: int, bits: int, count: int) -> int:
        """Return how many pages come before that of ``mfn``, which is bit ``count`` of ``bits``."""
        first = self.start // (SECTION * 8)
        section = mfn // (SECTION * 8) - first
        while len(self._before) <= section:
            self._count(first, section)
        below = (bits & (1 << count) - 1).to_bytes(SECTION, "little")
        return self._before[section] + _ones(below)

    @property
    def incomplete(self) -> str | None:
        """Why pages are missing from this file, or None."""
        if int.from_bytes(self.header[STATUS_AT : STATUS_AT + 4], "little") & UNFINISHED:
            return UNFINISHED_FILE
        try:
            last = self._last()
            index = 0 if last is None else self._index(last, *self._section(last)) + 1
            first = max(0, index - LAST_PAGES)  # several: pages of zeros may share one place
            at = self._descriptors_at + first * DESCRIPTOR.size
            found = self.file.read_at(at, (index - first) * DESCRIPTOR.size)
        except FileError:
            return None  # the next read gives the reason
        whole = len(found) // DESCRIPTOR.size * DESCRIPTOR.size
        pages = [*DESCRIPTOR.iter_unpack(found[:whole])]
        if not all(offset for offset, _, _ in pages):
            return UNFINISHED_FILE
        cut = len(pages) < index - first or any(o + s > self.file.size for o, s, _ in pages)
        return "the file is cut off, its last pages are missing" if cut else None

    def places(self) -> Places:
        """Return where the parts of the file are."""
        return Places(
            self._existing_at,
            self._dumped_at,
            -(-self.frames // 8),
            self._descriptors_at,
            self._pages_before(self.frames),
            self.frames,
            self._pages_before,
        )

    def _pages_before(self, mfn: int) -> int:
        """Return how many pages come before that of ``mfn``, which may have none."""
        return self._index(mfn, *self._section(mfn))

    def _last(self) -> int | None:
        """Return the last frame in this file's range that has a page, or None."""
        end = min(self.end, self.frames)
        at = -(-end // 8)
        while at > self.start // 8:
            start = max(self.start // 8, at - STRETCH)
            bits = int.from_bytes(self.file.read_at(self._dumped_at + start, at - start), "little")
            bits &= (1 << end - start * 8) - 1
            if bits:
                return start * 8 + bits.bit_length() - 1
            at = start
        return None

    def _count(self, first: int, section: int) -> None:
        """Count the pages of more sections, up to ``section``; ``first`` is that of the file."""
        counted = len(self._before) - 1
        wanted = section - counted
        at = self._dumped_at + (first + counted) * SECTION
        empty = min(wanted, (self.file.next_data(at) - at) // SECTION)
        if empty:
            self._before.extend(self._before[-1:] * empty)
            return
        bits = self.file.read_at(at, min(wanted * SECTION, STRETCH))
        for at in range(0, min(wanted * SECTION, STRETCH), SECTION):
            self._before.append(self._before[-1] + _ones(bits[at : at + SECTION]))

    def _unpack(self, offset: int, size: int, flags: int) -> bytes:
        if not offset:
            raise _NoPage("the dump is incomplete, this page was not written")
        if size > PAGE_SIZE:
            raise _NoPage(f"its descriptor is damaged: {size} bytes")
        data = self.file.read_at(offset, size)
        if len(data) < size:
            raise _NoPage("the dump file ends before it")
        page = unpack(data, flags, PAGE_SIZE)
        if page is None:
            raise _NoPage("its packed data is damaged")
        return page


def split_range(file: DumpFile) -> tuple[bytes, int, int] | None:
    """Return the header that all files of a split dump share, and this file's frames.

    The frames are given as the first one and the one after the last. Return None if ``file``
    is not one of a split dump, or its header is damaged.
    """
    if file.read_at(0, len(SIGNATURE)) != SIGNATURE:
        return None
    try:
        part = _Part(file)
    except P2mError:
        return None
    return (part.header, part.start, part.end) if part.split else None


@dataclass(frozen=True)
class Places:
    """Where a file has its parts: offsets in bytes.

    ``existing`` and ``dumped`` are the bitmaps, of ``size`` bytes each, and may be one;
    ``descriptors`` are those of ``pages`` pages. ``frames`` is the number of machine frames that
    the file knows of; ``pages_before`` returns how many pages come before that of a frame.
    """

    existing: int
    dumped: int
    size: int
    descriptors: int
    pages: int
    frames: int
    pages_before: Callable[[int], int]


class KdumpFile:
    """Machine memory in a kdump-compressed dump.

    :param files: the dump's file, or the files of a split dump in any order.
    :raises P2mError: a file cannot be read, or the files are not of one dump.
    """

    def __init__(self, files: Iterable[DumpFile]) -> None:
        self._parts = sorted(map(_Part, files), key=lambda part: part.start)
        first = self._parts[0]
        for before, part in zip(self._parts, self._parts[1:]):
            if not (before.split and part.split) or part.header != first.header:
                raise P2mError(f"{before.path}, {part.path}: not files of one split dump")
            if part.start < before.end:
                raise P2mError(f"{before.path}, {part.path}: have the same frames")
        self.notes = first.notes
        self._frames = first.frames
        self._starts = [part.start for part in self._parts]
        self.format = "kdump-compressed"
        if first.split:
            count = len(self._parts)
            shown = "1 file" if count == 1 else f"{count} files"
            self.format += f", {shown} of a split dump" if self._gap() else f", split into {shown}"
        if first.flattened:
            self.format += ", flattened"

    @property
    def file(self) -> DumpFile:
        """The dump's file, or the first of several."""
        return self._parts[0].file

    @property
    def single(self) -> bool:
        """True if the dump is in one plain file."""
        part = self._parts[0]
        return len(self._parts) == 1 and not part.split and not part.flattened

    def places(self) -> Places:
        """Return where the parts of a dump in a single file are."""
        return self._parts[0].places()

    def _gap(self) -> tuple[int, int] | None:
        """Return the first and last of the frames that no given file has, or None."""
        ends = [0, *(part.end for part in self._parts)]
        gaps = zip(ends, [*self._starts, self._frames])
        return next(((end, start - 1) for end, start in gaps if end < start), None)

    @cached_property
    def incomplete(self) -> str | None:
        """Why a part of the dump is missing from its files, or None."""
        gap = self._gap()
        if gap:
            return f"frames {gap[0]:x} to {gap[1]:x} are in a file of the split dump not given"
        return next(filter(None, (part.incomplete for part in self._parts)), None)

    def _page(self, mfn: int) -> bytes:
        if mfn >= self._frames:
            raise _NoPage("not in the dump")
        index = bisect_right(self._starts, mfn) - 1
        if index < 0 or mfn >= self._parts[index].end:
            raise _NoPage("in a file of the split dump that is not given")
        return self._parts[index].page(mfn)

    def read(self, maddr: int, size: int, what: str) -> bytes:
        """Return ``size`` bytes from ``maddr``; see :class:`~.memory.MachineMemory`."""

        def part(start: int, length: int) -> bytes:
            try:
                page = self._page(start >> PAGE_SHIFT)
            except (_NoPage, FileError) as error:
                raise ReadError("machine address", start, what, str(error)) from None
            return page[start % PAGE_SIZE : start % PAGE_SIZE + length]

        return join_pages(maddr, size, part)
