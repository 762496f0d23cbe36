# SPDX-License-Identifier: GPL-3.0-or-later
"""The coverage of a kernel's memory by the dump's list, and the check of a p2m."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from ..errors import P2mError, ReadError
from ..linux.kernel import Kernel
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE, read_pages
from ..machine.paging import ADDRESS_MASK, NOT_MAPPED, PTE_LEVEL, Step
from ..progress import watched
from .entries import CODES, Kind, kind_codes, kind_of
from .framelist import FrameList
from .layouts import LEAVES_PER_MID, P2mTable
from .leaves import LEAF, PFNS_PER_LEAF, entry_at, read_leaf

GIB = 1 << 30  # bytes, of one PMD page
ALL_MEMORY = bytes([CODES[Kind.MEMORY]]) * PFNS_PER_LEAF  # codes
LEAF_SPAN = PFNS_PER_LEAF * PAGE_SIZE  # bytes of memory, 2 MiB

__all__ = ["Check", "Coverage", "DirectMap", "check_direct_map", "survey"]


@dataclass
class Coverage:
    """How far the dump's list covers a p2m.

    ``kinds`` has the number of pfns of each kind, ``covered`` that of covered ones.
    ``leaves`` is the number of leaves that hold memory, ``leaves_lost`` that of lost ones,
    whose pfns are in ``lost`` (first, last). ``kept`` has the indices of kept leaves, which
    the page tables have lost. ``unreadable`` has an error for each leaf that is not in the
    dump.
    """

    kinds: Counter[Kind] = field(default_factory=Counter)
    covered: int = 0
    leaves: int = 0
    leaves_lost: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)

    @property
    def memory(self) -> int:
        """The number of pfns that are memory."""
        return self.kinds[Kind.MEMORY]

    @property
    def complete(self) -> bool:
        """True if the list covers every pfn that is memory."""
        return self.covered == self.memory

    def lose(self, first: int, last: int) -> None:
        """Record that the leaf of pfns ``first`` to ``last`` is lost."""
        self.leaves_lost += 1
        if self.lost and self.lost[-1][1] == first - 1:
            first = self.lost.pop()[0]
        self.lost.append((first, last))


class DirectMap:
    """The kernel's direct map: a second, independent way from a pfn to its mfn.

    The mfn is in the page-table entry of ``page_offset + pfn * 4096``. A direct map that
    cannot be found confirms nothing.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._gib = -1  # the last that table() was asked for, and the entries of its PMD page
        self._entries: array[int] | None = None
        self._base: int | None
        try:
            self._base = kernel.page_offset()
        except P2mError:
            self._base = None

    def frames(self, pfn: int, count: int) -> array[int]:
        """Return the mfns of ``count`` pages from ``pfn`` on, ``NOT_MAPPED`` for those not mapped.

        If a table page cannot be read, none of them counts as mapped.
        """
        try:
            if self._base is not None:
                return self._kernel.tables.frames(self._base + pfn * PAGE_SIZE, count)
        except ReadError:
            pass
        return array("Q", [NOT_MAPPED]) * count

    def table(self, index: int) -> int | None:
        """Return the mfn of the page table whose 512 entries map the pfns of leaf ``index``.

        Return None if there is no such page: they are not mapped, or a large page maps them, or
        the tables above it cannot be read, or the map does not begin at the begin of a table.
        """
        if self._base is None or self._base % LEAF_SPAN:
            return None
        gib, offset = divmod(self._base + index * LEAF_SPAN, GIB)
        if gib != self._gib:
            self._gib = gib
            try:
                self._entries = self._kernel.tables.entries(gib * GIB, PTE_LEVEL - 1)
            except ReadError:
                self._entries = None
        step = Step(PTE_LEVEL - 1, 0, self._entries[offset // LEAF_SPAN] if self._entries else 0)
        if not step.present or step.is_page:
            return None
        return (step.entry & ADDRESS_MASK) >> PAGE_SHIFT

    def confirms(self, index: int, leaf: bytes) -> bool | None:
        """Return True if the direct map has the first memory entry of leaf ``index``, else False.

        Return None if there is nothing to compare: the leaf holds no memory, or the direct
        map leaves the page out, as it does for one given back to Xen.
        """
        offset = kind_codes(leaf).find(CODES[Kind.MEMORY])
        if offset < 0 or self._base is None:
            return None
        pfn = index * PFNS_PER_LEAF + offset
        try:
            mapped = self._kernel.mfn_at(self._base + pfn * PAGE_SIZE, "direct map")
        except ReadError:
            return None
        return mapped == entry_at(leaf, offset)


def survey(kernel: Kernel, table: P2mTable, published: FrameList) -> tuple[P2mTable, Coverage]:
    """Return a p2m with its damaged leaves replaced, and its coverage by the dump's list.

    A leaf is lost if the list names none for its pfns, or one that has other entries for
    those of them that are memory.

    Page tables can be damaged as well as a list. If they lead to no leaf, to one that
    cannot be read, or to one that the direct map contradicts, the list's leaf is kept,
    provided that the direct map confirms it. A leaf that neither has becomes missing.

    Leaves that are shared pages in both cost next to nothing.
    """
    result = Coverage()
    direct_map = DirectMap(kernel)
    settled = array("Q", table.leaves)
    identity = _shared_identity(table)
    shared = table.shared_pages
    counts = [0] * len(CODES)  # by code
    indices = array("Q", _own_in_either(table, published))
    own = (mfn for mfn in map(table.leaves.__getitem__, indices) if mfn not in shared)
    pages = read_pages(kernel.memory, own, LEAF)
    for index in watched(indices, len(indices), "comparing the list with the page tables"):
        mfn = table.leaves[index]
        first = index * PFNS_PER_LEAF
        pfns = min(PFNS_PER_LEAF, table.max_pfn - first)
        listed = published.leaf(index)
        leaf = None
        if mfn not in shared:
            page = next(pages)
            if isinstance(page, ReadError):
                result.unreadable.append(str(page))
                settled[index] = table.missing_mfn
            else:
                leaf = page
        other = None
        if listed is not None and listed != mfn and listed not in shared:
            try:
                other = read_leaf(kernel.memory, listed)
            except ReadError:
                listed = None
        if (
            other is not None
            and (leaf is None or direct_map.confirms(index, leaf) is False)
            and direct_map.confirms(index, other)
        ):
            leaf, settled[index] = other, listed or 0
            result.kept.add(index)
            if mfn == table.identity_mfn:
                identity -= pfns
        if leaf is None:
            continue
        leaf = leaf[: pfns * 8]
        if table.may_be_shared(leaf):
            counts[CODES[Kind.EITHER]] += pfns
            continue
        _add(result, counts, first, leaf, leaf if listed == settled[index] else other)
    result.kinds.update({kind: counts[code] for kind, code in CODES.items()})
    result.kinds[Kind.IDENTITY] += identity
    result.kinds[table.kind_of_missing] += table.max_pfn - sum(result.kinds.values())
    return replace(table, leaves=settled), result


def _add(
    result: Coverage, counts: list[int], first: int, leaf: bytes, listed: bytes | None
) -> None:
    """Add the leaf of the pfns from ``first`` on, and what the list has for it.

    :param counts: the number of pfns of each kind, by code.
    """
    codes = kind_codes(leaf)
    pfns = memory = len(codes)
    if codes != ALL_MEMORY[:pfns]:
        memory = codes.count(CODES[Kind.MEMORY])
        for code in range(CODES[Kind.MEMORY] + 1, len(counts)):
            counts[code] += codes.count(code)
    counts[CODES[Kind.MEMORY]] += memory
    found = 0
    if listed is not None:
        found = memory if listed is leaf else _same_memory(leaf, listed)
    result.leaves += bool(memory)
    result.covered += found
    if found < memory:
        result.lose(first, first + pfns - 1)


def _own_in_either(table: P2mTable, published: FrameList) -> Iterator[int]:
    """Yield, in order, the index of each leaf that is a shared page in at most one of them."""
    shared, unnamed = table.shared_pages, {0, *table.shared_pages}
    passed = None
    for start in range(0, len(table.leaves), LEAVES_PER_MID):
        ours = table.leaves[start : start + LEAVES_PER_MID]
        theirs = published.leaves[start : start + len(ours)]
        both = ours.tobytes(), theirs.tobytes()
        if both == passed:
            continue
        own = {i for i, mfn in enumerate(ours, start) if mfn not in shared}
        if theirs != ours:
            own.update(i for i, mfn in enumerate(theirs, start) if mfn not in unnamed)
        if not own:
            passed = both
        yield from sorted(own)


def _shared_identity(table: P2mTable) -> int:
    """Return the number of pfns whose leaf is the shared identity page."""
    if table.identity_mfn is None:
        return 0
    pfns = table.leaves.count(table.identity_mfn) * PFNS_PER_LEAF
    if table.leaves[-1] == table.identity_mfn:
        pfns -= len(table.leaves) * PFNS_PER_LEAF - table.max_pfn
    return pfns


def _same_memory(leaf: bytes, other: bytes) -> int:
    """Return the number of memory entries of ``leaf`` that ``other`` has too."""
    return sum(
        leaf[at : at + 8] == other[at : at + 8] and kind_of(entry_at(leaf, at // 8)) is Kind.MEMORY
        for at in range(0, len(leaf), 8)
    )


@dataclass
class Check:
    """The number of sampled pfns on which the direct map and the p2m agree, or disagree."""

    agree: int = 0
    disagree: int = 0

    @property
    def asked(self) -> int:
        """The number of pfns that were compared."""
        return self.agree + self.disagree

    @property
    def passed(self) -> bool:
        """True if some pfns agree, and at most one in a hundred disagrees."""
        return bool(self.agree) and self.disagree * 99 <= self.agree


def check_direct_map(kernel: Kernel, table: P2mTable, samples: int = 512) -> Check:
    """Compare the p2m with the kernel's direct map for up to ``samples`` pfns.

    One pfn of a leaf is compared, in leaves spread evenly over the memory.

    :raises ReadError: a leaf cannot be read; :func:`survey` replaces such leaves.
    """
    result = Check()
    direct_map = DirectMap(kernel)
    own = sum(1 for _ in table.own_leaves())
    for index, mfn in islice(table.own_leaves(), 0, None, max(1, -(-own // samples))):
        agree = direct_map.confirms(index, read_leaf(kernel.memory, mfn))
        result.agree += agree is True
        result.disagree += agree is False
    return result
