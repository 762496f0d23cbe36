"""How much of a kernel's memory a published list covers, and whether a p2m is right."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import merge
from itertools import groupby

from ..errors import P2mError, ReadError
from ..linux.kernel import Kernel
from ..machine.memory import PAGE_SIZE
from ..machine.paging import NOT_MAPPED
from .entries import CODES, Kind, kind_codes, kind_of
from .framelist import FrameList
from .layouts import P2mTable, own_leaves
from .leaves import PFNS_PER_LEAF, entry_at, pfns_of_leaf, read_leaf

__all__ = ["Check", "Coverage", "DirectMap", "check_direct_map", "survey"]


@dataclass
class Coverage:
    """A p2m against a published list.

    ``kinds`` and ``covered`` count pfns.  ``leaves`` is how many leaves hold
    memory, ``lost`` the ranges of pfns (first, last) of those that the list
    does not lead to.  ``kept`` has the indices of the leaves that only the list still
    has, the page tables being damaged; ``unreadable`` has an error for each leaf that is
    not in the dump.
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
        """How many pfns are memory."""
        return self.kinds[Kind.MEMORY]

    @property
    def complete(self) -> bool:
        """True when the list finds every pfn that is memory."""
        return self.covered == self.memory

    def lose(self, first: int, last: int) -> None:
        """Note that the leaf of these pfns is lost."""
        self.leaves_lost += 1
        if self.lost and self.lost[-1][1] == first - 1:
            first = self.lost.pop()[0]
        self.lost.append((first, last))


class DirectMap:
    """The kernel's direct map: a second, independent way from a pfn to its mfn.

    It is the page-table entry of ``page_offset + pfn * 4096``.  A kernel whose
    direct map cannot be found confirms nothing.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._base: int | None
        try:
            self._base = kernel.page_offset()
        except P2mError:
            self._base = None

    def frames(self, pfn: int, count: int) -> array[int]:
        """Return the mfns of ``count`` pages from ``pfn`` on; ``NOT_MAPPED`` where it has none.

        Nothing of it is mapped where a table page cannot be read.
        """
        try:
            if self._base is not None:
                return self._kernel.tables.frames(self._base + pfn * PAGE_SIZE, count)
        except ReadError:
            pass
        return array("Q", [NOT_MAPPED]) * count

    def confirms(self, index: int, leaf: bytes) -> bool | None:
        """Compare one memory entry of ``leaf`` as the one of pfns ``index * 512`` and on.

        None where there is nothing to compare: no memory in this leaf, or a
        page given back to Xen, which the direct map leaves out.
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
    """Look at every leaf of a p2m, and how far a published list leads to it.

    A leaf is lost when the list names none for its pfns, or one that has other
    entries for those of them that are memory.

    Page tables can be damaged as well as a list.  Where they lead to no leaf,
    to one that cannot be read or that the direct map contradicts, the list's
    leaf is kept, provided that the direct map confirms it; and a leaf that is
    nowhere becomes missing.  Return the p2m so settled, and its coverage.

    Leaves that are shared pages in both cost next to nothing.
    """
    result = Coverage()
    direct_map = DirectMap(kernel)
    settled = array("Q", table.leaves)
    identity = _shared_identity(table)
    for index in _own_in_either(table, published):
        mfn = table.leaves[index]
        pfns = pfns_of_leaf(index, table.max_pfn)
        listed = published.leaf(index)
        leaf = None
        if not table.shared(mfn):
            try:
                leaf = read_leaf(kernel.memory, mfn)
            except ReadError as error:
                result.unreadable.append(str(error))
                settled[index] = table.missing_mfn
        other = None
        if listed is not None and listed != mfn and not table.shared(listed):
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
                identity -= len(pfns)
        if leaf is None:
            continue
        leaf = leaf[: len(pfns) * 8]
        codes = kind_codes(leaf)
        for kind, code in CODES.items():
            result.kinds[kind] += codes.count(code)
        memory = codes.count(CODES[Kind.MEMORY])
        if listed == settled[index]:
            found = memory
        else:
            found = 0 if other is None else _same_memory(leaf, other)
        result.leaves += bool(memory)
        result.covered += found
        if found < memory:
            result.lose(pfns[0], pfns[-1])
    result.kinds[Kind.IDENTITY] += identity
    result.kinds[Kind.MISSING] += table.max_pfn - sum(result.kinds.values())
    return replace(table, leaves=settled), result


def _own_in_either(table: P2mTable, published: FrameList) -> Iterator[int]:
    """Yield the index of each leaf that is not a shared page in both, in order."""
    listed = own_leaves(published.leaves[: len(table.leaves)], {0, *table.shared_pages})
    indices = merge((i for i, _ in table.own_leaves()), (i for i, _ in listed))
    return (index for index, _ in groupby(indices))


def _shared_identity(table: P2mTable) -> int:
    """Return how many pfns are in leaves that are the shared identity page."""
    if table.identity_mfn is None:
        return 0
    pfns = table.leaves.count(table.identity_mfn) * PFNS_PER_LEAF
    if table.leaves[-1] == table.identity_mfn:
        pfns -= len(table.leaves) * PFNS_PER_LEAF - table.max_pfn
    return pfns


def _same_memory(leaf: bytes, other: bytes) -> int:
    """Return how many memory entries of ``leaf`` stand in ``other`` as well."""
    return sum(
        leaf[at : at + 8] == other[at : at + 8] and kind_of(entry_at(leaf, at // 8)) is Kind.MEMORY
        for at in range(0, len(leaf), 8)
    )


@dataclass
class Check:
    """How many sampled pfns the direct map and the p2m agree on, and on how many not."""

    agree: int = 0
    disagree: int = 0

    @property
    def asked(self) -> int:
        """How many pfns were compared."""
        return self.agree + self.disagree

    @property
    def passed(self) -> bool:
        """True when something agreed, and no more than one in a hundred did not."""
        return bool(self.agree) and self.disagree * 99 <= self.agree


def check_direct_map(kernel: Kernel, table: P2mTable, samples: int = 512) -> Check:
    """Compare the p2m with the kernel's direct map for up to ``samples`` pfns.

    One pfn of a leaf is looked at, in leaves spread evenly over the memory.

    :raises ReadError: a leaf cannot be read; none is left after :func:`survey`.
    """
    result = Check()
    direct_map = DirectMap(kernel)
    full = list(table.own_leaves())
    for index, mfn in full[:: max(1, -(-len(full) // samples))]:
        agree = direct_map.confirms(index, read_leaf(kernel.memory, mfn))
        result.agree += agree is True
        result.disagree += agree is False
    return result
