# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump's file, read at any offset: a plain file is mapped, a flattened one is indexed.

``makedumpfile -F`` writes a dump to a pipe as records, each with its offset in the plain
file (makedumpfile.h: ``struct makedumpfile_header``, padded to 4096 bytes, then for each
record ``struct makedumpfile_data_header`` and data; numbers are big-endian).
``makedumpfile -R`` makes the plain file from them; this module looks records up instead.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..errors import P2mError

__all__ = ["FLATTENED_SIGNATURE", "DumpFile", "FlattenedFile", "PlainFile", "open_file"]

FLATTENED_SIGNATURE = b"makedumpfile\0"
FLATTENED_HEADER_SIZE = 4096
RECORD = struct.Struct(">qq")  # offset in the plain file, size; in bytes
LAST_RECORD = -1  # the offset in the record that ends the file


class DumpFile(io.RawIOBase):
    """A dump's plain file of ``size`` bytes, read at any offset or as a stream.

    ``path`` is the file on disk. ``flattened`` is True if that file is flattened, and
    ``rewritten`` if two of its records have the same offset.
    """

    size: int
    flattened = False
    rewritten = False

    def __init__(self, path: Path, contents: mmap.mmap) -> None:
        super().__init__()
        self.path = path
        self._map = contents
        self._position = 0

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, or fewer if the file ends first."""
        raise NotImplementedError

    def readable(self) -> bool:
        """Return True: the stream can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: the stream can be set to any offset."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the stream to ``offset`` bytes from ``whence``; return its new position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` from the stream; return the number of bytes read."""
        data = self.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class PlainFile(DumpFile):
    """A file that is not flattened, mapped read-only."""

    def __init__(self, path: Path, contents: mmap.mmap) -> None:
        super().__init__(path, contents)
        self.size = len(contents)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, or fewer if the file ends first."""
        return self._map[offset : offset + size]


class FlattenedFile(DumpFile):
    """The plain file that the records of a flattened one describe.

    Bytes of no record are zero. Where records overlap, the later one wins.
    """

    flattened = True

    def __init__(self, path: Path, contents: mmap.mmap) -> None:
        super().__init__(path, contents)
        starts, places, sizes = array("q"), array("q"), array("q")
        place = FLATTENED_HEADER_SIZE
        while True:
            if place + RECORD.size > len(contents):
                raise P2mError(f"{path}: is flattened, and ends before its last record")
            start, size = RECORD.unpack_from(contents, place)
            place += RECORD.size
            if start == LAST_RECORD:
                break
            if start < 0 or size < 0 or not (start or size) or place + size > len(contents):
                raise P2mError(
                    f"{path}: is flattened, and its record at {place - RECORD.size:x}"
                    " is damaged, or cut off"
                )
            if size:
                starts.append(start)
                places.append(place)
                sizes.append(size)
            place += size
        order = sorted(range(len(starts)), key=starts.__getitem__)
        self._starts = array("q", [starts[i] for i in order])
        self._places = array("q", [places[i] for i in order])
        self._sizes = array("q", [sizes[i] for i in order])
        self.rewritten = len(set(starts)) < len(starts)
        # the largest end among the records up to each one
        self._reach = array("Q", accumulate((starts[i] + sizes[i] for i in order), max))
        self.size = self._reach[-1] if order else 0

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, or fewer if the file ends first."""
        end = min(offset + size, self.size)
        data = bytearray(max(0, end - offset))
        first, last = bisect_right(self._reach, offset), bisect_left(self._starts, end)
        for i in sorted(range(first, last), key=self._places.__getitem__):
            start = max(offset, self._starts[i])
            stop = min(end, self._starts[i] + self._sizes[i])
            if start < stop:
                place = self._places[i] - self._starts[i]
                data[start - offset : stop - offset] = self._map[place + start : place + stop]
        return bytes(data)


def open_file(path: str | Path) -> DumpFile:
    """Open a dump's file, plain or flattened.

    :raises P2mError: the file cannot be opened, is empty, or is flattened and damaged.
    """
    try:
        with Path(path).open("rb") as file:
            contents = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise P2mError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise P2mError(f"{path}: the file is empty") from None
    flattened = contents[: len(FLATTENED_SIGNATURE)] == FLATTENED_SIGNATURE
    return (FlattenedFile if flattened else PlainFile)(Path(path), contents)
