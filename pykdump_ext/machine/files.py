"""The file of a dump, read at any place: a plain one mapped, a flattened one by an index.

``makedumpfile -F`` writes a dump as records, for pipes: what stands where
(makedumpfile.h: ``struct makedumpfile_header``, padded to 4096 bytes, then
``struct makedumpfile_data_header`` and data, again and again, the numbers
big-endian).  ``makedumpfile -R`` makes the plain file of it; here the records
are looked up instead.
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
LAST_RECORD = -1  # as its offset


class DumpFile(io.RawIOBase):
    """A dump's plain file of ``size`` bytes: read at any offset, or as a stream.

    ``path`` is that of the file that is really there; ``flattened`` is True where
    that is one, ``rewritten`` where it has two records for the same place.
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
        """Return ``size`` bytes from ``offset`` on; fewer where the file ends before that."""
        raise NotImplementedError

    def readable(self) -> bool:
        """True: it is a stream to be read."""
        return True

    def seekable(self) -> bool:
        """True: it is a stream that can be set to any offset."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the stream to ``offset`` from where ``whence`` says."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` from the stream; return the number of bytes."""
        data = self.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class PlainFile(DumpFile):
    """A file as it is, mapped read-only."""

    def __init__(self, path: Path, contents: mmap.mmap) -> None:
        super().__init__(path, contents)
        self.size = len(contents)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on; fewer where the file ends before that."""
        return self._map[offset : offset + size]


class FlattenedFile(DumpFile):
    """The plain file that a flattened one stands for.

    What no record has is zero, and a later record writes over an earlier one.
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
        # how far the records up to each one reach
        self._reach = array("Q", accumulate((starts[i] + sizes[i] for i in order), max))
        self.size = self._reach[-1] if order else 0

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on; fewer where the file ends before that."""
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

    :raises P2mError: it cannot be opened, is empty, or is flattened and not whole.
    """
    try:
        with Path(path).open("rb") as file:
            contents = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise P2mError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise P2mError(f"{path}: an empty file") from None
    flattened = contents[: len(FLATTENED_SIGNATURE)] == FLATTENED_SIGNATURE
    return (FlattenedFile if flattened else PlainFile)(Path(path), contents)
