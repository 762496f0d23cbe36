# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump's file, read at any offset: a plain file as it is, a flattened one through an index.

``makedumpfile -F`` writes a dump to a pipe as records, each with its offset in the plain
file (makedumpfile.h: ``struct makedumpfile_header``, padded to 4096 bytes, then for each
record ``struct makedumpfile_data_header`` and data; numbers are big-endian).
``makedumpfile -R`` makes the plain file from them; this module looks records up instead.

Files are read with ``pread()`` and not mapped: a mapped file that becomes shorter, or whose disk
has an error, ends the process with SIGBUS.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from array import array
from bisect import bisect_right
from heapq import heappop, heappush
from itertools import chain
from pathlib import Path

from ..errors import INCOMPLETE, OtherFileError, P2mError

__all__ = ["FLATTENED_SIGNATURE", "DumpFile", "FileError", "FlattenedFile", "OpenFile", "open_file"]

FLATTENED_SIGNATURE = b"makedumpfile\0"
FLATTENED_HEADER_SIZE = 4096
RECORD = struct.Struct(">qq")  # offset in the plain file, size; in bytes
LAST_RECORD = -1  # the offset in the record that ends the file
# makedumpfile writes records of 64 KiB (its cache of 2**4 pages): so many are 128 GiB
MOST_RECORDS = 1 << 21


class FileError(P2mError):
    """The operating system cannot read a part of a file."""


class OpenFile:
    """A regular file that is open for reading, and its size in bytes when it was opened.

    :raises P2mError: the file cannot be opened, or is not a regular file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._fd = -1
        try:
            # Without O_NONBLOCK, a pipe that nobody writes to waits here
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(self._fd)
        except OSError as error:
            raise P2mError(f"{path}: {error.strerror}") from None
        except ValueError as error:  # a zero byte in the path
            raise P2mError(f"{path}: {error}") from None
        if stat.S_ISDIR(status.st_mode):
            raise P2mError(f"{path}: Is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise P2mError(f"{path}: is a pipe or a device, not a file: copy it to a file first")
        self.size = status.st_size

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, or fewer if the file ends first.

        :raises FileError: the operating system cannot read them.
        """
        size = min(size, self.size - offset)
        if size <= 0 or offset < 0:
            return b""
        try:
            return os.pread(self._fd, size, offset)
        except OSError as error:
            raise FileError(
                f"{self.path}: cannot be read at byte {offset:,}: {error.strerror}"
            ) from None

    def next_data(self, offset: int) -> int:
        """Return the offset of the next data that is not a hole, from ``offset`` on."""
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA)
        except OSError as error:  # ENXIO: only a hole follows
            return max(offset, self.size) if error.errno == errno.ENXIO else offset


