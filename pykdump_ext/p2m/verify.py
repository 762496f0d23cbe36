# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of a p2m with the kernel's direct map and Xen's m2p, page by page.

For a pfn that is memory, the p2m's entry must be the mfn that the direct map has for the
pfn, and the m2p must have the pfn for that mfn.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from ..errors import P2mError, ReadError
from ..linux.kernel import Kernel
from ..machine.memory import PAGE_SIZE, WORDS_PER_PAGE, read_words
from ..machine.paging import NOT_MAPPED
from .coverage import DirectMap
from .diagnosis import Diagnosis
from .entries import CODES, Kind, kind_codes
from .leaves import pfns_of_leaf, read_leaf

__all__ = [
    "DIRECT_MAP",
    "M2P",
    "MACH2PHYS_VIRT_START",
    "Disagreement",
    "Verification",
    "sample",
    "verify",
]

# Where every 64-bit PV domain sees the m2p, one unsigned long for each mfn:
# __MACH2PHYS_VIRT_START of xen/include/public/arch-x86/xen-x86_64.h
MACH2PHYS_VIRT_START = 0xFFFF800000000000
M2P_PAGES_KEPT = 4096

DIRECT_MAP = "direct map"
M2P = "machine-to-phys table"

Leaf = tuple[int, int]  # index and mfn
Leaves = Sequence[Leaf]


@dataclass
class Tally:
    """The number of pages on which a table agrees, on which it differs, and that it lacks."""

    agree: int = 0
    differ: int = 0
    absent: int = 0


@dataclass(frozen=True)
class Disagreement:
    """Pfns ``first`` to ``last``, both included, on which ``table`` contradicts the p2m.

    ``p2m`` is the mfn that the p2m has for the first of them. ``other`` is the mfn that the
    direct map has for it, or the pfn that the m2p has for the mfn.
    """

    table: str
    first: int
    last: int
    p2m: int
    other: int


@dataclass
class Verification:
    """The result of comparing ``looked_at`` of ``leaves`` leaves, which hold ``pages`` pages."""

    leaves: int
    looked_at: int
    pages: int = 0
    direct_map: Tally = field(default_factory=Tally)
    m2p: Tally = field(default_factory=Tally)
    disagreements: list[Disagreement] = field(default_factory=list)


class MachineToPhys:
    """Xen's m2p, read through the kernel's page tables."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        try:
            self._base = kernel.value("machine_to_phys_mapping")
        except P2mError:  # XenLinux has no such variable
            self._base = MACH2PHYS_VIRT_START
        self._pages: dict[int, array[int] | None] = {}

    def pfn(self, mfn: int) -> int | None:
        """Return the pfn of ``mfn``, or None if this part of the m2p is not in the dump."""
        number = mfn // WORDS_PER_PAGE
        if number not in self._pages:
            if len(self._pages) >= M2P_PAGES_KEPT:
                self._pages.clear()
            self._pages[number] = self._read(self._base + number * PAGE_SIZE)
        page = self._pages[number]
        return None if page is None else page[mfn % WORDS_PER_PAGE]

    def _read(self, vaddr: int) -> array[int] | None:
        try:
            mfn = self._kernel.mfn_at(vaddr, M2P)
            return read_words(self._kernel.memory, mfn, M2P)
        except ReadError:
            return None


def sample(found: Diagnosis, most: int) -> Leaves:
    """Return index and mfn of at most ``most`` leaves, spread evenly over the memory."""
    leaves = list(found.table.own_leaves())
    return leaves[:: max(1, -(-len(leaves) // most))]


def verify(
    found: Diagnosis,
    leaves: Leaves,
    watch: Callable[[Leaves], Iterable[Leaf]] = iter,
) -> Verification:
    """Compare the three tables for every pfn that is memory in these leaves.

    :param leaves: the leaves to compare, in order; see :func:`sample`.
    :param watch: a function that yields the leaves one by one, and may show progress.
    :raises ReadError: a leaf cannot be read.
    """
    result = Verification(sum(1 for _ in found.table.own_leaves()), len(leaves))
    direct_map = DirectMap(found.kernel)
    m2p = MachineToPhys(found.kernel)
    for index, mfn in watch(leaves):
        pfns = pfns_of_leaf(index, found.table.max_pfn)
        leaf = read_leaf(found.kernel.memory, mfn, len(pfns))
        entries = array("Q", leaf)
        codes = kind_codes(leaf)
        result.pages += codes.count(CODES[Kind.MEMORY])
        mapped = direct_map.frames(pfns.start, len(pfns))
        for offset, code in enumerate(codes):
            if code != CODES[Kind.MEMORY]:
                continue
            entry, pfn = entries[offset], pfns[offset]
            other = mapped[offset]
            if other == entry:
                result.direct_map.agree += 1
            elif other == NOT_MAPPED:
                result.direct_map.absent += 1
            else:
                result.direct_map.differ += 1
                _add(result.disagreements, Disagreement(DIRECT_MAP, pfn, pfn, entry, other))
            back = m2p.pfn(entry)
            if back == pfn:
                result.m2p.agree += 1
            elif back is None:
                result.m2p.absent += 1
            else:
                result.m2p.differ += 1
                _add(result.disagreements, Disagreement(M2P, pfn, pfn, entry, back))
    return result


def _add(disagreements: list[Disagreement], one: Disagreement) -> None:
    """Add a disagreement; if it continues the range before it, extend that."""
    for at in range(-1, -min(2, len(disagreements)) - 1, -1):  # the last may be the other table's
        before = disagreements[at]
        if (before.table, before.last) == (one.table, one.first - 1):
            disagreements[at] = replace(before, last=one.last)
            return
    disagreements.append(one)
