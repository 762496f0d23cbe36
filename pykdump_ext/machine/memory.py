# SPDX-License-Identifier: GPL-3.0-or-later
"""Machine memory: how it is read, by machine address.

A machine address (maddr) is in bytes. A machine frame number (mfn) is a maddr divided by
the page size.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from ..errors import ReadError

__all__ = [
    "PAGE_SHIFT",
    "PAGE_SIZE",
    "WORDS_PER_PAGE",
    "MachineMemory",
    "PageMemory",
    "join_pages",
    "read_words",
    "split_by_page",
]

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
WORDS_PER_PAGE = PAGE_SIZE // 8


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
