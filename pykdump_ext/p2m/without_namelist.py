# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel's p2m, found without symbols through the kernel's shared_info.

Linux writes the address of a linear p2m, and the root of the page tables that map it, into
``struct shared_info`` (``xen_setup_mfn_list_list()`` of ``arch/x86/xen/p2m.c``). Beside them
is the mfn of the frame list, which Xen copies into its crash note.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Container, Iterator
from itertools import islice

from ..errors import P2mError, ReadError
from ..linux.kernel import Kernel, Root
from ..machine.memory import PAGE_SIZE, MachineMemory
from ..machine.paging import NOT_MAPPED, PageTables
from ..xen.hints import DomainHints
from ..xen.shared_info import LIST_INVALID, SharedInfo, read_shared_info
from .coverage import DirectMap
from .layouts import LEAVES_PER_MID, MAX_PFNS, P2mTable, own_leaves, with_replaced
from .leaves import PFNS_PER_LEAF, read_leaf

__all__ = ["NoNamelist", "find_kernel", "read_linear_table"]

# Kernels map shared_info in their fixmap (FIX_PARAVIRT_BOOTMAP), which is in these 8 MiB
FIXMAP = 0xFFFFFFFFFF000000
FIXMAP_PAGES = 2048
# Pages that the kernel maps after its p2m, before the first that it does not map: a vmalloc area
# has a guard page at its end
MOST_LEAVES_BEHIND = 1 << 16


class NoNamelist:
    """The symbols of a kernel whose namelist is not at hand: none."""

    def address(self, name: str) -> int | None:
        """Return None."""
        return None


def find_kernel(memory: MachineMemory, hints: DomainHints) -> tuple[Kernel, SharedInfo]:
    """Return the domain's kernel, and the shared_info in which it publishes its p2m.

    If shared_info was not found in Xen's memory, it is the page with the same frame list
    as Xen's crash note.

    :raises P2mError: no such shared_info is found, or it has no p2m.
    """
    for shared in _candidates(memory, hints):
        if shared.has_p2m:
            return Kernel(memory, NoNamelist(), Root(shared.p2m_cr3, "shared_info")), shared
    raise P2mError("no shared_info with the kernel's p2m was found")


def _candidates(memory: MachineMemory, hints: DomainHints) -> Iterator[SharedInfo]:
    """Yield candidates for shared_info: the one in Xen's memory, then pages of the fixmap."""
    if hints.shared is not None and hints.shared.max_pfn:
        yield hints.shared
    if hints.frame_list_mfn in (0, LIST_INVALID):
        return
    for root in dict.fromkeys(root.maddr for root in hints.roots):
        try:
            mapped = PageTables(memory, root).frames(FIXMAP, FIXMAP_PAGES)
        except ReadError:
            continue
        for mfn in mapped:
            if mfn != NOT_MAPPED:
                try:
                    shared = read_shared_info(memory, mfn)
                except ReadError:
                    continue
                if shared.frame_list_mfn == hints.frame_list_mfn:
                    yield shared


def _own_leaves_backwards(
    leaves: array[int], shared: Container[int | None]
) -> Iterator[tuple[int, int]]:
    """Yield index and mfn of every one of ``leaves`` that is not in ``shared``, the last first."""
    for start in reversed(range(0, len(leaves), LEAVES_PER_MID)):
        own = own_leaves(leaves[start : start + LEAVES_PER_MID], shared)
        yield from reversed([(start + i, mfn) for i, mfn in own])


def read_linear_table(kernel: Kernel, vaddr: int, max_pfn: int) -> P2mTable:
    """Return the linear p2m that is mapped from ``vaddr`` on.

    Nothing marks its end, and the kernel maps other things right after it. So the last leaf
    is the last one that the direct map confirms; ``max_pfn`` is right if it is in that leaf.
    Pages that occur more than once are shared pages.

    :raises P2mError: no p2m is mapped there, or its page tables cannot be read.
    """
    leaves = array("Q")
    while len(leaves) * PFNS_PER_LEAF < MAX_PFNS and NOT_MAPPED not in leaves[-LEAVES_PER_MID:]:
        at = vaddr + len(leaves) * PAGE_SIZE
        leaves.extend(kernel.tables.frames(at, LEAVES_PER_MID, large=False))
    shared = {mfn for mfn, times in Counter(leaves).items() if times > 1} | {NOT_MAPPED}
    direct_map = DirectMap(kernel)
    for index, mfn in islice(_own_leaves_backwards(leaves, shared), MOST_LEAVES_BEHIND):
        try:
            leaf = read_leaf(kernel.memory, mfn)
        except ReadError:
            continue
        if direct_map.confirms(index, leaf):
            leaves = leaves[: index + 1]
            for page in shared:
                leaves = with_replaced(leaves, page, NOT_MAPPED)
            if not index * PFNS_PER_LEAF < max_pfn <= len(leaves) * PFNS_PER_LEAF:
                max_pfn = len(leaves) * PFNS_PER_LEAF
            return P2mTable("linear", max_pfn, leaves, NOT_MAPPED, None, frozenset(shared))
    raise P2mError(f"there is no p2m at {vaddr:x}, the address in the kernel's shared_info")
