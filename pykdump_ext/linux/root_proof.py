# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof of a kernel's page-table root: the kernel's own banner, read through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import P2mError, ReadError
from ..machine.memory import MachineMemory
from ..machine.paging import ADDRESS_MASK, PageTables
from .kernel import Kernel, Root, Symbols

__all__ = ["prove_root"]

MOST_SHOWN = 16  # results in the error


def prove_root(
    memory: MachineMemory,
    symbols: Symbols,
    banner: bytes,
    candidates: Iterable[Root],
    tables: Callable[[int], PageTables] | None = None,
) -> Kernel:
    """Return the kernel, read through the first candidate that is proved.

    A candidate is proved if ``linux_banner``, read through it, is the namelist's. The page
    tables of Xen, or of a domain with another kernel, do not pass.

    :param tables: a function that returns the page tables below a root; by default new ones.
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
            return kernel
        shown = found[:40].split(b"\n")[0].decode("latin-1")
        tried.append(f"{candidate.maddr:x} ({candidate.source}): another kernel, {shown!r}")
    listed = "; ".join(tried[:MOST_SHOWN]) or "there was none to try"
    if len(tried) > MOST_SHOWN:
        listed += f"; and {len(tried) - MOST_SHOWN:,} more"
    raise P2mError(f"no page-table root of this kernel found: {listed}")