class DumpFile:
    """A dump's plain file of ``size`` bytes, read at any offset.

    ``path`` is the file on disk. ``flattened`` is True if that file is flattened, and
    ``rewritten`` if two of its records have the same offset.
    """

    size: int
    flattened = False
    rewritten = False

    def __init__(self, file: OpenFile) -> None:
        self.path = file.path
        self.size = file.size
        self._file = file

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, or fewer if the file ends first.

        :raises FileError: the operating system cannot read them.
        """
        return self._file.read_at(offset, size)

    def next_data(self, offset: int) -> int:
        """Return the offset of the next data that is not a hole, from ``offset`` on."""
        return self._file.next_data(offset)


class FlattenedFile(DumpFile):
    """The plain file that the records of a flattened one describe.

    Bytes of no record are zero. Where records overlap, the later one wins.
    """

    flattened = True

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file)
        starts, places, ends = self._records()
        order = sorted(range(len(starts)), key=starts.__getitem__)
        self.rewritten = len(set(starts)) < len(starts)
        self.size = max(ends, default=0)
        # the pieces of the plain file, in order and apart: where each begins and ends, and how
        # much later than that it is in the flattened file
        self._starts, self._ends, self._shifts = _pieces(order, starts, places, ends)

    def _records(self) -> tuple[array[int], array[int], array[int]]:
        """Return each record's start in the plain file, its place in this one, and its end.

        :raises P2mError: a record is damaged, the last one is missing, or there are too many.
        """
        starts, places, ends = array("q"), array("q"), array("Q")
        place = FLATTENED_HEADER_SIZE
        while True:
            head = self._file.read_at(place, RECORD.size)
            if len(head) < RECORD.size:
                raise OtherFileError(
                    f"{self.path}: is flattened, and ends before its last record",
                    verdict=INCOMPLETE,
                )
            start, size = RECORD.unpack(head)
            place += RECORD.size
            if start == LAST_RECORD:
                return starts, places, ends
            if start < 0 or size < 0 or not (start or size) or place + size > self._file.size:
                raise OtherFileError(
                    f"{self.path}: is flattened, and its record at {place - RECORD.size:x}"
                    " is damaged, or cut off",
                    verdict=INCOMPLETE if place + size > self._file.size else "unknown",
                )
            if size:
                starts.append(start)
                places.append(place)
                ends.append(start + size)
            if len(starts) > MOST_RECORDS:
                raise P2mError(
                    f"{self.path}: is flattened, and has more than {MOST_RECORDS:,} records:"
                    " make a plain file of it with makedumpfile -R"
                )
            place += size

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, or fewer if the file ends first.

        :raises FileError: the operating system cannot read them.
        """
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        parts = []
        index = max(0, bisect_right(self._starts, offset) - 1)
        while offset < end:
            start = self._starts[index] if index < len(self._starts) else end
            if offset < start:  # bytes of no record
                parts.append(bytes(min(end, start) - offset))
                offset = min(end, start)
            stop = min(end, self._ends[index]) if index < len(self._ends) else end
            if offset < stop:
                part = self._file.read_at(offset + self._shifts[index], stop - offset)
                parts.append(part)
                if len(part) < stop - offset:  # the file became shorter since it was opened
                    break
                offset = stop
            index += 1
        return b"".join(parts)

    def next_data(self, offset: int) -> int:
        """Return the offset of the next bytes that are in a record, from ``offset`` on."""
        index = bisect_right(self._ends, offset)
        return max(offset, self._starts[index] if index < len(self._starts) else self.size)


def _pieces(
    order: list[int], starts: array[int], places: array[int], ends: array[int]
) -> tuple[array[int], array[int], array[int]]:
    """Return the pieces of a plain file, apart and in order, for records that may overlap.

    One pass over the records by their start, with a heap of those that are open, the latest
    first: what a record covers is never looked at again.
    """
    piece_starts, piece_ends, shifts = array("Q"), array("Q"), array("q")
    open_records: list[int] = []
    at = 0
    for i in chain(order, [-1]):
        start = starts[i] if i >= 0 else 1 << 64
        while open_records and at < start:
            latest = -open_records[0]
            stop = min(ends[latest], start)
            if stop > at:
                shift = places[latest] - starts[latest]
                if shifts and shifts[-1] == shift and piece_ends[-1] == at:
                    piece_ends[-1] = stop
                else:
                    piece_starts.append(at)
                    piece_ends.append(stop)
                    shifts.append(shift)
                at = stop
            if ends[latest] <= at:
                heappop(open_records)
        at = max(at, start)
        if i >= 0:
            heappush(open_records, -i)
    return piece_starts, piece_ends, shifts


def open_file(path: str | Path) -> DumpFile:
    """Open a dump's file, plain or flattened.

    :raises P2mError: the file cannot be opened, is empty, or is flattened and damaged.
    """
    file = OpenFile(path)
    if not file.size:
        raise P2mError(f"{path}: the file is empty")
    flattened = file.read_at(0, len(FLATTENED_SIGNATURE)) == FLATTENED_SIGNATURE
    return (FlattenedFile if flattened else DumpFile)(file)
