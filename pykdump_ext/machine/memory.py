# SPDX-License-Identifier: GPL-3.0-or-later
"""Machine memory: how it is read, by machine address.

A machine address (maddr) is in bytes. A machine frame number (mfn) is a maddr divided by
the page size.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from ..errors import ReadError

__all__ = [
    "PAGE_SHIFT",
    "PAGE_SIZE",
    "WORDS_PER_PAGE",
    "MachineMemory",
    "PageMemory",
    "join_pages",
    "read_pages",
    "read_runs",
    "read_words",
    "runs_of",
    "split_by_page",
]

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
WORDS_PER_PAGE = PAGE_SIZE // 8
LONGEST_RUN = 64  # pages, 256 KiB


class MachineMemory(Protocol):
    """A source of machine memory."""

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
    return array("Q", memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, what))


def read_runs(
    memory: MachineMemory, runs: Iterable[tuple[int, int]], what: str
) -> Iterator[tuple[int, bytes | ReadError]]:
    """Yield the contents of runs of machine frames, in order, as (number of frames, their bytes).

    A run is read at once: a read of one page costs more than its bytes. If a frame of it is not in
    this memory, each comes alone, that one as the error.

    :param runs: the first frame of each run, and their number.
    """
    for first, count in runs:
        try:
            yield count, memory.read(first << PAGE_SHIFT, count << PAGE_SHIFT, what)
        except ReadError as error:
            if count == 1:
                yield 1, error
                continue
            for mfn in range(first, first + count):
                try:
                    yield 1, memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, what)
                except ReadError as one:
                    yield 1, one


def runs_of(mfns: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs of consecutive frames, each as its first frame and their number, up to 64."""
    first = count = 0
    for mfn in mfns:
        if mfn == first + count and count < LONGEST_RUN:
            count += 1
            continue
        if count:
            yield first, count
        first, count = mfn, 1
    if count:
        yield first, count


def read_pages(
    memory: MachineMemory, mfns: Iterable[int], what: str
) -> Iterator[bytes | ReadError]:
    """Yield the page of each of these machine frames, in order, or the error of reading it.

    Up to 65 frames are taken from ``mfns`` before the first page comes.
    """
    for count, content in read_runs(memory, runs_of(mfns), what):
        if count == 1 or isinstance(content, ReadError):
            yield content
            continue
        for at in range(0, len(content), PAGE_SIZE):
            yield content[at : at + PAGE_SIZE]


def split_by_page(address: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the parts, (address, bytes), of a range that is split at page boundaries."""
    end = address + size
    while address < end:
        part = min(end - address, PAGE_SIZE - address % PAGE_SIZE)
        yield address, part
        address += part


def join_pages(address: int, size: int, read: Callable[[int, int], bytes]) -> bytes:
    """Return ``size`` bytes from ``address``, read page by page.

    :param read: a function of an address and a size in bytes, which are in one page.
    """
    if 0 < size <= PAGE_SIZE - address % PAGE_SIZE:
        return read(address, size)
    return b"".join(read(start, part) for start, part in split_by_page(address, size))


class PageMemory:
    """Machine memory given as a mapping of frame numbers to pages.

    It is sparse: a frame that is not in the mapping cannot be read.
    """

    def __init__(self, pages: Mapping[int, bytes]) -> None:
        self.pages = pages

    def read(self, maddr: int, size: int, what: str) -> bytes:
        """Return ``size`` bytes from ``maddr``; see :class:`MachineMemory`."""

        def part(start: int, length: int) -> bytes:
            page = self.pages.get(start >> PAGE_SHIFT)
            if page is None:
                raise ReadError("machine address", start, what)
            return page[start % PAGE_SIZE : start % PAGE_SIZE + length]

        return join_pages(maddr, size, part)
