# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel's p2m without symbols: by its shared_info, or as far as the direct map shows it.

Linux writes the address of a linear p2m, and the root of the page tables that map it, into
``struct shared_info`` (``xen_setup_mfn_list_list()`` of ``arch/x86/xen/p2m.c``). Beside them
is the mfn of the frame list, which Xen copies into its crash note.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice

from ..errors import P2mError, ReadError
from ..linux.kernel import Kernel, Root
from ..machine.memory import PAGE_SIZE, MachineMemory
from ..machine.paging import NOT_MAPPED, PageTables
from ..xen.hints import DomainHints
from ..xen.shared_info import LIST_INVALID, SharedInfo, read_shared_info
from .coverage import DirectMap
from .entries import Kind, kind_of
from .framelist import FrameList
from .layouts import LEAVES_PER_MID, MAX_PFNS, P2mTable, own_leaves, with_replaced
from .leaves import PFNS_PER_LEAF, read_leaf

__all__ = ["Mapped", "NoNamelist", "find_kernel", "read_linear_table", "survey_by_direct_map"]

# Kernels map shared_info in their fixmap (FIX_PARAVIRT_BOOTMAP), which is in these 8 MiB
FIXMAP = 0xFFFFFFFFFF000000
FIXMAP_PAGES = 2048
# Pages that the kernel maps after its p2m, before the first that it does not map: a vmalloc area
# has a guard page at its end
MOST_LEAVES_BEHIND = 1 << 16
PFNS_PER_STEP = LEAVES_PER_MID * PFNS_PER_LEAF  # 1 GiB: one entry of a PUD


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
    looked = {NOT_MAPPED}  # the same pages are in the fixmap of all processes
    for root in dict.fromkeys(root.maddr for root in hints.roots):
        try:
            mapped = PageTables(memory, root).frames(FIXMAP, FIXMAP_PAGES)
        except ReadError:
            continue
        for mfn in mapped:
            if mfn not in looked:
                looked.add(mfn)
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
            return P2mTable("linear", max_pfn, leaves, NOT_MAPPED, None, frozenset(shared), False)
    raise P2mError(f"there is no p2m at {vaddr:x}, the address in the kernel's shared_info")


@dataclass
class Mapped:
    """What a list covers of the pages that a kernel's direct map has.

    ``pages`` is their number, ``covered`` that of the covered ones. ``lost`` has the first and
    the last pfn of each range of leaves with pages that are not covered, and ``last_covered``
    is the last pfn that is covered, or -1.
    """

    pages: int = 0
    covered: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)
    last_covered: int = -1

    def add(self, first: int, frames: array[int], leaf: bytes | None) -> None:
        """Count the pages of the leaf that begins at pfn ``first``.

        :param frames: the mfn of each pfn by the direct map.
        :param leaf: the entries of the list's leaf; None if it has none, or an unreadable one.
        """
        if leaf is not None and frames.tobytes() == leaf:
            pages = covered = len(frames)
        else:
            entries = array("Q", leaf or b"\xff" * 8 * len(frames))
            # A frame with the pfn's own number may be a device's, and a frame of another
            # domain is mapped as well: neither is memory of this domain.
            memory = [
                (mfn, entry)
                for pfn, (mfn, entry) in enumerate(zip(frames, entries), first)
                if mfn == entry
                or (mfn not in (NOT_MAPPED, pfn) and kind_of(entry) in (Kind.MEMORY, Kind.MISSING))
            ]
            memory = [pair for pair in memory if pair[0] != NOT_MAPPED]
            pages, covered = len(memory), sum(mfn == entry for mfn, entry in memory)
        self.pages += pages
        self.covered += covered
        last = first + len(frames) - 1
        if covered:
            self.last_covered = last
        if covered < pages:
            if self.lost and self.lost[-1][1] == first - 1:
                first = self.lost.pop()[0]
            self.lost.append((first, last))


def survey_by_direct_map(kernel: Kernel, published: FrameList) -> Mapped:
    """Return what a list covers of the kernel's direct map, up to 64 TiB; no symbols are needed.

    :raises P2mError: the direct map cannot be found.
    """
    base = kernel.page_offset()
    result = Mapped()
    seen: set[bytes] = set()
    for start in range(0, MAX_PFNS, PFNS_PER_STEP):
        vaddr = base + start * PAGE_SIZE
        try:
            *_, step = kernel.tables.walk(vaddr)
            if not step.present and step.page_size >= PFNS_PER_STEP * PAGE_SIZE:
                continue
            frames = kernel.tables.frames(vaddr, PFNS_PER_STEP, large=False)
        except ReadError:
            continue
        if frames.count(NOT_MAPPED) == len(frames):
            continue
        content = sha256(frames).digest()
        if content in seen:  # damaged page tables lead in a circle
            break
        seen.add(content)
        for offset in range(0, PFNS_PER_STEP, PFNS_PER_LEAF):
            mapped = frames[offset : offset + PFNS_PER_LEAF]
            if mapped.count(NOT_MAPPED) < PFNS_PER_LEAF:
                listed = published.leaf((start + offset) // PFNS_PER_LEAF)
                leaf = None
                if listed is not None:
                    with suppress(ReadError):
                        leaf = read_leaf(kernel.memory, listed)
                result.add(start + offset, mapped, leaf)
    return result
