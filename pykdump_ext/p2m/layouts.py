# SPDX-License-Identifier: GPL-3.0-or-later
"""The layouts in which PV kernels keep their p2m, and a function for each that reads it.

A layout's function takes a :class:`~pykdump_ext.linux.kernel.Kernel` and returns the mfn of
every leaf: the page with the entries of 512 consecutive pfns. Everything is read through
the kernel's page tables.

Sources: ``arch/x86/xen/p2m.c`` of the kernel versions named; for XenLinux
``arch/x86/mm/init_64-xen.c`` and ``include/asm-x86_64/maddr.h``.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from functools import cached_property

from ..errors import P2mError
from ..linux.kernel import Kernel, Symbols
from ..machine.memory import WORDS_PER_PAGE
from ..machine.paging import NOT_MAPPED
from .entries import Kind
from .leaves import leaf_count

__all__ = [
    "LAYOUTS",
    "LEAVES_PER_MID",
    "MAX_PFNS",
    "Layout",
    "P2mTable",
    "find_layout",
    "own_leaves",
    "read_table",
    "with_replaced",
]

LEAVES_PER_MID = WORDS_PER_PAGE
MAX_PFNS = 1 << 34  # 64 TiB: MAX_PHYSMEM_BITS is 46, arch/x86/include/asm/sparsemem.h
# 512 GiB: 512 * 512 leaves of 512 pfns, which is what three levels of pages can hold. Two levels
# are an array of a configured size, but their list is one of 512 pages as well.
MAX_PFNS_OF_LEVELS = 1 << 27


@dataclass(frozen=True)
class P2mTable:
    """A kernel's whole p2m, leaf by leaf.

    ``leaves[i]`` is the mfn of the leaf of the 512 pfns from ``i * 512`` on.
    ``missing_mfn`` is the shared page for missing leaves, or ``NOT_MAPPED`` if the kernel
    has none. ``identity_mfn`` is the shared page for identity leaves; its content does not
    count. ``also_shared`` are shared pages whose role (missing or identity) is unknown;
    without a namelist ``roles_known`` is False, and nothing tells the roles.
    """

    layout: str
    max_pfn: int
    leaves: array[int]
    missing_mfn: int
    identity_mfn: int | None
    also_shared: frozenset[int] = frozenset()
    roles_known: bool = True

    @cached_property
    def shared_pages(self) -> frozenset[int | None]:
        """The mfns of all shared pages, which hold no memory, and ``NOT_MAPPED``."""
        return frozenset({self.missing_mfn, self.identity_mfn, NOT_MAPPED, *self.also_shared})

    @property
    def kind_of_missing(self) -> Kind:
        """The kind of the pfns of a missing leaf: ``EITHER`` where no role is known."""
        return Kind.MISSING if self.roles_known else Kind.EITHER

    def may_be_shared(self, leaf: bytes) -> bool:
        """Return True if a leaf may be a shared page of unknown role: all its entries are missing.

        Both shared pages have such entries, and a shared page may stand for one leaf only.
        """
        return not self.roles_known and not leaf.strip(b"\xff")

    def shared(self, leaf_mfn: int) -> bool:
        """Return True if the leaf is a shared page, which holds no memory."""
        return leaf_mfn in self.shared_pages

    def own_leaves(self) -> Iterator[tuple[int, int]]:
        """Yield index and mfn of every leaf that is not a shared page."""
        return own_leaves(self.leaves, self.shared_pages)

    def own_indices(self) -> array[int]:
        """Return the index of every leaf that is not a shared page."""
        return array("Q", (index for index, _ in self.own_leaves()))


def own_leaves(leaves: array[int], shared: Container[int | None]) -> Iterator[tuple[int, int]]:
    """Yield index and mfn of every one of ``leaves`` that is not in ``shared``.

    A sparse p2m repeats itself: one page of page tables serves for each missing gigabyte of
    pfns. 512 leaves that repeat cost one comparison.
    """
    passed = b""
    for start in range(0, len(leaves), LEAVES_PER_MID):
        group = leaves[start : start + LEAVES_PER_MID]
        content = group.tobytes()
        if content == passed:
            continue
        own = [(start + i, mfn) for i, mfn in enumerate(group) if mfn not in shared]
        if not own:
            passed = content
        yield from own


def with_replaced(leaves: array[int], old: int, new: int) -> array[int]:
    """Return ``leaves`` with ``new`` for each ``old``; as above, repeated leaves are cheap."""
    found = array("Q")
    before, after = b"", array("Q")
    for start in range(0, len(leaves), LEAVES_PER_MID):
        group = leaves[start : start + LEAVES_PER_MID]
        content = group.tobytes()
        if content != before:
            before = content
            after = array("Q", [new if m == old else m for m in group]) if old in group else group
        found.extend(after)
    return found


def _words(kernel: Kernel, vaddr: int, count: int, what: str) -> array[int]:
    return array("Q", kernel.read(vaddr, count * 8, what))


def _flat(kernel: Kernel, leaves: int) -> array[int]:
    """Return the leaves for XenLinux 2.6.18 and its successors: one virtual array."""
    return kernel.tables.frames(kernel.value("phys_to_machine_mapping"), leaves)


def _two_levels(kernel: Kernel, leaves: int) -> array[int]:
    """Return the leaves for Linux 2.6.27 to 2.6.36: ``p2m_top`` is an array of pointers to them."""
    pointers = _words(kernel, kernel.address("p2m_top"), leaves, "p2m_top")
    return _leaf_frames(kernel, pointers)


def _three_levels(kernel: Kernel, leaves: int) -> array[int]:
    """Return the leaves for Linux 2.6.37 to 3.18: ``p2m_top`` points to the top.

    The top has pointers to mids, and a mid has pointers to leaves.
    """
    mids = -(-leaves // LEAVES_PER_MID)
    decoded: dict[int, array[int]] = {}
    found = array("Q")
    for mid in _words(kernel, kernel.value("p2m_top"), mids, "p2m_top"):
        if mid not in decoded:
            pointers = _words(kernel, mid, LEAVES_PER_MID, "p2m mid page")
            decoded[mid] = _leaf_frames(kernel, pointers)
        found.extend(decoded[mid])
    return found[:leaves]


def _leaf_frames(kernel: Kernel, pointers: array[int]) -> array[int]:
    return array("Q", [kernel.mfn_at(vaddr, "p2m leaf") for vaddr in pointers])


def _linear(kernel: Kernel, leaves: int) -> array[int]:
    """Return the leaves for Linux 3.19 and newer: a sparse virtual array in vmalloc space."""
    return kernel.tables.frames(kernel.value("xen_p2m_addr"), leaves, large=False)


@dataclass(frozen=True)
class Layout:
    """A layout: the symbol that identifies it, and the function that reads its leaves."""

    name: str
    symbol: str
    leaves: Callable[[Kernel, int], array[int]]
    max_pfns: int = MAX_PFNS
    missing_is_array: bool = False


# The first layout whose symbol the kernel has is the kernel's, so the order matters.
LAYOUTS = (
    Layout("linear", "xen_p2m_addr", _linear),
    Layout("three-level", "p2m_mid_missing", _three_levels, MAX_PFNS_OF_LEVELS),
    Layout("two-level", "p2m_top", _two_levels, MAX_PFNS_OF_LEVELS, missing_is_array=True),
    Layout("flat", "phys_to_machine_mapping", _flat),
)


def find_layout(symbols: Symbols) -> Layout:
    """Return the layout that a kernel's symbols identify.

    :raises P2mError: no layout has one of these symbols: this is not a PV kernel.
    """
    for layout in LAYOUTS:
        if symbols.address(layout.symbol) is not None:
            return layout
    wanted = ", ".join(layout.symbol for layout in LAYOUTS)
    raise P2mError(f"the kernel has none of the symbols {wanted}; is it a Xen PV kernel?")


def read_max_pfn(kernel: Kernel, layout: Layout) -> int:
    """Return the number of pfns in the p2m: ``max_pfn``, or ``end_pfn`` before 2.6.27.

    :raises P2mError: the number cannot be read, or is too large for the layout.
    """
    name = "max_pfn" if kernel.symbols.address("max_pfn") is not None else "end_pfn"
    pfns = kernel.value(name)
    most = layout.max_pfns
    if kernel.symbols.address("xen_p2m_size") is not None:
        most = min(most, kernel.value("xen_p2m_size"))
    if not 0 < pfns <= most:
        raise P2mError(f"{name} is {pfns:x}, not 1 to {most:x}: the kernel's data is damaged")
    return pfns


def _shared_page(kernel: Kernel, name: str, is_array: bool) -> int | None:
    address = kernel.symbols.address(name)
    if address is None:
        return None
    return kernel.mfn_at(address if is_array else kernel.value(name), name)


def read_table(kernel: Kernel) -> P2mTable:
    """Return the kernel's p2m, whatever its layout, read through its page tables.

    :raises P2mError: the layout is unknown, or a part of the p2m cannot be read.
    """
    layout = find_layout(kernel.symbols)
    pfns = read_max_pfn(kernel, layout)
    leaves = layout.leaves(kernel, leaf_count(pfns))
    missing = _shared_page(kernel, "p2m_missing", layout.missing_is_array)
    identity = _shared_page(kernel, "p2m_identity", layout.missing_is_array)
    if missing is not None:
        leaves = with_replaced(leaves, NOT_MAPPED, missing)
    table = P2mTable(
        layout.name, pfns, leaves, NOT_MAPPED if missing is None else missing, identity
    )
    _check_repeats(table)
    return table


def _check_repeats(table: P2mTable) -> None:
    """Refuse a p2m whose own leaves are there again and again, 512 at a time.

    Page tables that lead in a circle make a p2m of terabytes, which takes hours to read.

    :raises P2mError: it is one.
    """
    seen = set()
    passed = b""
    for start in range(0, len(table.leaves), LEAVES_PER_MID):
        group = table.leaves[start : start + LEAVES_PER_MID]
        content = group.tobytes()
        if content == passed:
            continue
        if content in seen:
            raise P2mError(
                f"the p2m has the same leaves twice, at pfn {start * WORDS_PER_PAGE:x}:"
                " the kernel's page tables are damaged"
            )
        if table.shared_pages.issuperset(group):
            passed = content
        else:
            seen.add(content)
