# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's own image in machine memory: where it is mapped, and what its variables contain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from ..errors import ReadError
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE, read_pages
from ..machine.paging import PageTables
from .domains import Xen

__all__ = ["LARGEST_IMAGE", "image_pages", "image_parts"]

# bytes; Xen 4.17 has 4 MiB. Beside it, in the same GiB, xen/arch/x86/xen.lds.S leaves room for
# the stubs of each cpu
LARGEST_IMAGE = 64 << 20
WRITABLE = 1 << 1  # in an entry of a page table
WHAT = "Xen's image"


def image_pages(tables: PageTables, image: int, writable: bool) -> Iterator[tuple[int, int]]:
    """Yield the address and the mfn of each mapped page of Xen's image.

    :param image: the address of the image, a multiple of 1 GiB.
    :param writable: only those that Xen can write, which have its variables.
    """
    vaddr = image
    while vaddr < image + LARGEST_IMAGE:
        size = PAGE_SIZE
        with suppress(ReadError):
            steps = [*tables.walk(vaddr)]
            last = steps[-1]
            size = last.page_size
            can_write = all(step.entry & WRITABLE for step in steps)
            if last.present and (can_write or not writable):
                for page in range(vaddr, min(vaddr + size, image + LARGEST_IMAGE), PAGE_SIZE):
                    yield page, last.target(page) >> PAGE_SHIFT
        vaddr = (vaddr | size - 1) + 1


def image_parts(xen: Xen, writable: bool = True) -> Iterator[tuple[int, bytes]]:
    """Yield Xen's image in stretches without a gap, each with its address.

    A page that is not in the dump is a gap.

    :param writable: only what Xen can write, which has its variables.
    """
    pages = [*image_pages(xen.tables, xen.image, writable)]
    start, stretch = 0, bytearray()
    for (vaddr, _), page in zip(pages, read_pages(xen.memory, (mfn for _, mfn in pages), WHAT)):
        if stretch and (vaddr != start + len(stretch) or isinstance(page, ReadError)):
            yield start, bytes(stretch)
            stretch.clear()
        if not isinstance(page, ReadError):
            start = start if stretch else vaddr
            stretch += page
    if stretch:
        yield start, bytes(stretch)
