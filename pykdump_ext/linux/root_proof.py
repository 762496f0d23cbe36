# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof of a kernel's page-table root: the kernel's own banner, read through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import P2mError, ReadError
from ..machine.memory import MachineMemory
from ..machine.paging import ADDRESS_MASK, PageTables
from .banners import BANNER_START, LONGEST_BANNER, release_of
from .kernel import Kernel, Root, Symbols

__all__ = ["prove_root"]

MOST_SHOWN = 16  # results in the error


def prove_root(
    memory: MachineMemory,
    symbols: Symbols,
    banner: bytes,
    candidates: Iterable[Root],
    tables: Callable[[int], PageTables] | None = None,
    same_release: bool = False,
) -> Kernel:
    """Return the kernel, read through the first candidate that is proved.

    A candidate is proved if ``linux_banner``, read through it, is the namelist's. The page
    tables of Xen, or of a domain with another kernel, do not pass.

    :param tables: a function that returns the page tables below a root; by default new ones.
    :param same_release: a banner passes as well that names the same release and is of another
        build. crash goes on with such a namelist, because the address of the banner agrees.
    :raises P2mError: no candidate is proved; the text has the results of the first ones.
    """
    tried = []
    seen = set()
    for candidate in candidates:
        if candidate.maddr & ADDRESS_MASK in seen:
            continue
        seen.add(candidate.maddr & ADDRESS_MASK)
        kept = None if tables is None else tables(candidate.maddr)
        kernel = Kernel(memory, symbols, candidate, kept)
        try:
            found = kernel.read(kernel.address("linux_banner"), len(banner), "linux_banner")
        except ReadError as error:
            tried.append(f"{candidate.maddr:x} ({candidate.source}): {error}")
            continue
        if banner and found == banner:
            kernel.banner = _whole(kernel, found)
            return kernel
        if not found.startswith(BANNER_START):
            tried.append(f"{candidate.maddr:x} ({candidate.source}): linux_banner is not there")
            continue
        kernel.banner = _whole(kernel, found)
        if same_release and release_of(kernel.banner) == release_of(banner):
            return kernel
        shown = release_of(kernel.banner)
        tried.append(f"{candidate.maddr:x} ({candidate.source}): another kernel, Linux {shown}")
    listed = "; ".join(tried[:MOST_SHOWN]) or "there was none to try"
    if len(tried) > MOST_SHOWN:
        listed += f"; and {len(tried) - MOST_SHOWN:,} more"
    raise P2mError(f"no page-table root of this kernel found: {listed}")


def _whole(kernel: Kernel, start: bytes) -> bytes:
    """Return the banner in a kernel's memory that has these first bytes, without its final zero."""
    try:
        text = kernel.read(kernel.address("linux_banner"), LONGEST_BANNER, "linux_banner")
    except ReadError:  # the next page is not in the dump
        text = start
    return text.split(b"\0")[0]
