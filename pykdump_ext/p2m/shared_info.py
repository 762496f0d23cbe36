"""A kernel's p2m by what the kernel tells Xen of it, without any symbols.

Linux writes the address of a linear p2m, and the page tables that it is mapped
by, into ``struct shared_info`` (``xen_setup_mfn_list_list()``,
``arch/x86/xen/p2m.c``), next to the list's mfn, which Xen copies into its note.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator

from ..errors import P2mError, ReadError
from ..kernel import START_KERNEL_MAP, Kernel, Root, XenInfo
from ..memory import PAGE_SHIFT, PAGE_SIZE, MachineMemory, read_words
from ..paging import NOT_MAPPED, PageTables
from .coverage import DirectMap
from .entries import INVALID_P2M_ENTRY
from .layouts import LEAVES_PER_MID, MAX_PFNS, PFNS_PER_LEAF, P2mTable, own_leaves, with_replaced

# Kernels map shared_info in their fixmap, FIX_PARAVIRT_BOOTMAP; somewhere in these 8 MiB
FIXMAP = 0xFFFFFFFFFF000000
FIXMAP_PAGES = 2048

# 64-bit words into struct shared_info: arch_shared_info begins with max_pfn as word 386
# (xen/include/public/xen.h, xen/include/public/arch-x86/xen.h)
MAX_PFN = 386
FRAME_LIST_LIST = 387
P2M_CR3 = 389
P2M_VADDR = 390

KERNEL_TEXT = START_KERNEL_MAP + 0x1000000  # a PV kernel's is where it is linked


class NoNamelist:
    """What is known of every kernel: where its text begins, which leads to its direct map."""

    def address(self, name: str) -> int | None:
        """Return an address in the kernel's text for ``linux_banner``, and None for the rest."""
        return KERNEL_TEXT if name == "linux_banner" else None


def find_kernel(memory: MachineMemory, info: XenInfo) -> tuple[Kernel, int, int]:
    """Return dom0's kernel, the virtual address of its p2m, and ``max_pfn`` as Xen was told it.

    Where Xen's memory does not tell which shared_info is dom0's, it is the one that
    has the list's mfn that Xen's note has.

    :raises P2mError: there is no such shared_info, or no p2m in it.
    """
    if info.shared_info is not None and all(info.shared_info):
        root, vaddr, max_pfn = info.shared_info
        return Kernel(memory, NoNamelist(), Root(root, "shared_info")), vaddr, max_pfn
    if info.frame_list_mfn not in (0, INVALID_P2M_ENTRY):
        for words in _fixmap_pages(memory, info):
            root, vaddr = words[P2M_CR3], words[P2M_VADDR]
            if words[FRAME_LIST_LIST] == info.frame_list_mfn and root and vaddr % PAGE_SIZE == 0:
                kernel = Kernel(memory, NoNamelist(), Root(root, "shared_info"))
                return kernel, vaddr, words[MAX_PFN]
    raise P2mError("the kernel tells Xen nothing of its p2m that could be found")


def _fixmap_pages(memory: MachineMemory, info: XenInfo) -> Iterator[array[int]]:
    """Yield each page of the fixmap by each cpu's page tables, as words."""
    for cr3 in dict.fromkeys([*(root.maddr for root in info.roots), *info.cr3s]):
        try:
            mapped = PageTables(memory, cr3).frames(FIXMAP, FIXMAP_PAGES)
        except ReadError:
            continue
        for mfn in mapped:
            if mfn != NOT_MAPPED:
                try:
                    yield read_words(memory, mfn, "fixmap page")
                except ReadError:
                    continue


def read_linear_table(kernel: Kernel, vaddr: int, max_pfn: int) -> P2mTable:
    """Return the p2m that is mapped from ``vaddr`` on.

    Where it ends nothing tells, and other things of the kernel's are mapped right
    behind it: its last leaf is the last that the direct map confirms, and ``max_pfn``
    is right if it ends in that one.  Pages that stand in it more than once are the
    kernel's shared ones.

    :raises P2mError: no p2m is mapped there, or its page tables cannot be read.
    """
    leaves = array("Q")
    while len(leaves) * PFNS_PER_LEAF < MAX_PFNS and NOT_MAPPED not in leaves[-LEAVES_PER_MID:]:
        more = kernel.tables.frames(vaddr + len(leaves) * PAGE_SIZE, LEAVES_PER_MID)
        leaves.extend(more)
    shared = {mfn for mfn, times in Counter(leaves).items() if times > 1} | {NOT_MAPPED}
    direct_map = DirectMap(kernel)
    for index, mfn in reversed(list(own_leaves(leaves, shared))):
        try:
            leaf = kernel.memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, "p2m leaf")
        except ReadError:
            continue
        if direct_map.confirms(index, leaf):
            leaves = leaves[: index + 1]
            for page in shared:
                leaves = with_replaced(leaves, page, NOT_MAPPED)
            if not index * PFNS_PER_LEAF < max_pfn <= len(leaves) * PFNS_PER_LEAF:
                max_pfn = len(leaves) * PFNS_PER_LEAF
            return P2mTable("linear", max_pfn, leaves, NOT_MAPPED, None, frozenset(shared))
    raise P2mError(f"there is no p2m at {vaddr:x}, where the kernel tells Xen it is")
