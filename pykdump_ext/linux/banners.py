# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel banners: found in memory without symbols, taken apart, and compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from ..errors import ReadError
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE
from ..machine.paging import NOT_MAPPED, PageTables
from .kernel import START_KERNEL_MAP

__all__ = [
    "BANNER_START",
    "LONGEST_BANNER",
    "MOST_PAGES",
    "difference",
    "find_banner",
    "release_of",
]

BANNER_START = b"Linux version "
LONGEST_BANNER = 512
BANNER = re.compile(rb"Linux version [^\0\n]{1,500}")  # a newline follows
# Linux 6.1 and newer have a weak linux_banner too, in init/version.c, without the build's number
WITHOUT_NUMBER = b" # "
# KERNEL_IMAGE_SIZE of arch/x86/include/asm/page_64_types.h: 512 MiB, 1 GiB with KASLR
KERNEL_IMAGE_PAGES = (1 << 30) >> PAGE_SHIFT
TEXT_PAGES_BEFORE_BANNER = 1 << 16  # 256 MiB: no kernel has more text
MOST_PAGES = 1 << 18  # of all kernels of a dump: sixty of them have so much text


def find_banner(tables: PageTables, budget: Iterator[int]) -> bytes | None:
    """Search the kernel that these page tables map for its banner; no symbols are needed.

    Return the banner without its newline, or None where they map no Linux kernel.

    :param budget: one step for each page that may still be searched, of any kernel.
    :raises ReadError: the page tables are not in the dump.
    """
    before, weak = b"", None
    seen: set[int] = set()
    for _, _, mfn in zip(budget, range(TEXT_PAGES_BEFORE_BANNER), _mapped(tables)):
        page = b""
        if mfn not in seen:
            seen.add(mfn)
            with suppress(ReadError):
                page = tables.memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, "kernel image")
        text = before[-LONGEST_BANNER:] + page
        for match in BANNER.finditer(text):
            if not text.startswith(b"\n", match.end()):
                continue
            if WITHOUT_NUMBER not in match[0]:
                return match[0]
            weak = weak or match[0]
        before = page
    return weak


def _mapped(tables: PageTables) -> Iterator[int]:
    """Yield the mfns of the kernel's image."""
    frames = tables.frames(START_KERNEL_MAP, KERNEL_IMAGE_PAGES)
    yield from (mfn for mfn in frames if mfn != NOT_MAPPED)


def release_of(banner: bytes | str) -> str:
    """Return the release that a banner names, such as ``6.1.0-56-amd64``."""
    text = banner if isinstance(banner, str) else banner.decode("latin-1")
    words = text.split()
    return words[2] if len(words) > 2 else "unknown"


def difference(one: bytes, other: bytes) -> tuple[str, str]:
    """Return the words in which two banners differ: from the first such word to the last."""
    first, second = (banner.decode("latin-1").split() for banner in (one, other))
    while first and second and first[0] == second[0]:
        first, second = first[1:], second[1:]
    while first and second and first[-1] == second[-1]:
        first, second = first[:-1], second[:-1]
    return " ".join(first), " ".join(second)
